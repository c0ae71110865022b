"""What an operator wants first: what burns, what waits, what is stuck; on the page and in a terminal."""

import io
from datetime import timedelta

import pytest
from django.core.management import call_command

from apps.core.clock import database_now
from apps.monitoring import situation
from apps.monitoring.alerts.texts import fingerprint
from apps.monitoring.models import Notice, Silence
from apps.workflows.models import Execution, Figure, Performer
from apps.workflows.services import executions
from tests.integration.conftest import noop

pytestmark = pytest.mark.django_db


def said():
    out = io.StringIO()
    try:
        call_command("status", stdout=out)
        status = 0
    except SystemExit as end:
        status = end.code
    return status, out.getvalue()


@pytest.fixture
def worker():
    now = database_now()
    Figure.objects.create(name="scheduler_tick", value=now.timestamp())
    return Performer.objects.create(name="w", kind="worker", slots=1, started_at=now, seen_at=now)


def burn(severity="critical"):
    now = database_now()
    return Notice.objects.create(
        fingerprint=severity, name="DiskLow", labels={"severity": severity}, annotations={"summary": "95% is in use"},
        value=0.95, starts_at=now, seen_at=now,
    )  # fmt: skip


def test_all_is_well(worker):
    assert situation.now().is_well
    status, text = said()
    assert status == 0, text
    assert text.splitlines()[:4] == ["burns: nothing", "waits: nothing", "stuck: nothing", "workers: 1 live, 0 lost"]


def test_what_burns_comes_first_and_the_worst_of_it(worker):
    burn("warning"), burn("critical")
    assert [one.severity for one in situation.now().burning] == ["critical", "warning"]
    status, text = said()
    assert status == 1
    assert text.startswith("burns: critical DiskLow: 95% is in use")


def test_what_waits_is_bad_only_without_workers(make_workflow, owner, worker):
    executions.start(make_workflow([noop("a")]), by=owner)
    found = situation.now()
    assert ([(one.queue, one.depth) for one in found.waiting], found.is_well) == ([("default", 1)], True)
    worker.delete()
    assert not situation.now().is_well


def test_what_is_stuck_is_named(make_workflow, owner, worker):
    execution = executions.start(make_workflow([noop("a")]), by=owner)
    Execution.objects.update(status="in_progress", updated_at=database_now() - timedelta(minutes=20))
    assert [one.execution_id for one in situation.now().stuck] == [str(execution.pk)]
    status, text = said()
    assert (status, f"stuck: {execution.pk} of {execution.workflow.slug}" in text) == (1, True)


def test_an_alertmanager_that_does_not_answer_is_told(worker, settings):
    settings.ENV = settings.ENV.model_copy(update={"ALERTMANAGER_URL": "http://127.0.0.1:9"})
    status, text = said()
    assert status == 1
    assert "alerts: the Alertmanager does not answer: no connection" in text


def test_what_is_silenced_does_not_burn(worker):
    burn("warning"), burn("critical")
    now = database_now()
    matchers = [{"name": "severity", "value": "critical", "is_regex": False, "is_equal": True}]
    Silence.objects.create(matchers=matchers, comment="c", starts_at=now, ends_at=now + timedelta(hours=1))
    assert [one.severity for one in situation.now().burning] == ["warning"]


def theirs(name, state, **labels):
    return {"labels": {"alertname": name, "platform_url": "http://p", **labels}, "status": {"state": state},
            "annotations": {"summary": "theirs"}}  # fmt: skip


@pytest.mark.parametrize(
    ("prometheus", "names"), [("", ["DiskLow", "Elsewhere", "Mine"]), ("http://p", ["DiskLow", "Elsewhere"])]
)
def test_what_the_alertmanager_says_counts(prometheus, names, worker, settings, monkeypatch):
    settings.ENV = settings.ENV.model_copy(update={"ALERTMANAGER_URL": "http://a", "PROMETHEUS_URL": prometheus})
    now = database_now()
    for name in ("DiskLow", "Quiet", "Mine"):
        labels = {"alertname": name, "severity": "critical"}
        Notice.objects.create(
            fingerprint=fingerprint(labels), name=name, labels=labels, annotations={"summary": "ours"}, value=1.0,
            starts_at=now, seen_at=now,
        )  # fmt: skip
    told = [theirs("DiskLow", "active", severity="critical"), theirs("Quiet", "suppressed", severity="critical"),
            theirs("Elsewhere", "active", severity="page"), theirs("Watchdog", "active", severity="none")]  # fmt: skip
    monkeypatch.setattr(situation.upstream, "alerts", lambda: told)
    burning = {one.name: one.summary for one in situation.now().burning}
    assert sorted(burning) == names
    assert burning["DiskLow"] == "theirs"


def test_the_page_shows_it_to_those_who_may_monitor(reader, outsider, worker):
    burn()
    assert b"What needs somebody" in reader.get("/ui/").content
    assert b"What needs somebody" not in outsider.get("/ui/").content
