"""What the engine itself sees to, on a real database: timers, signals, limits on time, pause."""

from datetime import timedelta

import pytest

from apps.core.clock import database_now
from apps.core.errors import Conflict
from apps.workflows.engine.types import Reject
from apps.workflows.models import Event, Task
from apps.workflows.selectors.invariants import verdict
from apps.workflows.services import executions, leases
from apps.workflows.services.ledger import turn
from tests.integration.conftest import noop
from tests.integration.workflows.driver import check_rows, claim, done, drive, journal, statuses

pytestmark = pytest.mark.django_db


def later(seconds):
    return leases.wake(database_now() + timedelta(seconds=seconds))


def good(execution, status="completed"):
    check_rows(execution)
    assert execution.status == status
    assert not verdict().violations


def run(make_workflow, owner, *steps, **values):
    return executions.start(make_workflow(list(steps), **values), by=owner)


def hurry(execution, step):
    """Have what is due for a task be due now: the database's clock cannot be moved."""
    Task.objects.filter(execution=execution, step_id=step).update(due_at=database_now() - timedelta(seconds=1))
    return leases.wake(database_now())


def test_a_wait_for_a_time(make_workflow, owner):
    execution = run(make_workflow, owner, {"id": "rest", "wait": {"seconds": 3600}}, noop("b", "rest"))
    task = Task.objects.get(execution=execution, step_id="rest")
    assert (task.status, task.waiting_for) == ("waiting", "timer")
    assert not claim()
    assert leases.wake(database_now()) == 0
    assert leases.next_moments()[1] == task.due_at
    assert hurry(execution, "rest") == 1
    drive()
    good(execution)


def test_a_signal_that_comes_and_one_that_came_before(make_workflow, owner):
    second = {"id": "second", "wait": {"signal": "go"}, "depends_on": ["a"]}
    execution = run(make_workflow, owner, {"id": "first", "wait": {"signal": "go"}}, noop("a", "first"), second)
    executions.signal(execution, "go", {"who": "me"}, by=owner)
    executions.signal(execution, "go", {"who": "other"}, by=owner)
    drive()
    good(execution)
    outputs = Task.objects.filter(execution=execution).exclude(step_id="a").values_list("outputs", flat=True)
    assert list(outputs) == [{"who": "me"}, {"who": "me"}]
    with pytest.raises(Conflict, match="completed"):
        executions.signal(execution, "go", {}, by=owner)


def test_a_signal_that_does_not_come_in_time(make_workflow, owner):
    execution = run(make_workflow, owner, {"id": "first", "wait": {"signal": "go"}, "timeout_seconds": 60})
    hurry(execution, "first")
    good(execution, "failed")
    assert statuses(execution) == {"first": "timed_out"}


def test_a_task_that_nobody_takes(make_workflow, owner):
    execution = run(make_workflow, owner, noop("a", queue="nobody", queue_timeout_seconds=60))
    hurry(execution, "a")
    good(execution, "failed")
    assert execution.error["message"] == "nobody took it for 60 s"


def test_a_task_whose_attempts_together_take_too_long_loses_its_lease(make_workflow, owner):
    execution = run(make_workflow, owner, noop("a", total_timeout_seconds=60, retries=5))
    task = claim()["a"]
    Task.objects.filter(execution=execution).update(expires_at=database_now() - timedelta(seconds=1))
    hurry(execution, "a")
    good(execution, "failed")
    assert statuses(execution) == {"a": "timed_out"}
    answer = leases.beat(owner="w1", kind="worker", slots=1, held=[(task.task_id, task.fence)], lease_seconds=30)
    assert answer.lost == (task.task_id,)
    (late,) = turn([done(task)]).answers
    assert isinstance(late, Reject) or late.reason


def test_the_whole_takes_too_long_while_it_waits(make_workflow, owner):
    execution = run(make_workflow, owner, {"id": "w", "wait": {"signal": "go"}}, timeout_seconds=60)
    execution.deadline_at = database_now() - timedelta(seconds=1)
    execution.save(update_fields=["deadline_at"])
    leases.reap()
    good(execution, "timed_out")


def test_pause_lets_run_what_runs_and_starts_nothing(make_workflow, owner):
    execution = run(make_workflow, owner, noop("a"), noop("b", "a"))
    running = claim()["a"]
    executions.pause(execution, by=owner)
    executions.pause(execution, by=owner)
    assert execution.status == "paused"
    turn([done(running)])
    assert not claim()
    assert not verdict().violations
    executions.resume(execution, by=owner)
    with pytest.raises(Conflict) as refused:
        executions.resume(execution, by=owner)
    assert refused.value.code == "invalid_transition"
    drive()
    good(execution)
    assert [line for line in journal(execution) if isinstance(line, str)] == [
        "execution.created", "execution.started", "execution.paused", "execution.resumed", "execution.completed",
    ]  # fmt: skip


def test_a_paused_execution_can_be_cancelled(make_workflow, owner):
    execution = run(make_workflow, owner, noop("a"))
    executions.pause(execution, by=owner)
    executions.cancel(execution, by=owner)
    good(execution, "cancelled")
    with pytest.raises(Conflict):
        executions.pause(execution, by=owner)


def test_who_cancels_is_told(make_workflow, owner):
    execution = run(make_workflow, owner, noop("a"))
    executions.cancel(execution, by=owner)
    asked = Event.objects.get(execution=execution, type="execution.cancel_requested")
    assert asked.data["by"] == owner.username
