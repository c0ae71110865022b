"""A row that cannot be read stands still by itself: no claim, timer, lease or sweep of others stops at it (I10)."""

from datetime import timedelta

import pytest

from apps.core.clock import database_now
from apps.workers.ledger import POLL_SECONDS, Ledger, Settings
from apps.workflows.models import Execution, Task, WorkflowVersion
from apps.workflows.selectors import graphs
from apps.workflows.selectors.invariants import verdict
from apps.workflows.services import executions, leases
from apps.workflows.services.ledger.memory import memory
from tests.integration.conftest import noop
from tests.integration.workflows.driver import claim, done, statuses, turn

pytestmark = pytest.mark.django_db

STEPS = [noop("a"), {"id": "timer", "wait": {"seconds": 99}}, {"id": "sub", "workflow": {"id": "inner"}}]


@pytest.fixture
def poisoned(make_workflow, owner):
    """Two that are alike, the older of which cannot be read any more once `spoil` was called; and their performer."""
    make_workflow([{"id": "long", "wait": {"seconds": 900}}], name="Inner")
    bad, good = (
        executions.start(make_workflow(STEPS, name=name, timeout_seconds=5000), by=owner) for name in ("Bad", "Good")
    )
    yield bad, good
    graphs._unreadable.clear()
    graphs.graph_of.cache_clear()


def spoil(execution):
    memory.forget()
    graphs.graph_of.cache_clear()
    WorkflowVersion.objects.filter(pk=execution.version_id).update(definition={"steps": [{"id": 3}]})


def past():
    return database_now() - timedelta(seconds=60)


@pytest.mark.parametrize("known", [False, True], ids=["met for the first time", "known"])
def test_what_stands_behind_it_in_line_is_claimed(poisoned, known):
    bad, good = poisoned
    spoil(bad)
    if known:
        assert not graphs.readable(bad.version_id)
    assert [task.execution_id for task in claim().values()] == [good.pk]
    assert not claim(), "and it can be asked for again and again"
    assert statuses(bad)["a"] == "pending"


def test_leases_timers_and_time_limits_of_others_are_seen_to(poisoned):
    bad, good = poisoned
    claim(owner="dead")
    Task.objects.filter(lease_owner="dead").update(lease_expires_at=past())
    Task.objects.filter(step_id="timer").update(due_at=past())
    spoil(bad)
    leases.reap()
    assert statuses(good) == {"a": "pending", "timer": "completed", "sub": "waiting"}
    Execution.objects.filter(pk__in=[bad.pk, good.pk]).update(deadline_at=past())
    leases.reap()
    assert statuses(good)["sub"] == "cancelled" or Execution.objects.get(pk=good.pk).cancel_requested_at
    assert statuses(bad) == {"a": "in_progress", "timer": "waiting", "sub": "waiting"}, "nobody guesses what it wants"


def test_a_performers_death_is_told_to_the_others(poisoned):
    bad, good = poisoned
    claim(owner="dead")
    spoil(bad)
    leases.leave("dead")
    assert statuses(good)["a"] == "pending"


def test_ends_are_told_to_parents_though_another_cannot_be(poisoned):
    bad, good = poisoned
    children = {one.parent_task.execution_id: one for one in Execution.objects.exclude(parent_task=None)}
    spoil(bad)
    # Both ended, and who ended them died before he told it.
    for child in children.values():
        Task.objects.filter(execution=child).update(status="cancelled", finished_at=past(), due_at=None, waiting_for="")
        Execution.objects.filter(pk=child.pk).update(status="cancelled", finished_at=past(), open_tasks=0)
    leases.reap()
    assert statuses(good)["sub"] == "failed"
    assert statuses(bad)["sub"] == "waiting"


def test_it_is_looked_at_once_a_poll_and_not_all_the_time(poisoned):
    bad, _ = poisoned
    Task.objects.filter(execution=bad, waiting_for="timer").update(due_at=past())
    spoil(bad)
    settings = Settings(name="w", slots=1, lease_seconds=30)
    ledger = Ledger(settings, on_claimed=lambda _: None, on_stop=lambda *_: None)
    before = ledger._wake_at
    ledger._act_on_timers()
    assert ledger._wake_at >= before + POLL_SECONDS


def test_code_that_can_read_it_goes_on_with_it(poisoned):
    bad, _ = poisoned
    spoil(bad)
    claim()
    assert "I10" in {one.invariant for one in verdict().violations if one.execution_id == str(bad.pk)}
    WorkflowVersion.objects.filter(pk=bad.version_id).update(definition={"name": "Bad", "steps": STEPS})
    graphs._unreadable.clear()  # another process
    (task,) = claim().values()
    assert task.execution_id == bad.pk
    turn([done(task)])
    assert statuses(bad)["a"] == "completed"
    assert not verdict().violations
