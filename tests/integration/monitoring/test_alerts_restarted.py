"""A server process begins anew while alerts fire: they go on, and nobody hears of an end that is none."""

import time
from datetime import timedelta

import pytest

from apps.core.clock import database_now
from apps.monitoring import facts, situation
from apps.monitoring.alerts import notices, watching
from apps.monitoring.models import Notice
from apps.workflows.models import Figure, Performer, Task
from apps.workflows.services import counting

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _often(monkeypatch):
    monkeypatch.setattr(watching, "INTERVAL_SECONDS", 0.0)


def test_what_still_holds_fires_on_and_began_when_it_did(watch, backlog):
    (before,) = [one for one in watch.look() if one.alert.name == "NoWorkers"]
    notices.keep([before])
    (after,) = [one for one in watching.Watch().look() if one.alert.name == "NoWorkers"]
    assert after.fired_at is not None
    assert after.active_at == pytest.approx(before.active_at, abs=1)


def test_what_was_pending_begins_to_wait_anew(watch, backlog):
    assert [one.fired_at for one in watching.Watch().look() if one.alert.name == "NoWorkers"] == [None]


def lost(number):
    Figure.objects.update_or_create(name=counting.WORKERS_LOST, defaults={"value": number})
    facts.cache.forget()


def test_a_rise_within_a_window_outlives_the_process_that_saw_it():
    now = time.time()

    def looked(watch, at):
        found = [one for one in watch.look(at) if one.alert.name == "WorkerLost"]
        notices.keep(found)
        return [one.fired_at is not None for one in found]

    first = watching.Watch()
    lost(0)
    assert looked(first, now - 60) == []
    lost(1)
    assert looked(first, now - 45) == [True]
    second = watching.Watch()
    assert looked(second, now) == [True]  # it knows nothing of the time before, and says no end
    assert looked(second, now + 14 * 60) == [True]
    assert looked(second, now + 16 * 60) == []


def test_after_a_long_absence_an_alert_that_has_ended_ends_once(watch, backlog):
    watch.look()
    notices.keep(watch.look())
    Notice.objects.update(told="firing", seen_at=database_now() - timedelta(hours=1))
    now = database_now()
    Performer.objects.create(name="w", kind="worker", slots=1, started_at=now, seen_at=now)
    Task.objects.update(ready_at=None)
    facts.cache.forget()
    fresh, at = watching.Watch(), time.time()
    notices.keep(fresh.look(at))
    assert Notice.objects.get(name="NoWorkers").ends_at is None
    facts.cache.forget()
    assert "NoWorkers" not in {one.alert.name for one in fresh.look(at + 61)}


def test_an_alert_that_this_version_does_not_know_ends(watch):
    now = database_now()
    Notice.objects.create(
        fingerprint="x", name="Gone", labels={}, annotations={}, value=1.0, starts_at=now, seen_at=now, told="firing"
    )
    assert "Gone" not in {one.alert.name for one in watch.look()}


def test_with_a_prometheus_what_fires_is_noted_and_told_to_nobody(watch, backlog, settings, monkeypatch):
    settings.ENV = settings.ENV.model_copy(update={"PROMETHEUS_URL": "http://prometheus:9090"})
    monkeypatch.setattr(watching, "watch", watch)
    watching.once()
    assert "NoWorkers" in {one.name for one in situation.now().burning}
    assert set(Notice.objects.values_list("told", flat=True)) == {""}
    Notice.objects.update(seen_at=database_now() - timedelta(minutes=2))
    notices.keep([], tell=False)
    assert not Notice.objects.exists()
