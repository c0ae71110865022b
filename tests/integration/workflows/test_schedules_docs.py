"""The example in docs/schedules.md does what the page says."""

import json
import re
from datetime import UTC, datetime
from pathlib import Path

import pytest
from rest_framework.test import APIClient

from apps.workflows.models import Execution
from apps.workflows.services.schedules import fire_due
from tests.integration.workflows.driver import drive

pytestmark = pytest.mark.django_db

PAGE = (Path(__file__).resolve().parents[3] / "docs" / "schedules.md").read_text()


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


def set_clock(monkeypatch, moment):
    for place in ("services.schedules.firing", "services.schedules.saving", "services.schedules.filling"):
        monkeypatch.setattr(f"apps.workflows.{place}.database_now", lambda: moment)
    monkeypatch.setattr("apps.workflows.selectors.schedules.database_now", lambda: moment)


def test_the_example_runs(owner, monkeypatch):
    api = APIClient()
    api.force_authenticate(owner)
    (definition,) = blocks("yaml")
    schedule, asked, answer = blocks("json")
    assert api.post("/workflows", definition, content_type="application/yaml").status_code == 201
    set_clock(monkeypatch, datetime(2026, 4, 1, 12, 0, tzinfo=UTC))
    made = api.post("/schedules", schedule, content_type="application/json")
    assert made.status_code == 201, made.content
    assert len(made.json()["next_times"]) == 5

    filled = api.post(f"/schedules/{made.json()['id']}/backfill", asked, content_type="application/json").json()
    assert set(filled) == set(json.loads(answer))
    started = [one["scheduled_for"] for one in filled["started"]]
    assert started == ["2026-03-28T01:30:00Z", "2026-03-29T01:00:00Z", "2026-03-30T00:30:00Z"]
    assert json.loads(answer)["started"][0]["scheduled_for"] == started[0]

    set_clock(monkeypatch, datetime(2026, 4, 2, 0, 30, 1, tzinfo=UTC))
    assert fire_due() == datetime(2026, 4, 3, 0, 30, tzinfo=UTC)
    drive()
    days = Execution.objects.order_by("scheduled_for").values_list("inputs__day", "status")
    assert list(days) == [(f"2026-{day}", "completed") for day in ("03-28", "03-29", "03-30", "04-02")]
