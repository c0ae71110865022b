"""A37, A39: a database that is away or full is a 503 or 507 with Retry-After, and says nothing of itself."""

import uuid
from contextlib import nullcontext

import pytest
from django.db import InterfaceError, OperationalError

from apps.workers import ledger
from apps.workflows.engine.types import Completed
from apps.workflows.models import Execution
from apps.workflows.services import executions
from apps.workflows.services.ledger import Report, Turn
from tests.integration.conftest import noop

pytestmark = pytest.mark.django_db

AWAY = OperationalError('connection to server at "10.0.0.1", port 5432 failed: FATAL: the database is shutting down')
FULL = OperationalError("database or disk is full")


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (AWAY, 503, "database_unavailable"),
        (InterfaceError("connection already closed"), 503, "database_unavailable"),
        (FULL, 507, "storage_full"),
    ],
)
def test_a39_a_full_or_absent_database_is_told_as_such(
    make_workflow, owner, client_of, monkeypatch, error, status, code
):
    make_workflow([noop("a")], name="Report")
    client = client_of(owner)

    def fails(*_args, **_values):
        raise error

    with monkeypatch.context() as patched:
        patched.setattr(executions, "start", fails)
        answer = client.post("/workflows/report/execute", {}, format="json")
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert int(answer["Retry-After"]) > 0
    assert "10.0.0.1" not in answer.content.decode()
    assert not Execution.objects.exists()
    # The control: it recovers by itself.
    assert client.post("/workflows/report/execute", {}, format="json").status_code == 202


def test_a37_a_middleware_that_meets_it_answers_the_same(client, monkeypatch):
    def fails(*_args, **_values):
        raise AWAY

    client.raise_request_exception = False
    monkeypatch.setattr("apps.accounts.ratelimit.RateLimitMiddleware.__call__", fails)
    answer = client.get("/workflows")
    assert (answer.status_code, answer.json()["code"]) == (503, "database_unavailable")


@pytest.mark.parametrize("error", [AWAY, InterfaceError("bad parameter or other API misuse")])
def test_a37_what_a_worker_could_not_record_is_recorded_later(monkeypatch, error):
    failing, turns, ends = [error], [], []

    def turn(reports, _wanted):
        if failing:
            raise failing.pop()
        turns.append([report.task_id for report in reports])
        return Turn(answers=(None,) * len(reports))

    monkeypatch.setattr(ledger, "turn", turn)
    monkeypatch.setattr(ledger.sql, "in_line", nullcontext)  # the test's own transaction stands there
    monkeypatch.setattr(ledger.os, "_exit", lambda code: (ends.append(code), thread.end()))
    for name in ("leave", "reap", "give_back_unknown"):
        monkeypatch.setattr(ledger.leases, name, lambda *_: None)
    monkeypatch.setattr(ledger.leases, "next_moments", lambda: (None, None))
    monkeypatch.setattr(ledger.Ledger, "_beat", lambda _: None)
    settings = ledger.Settings(name="w", slots=1, lease_seconds=30.0)
    thread = ledger.Ledger(settings, on_claimed=lambda _: None, on_stop=lambda *_: None)
    report = Report(task_id=uuid.uuid4(), happening=Completed(step_id="s", fence=1, outputs={}))
    thread.report(report)
    thread.end()
    thread.start()
    thread.join(30)
    assert not thread.is_alive()
    assert (turns[0], ends) == ([report.task_id], [])
