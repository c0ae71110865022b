"""`check_invariants` finds what does not hold, and nothing in what does."""

from datetime import timedelta

import pytest
from django.core.management import CommandError, call_command
from django.db.models import F

from apps.core.clock import database_now
from apps.workflows.models import Event, Execution, Task
from apps.workflows.selectors.invariants import verdict
from apps.workflows.services import executions, leases
from tests.integration.conftest import noop
from tests.integration.workflows.driver import claim, drive, failed, turn

pytestmark = pytest.mark.django_db


@pytest.fixture
def ran(make_workflow, owner):
    """An execution with a retry, a lost worker, a skip and a fan-in behind it."""
    steps = [noop("a", retries=1), noop("b", "a"), noop("c", "a", when="${false}"), noop("d", "b")]
    execution = executions.start(make_workflow(steps), by=owner)
    turn([failed(claim()["a"])])
    claim(owner="dead")
    leases.leave("dead")
    drive()
    execution.refresh_from_db()
    assert execution.status == "completed"
    return execution


def broken():
    return {violation.invariant for violation in verdict().violations}


def test_what_ran_and_what_runs_is_whole(ran, make_workflow, owner, capsys):
    executions.start(make_workflow([noop("a"), noop("b", "a")]), by=owner)
    claim()
    executions.cancel(executions.start(make_workflow([noop("a")]), by=owner), by=owner)
    assert verdict().violations == []
    call_command("check_invariants")
    assert "3 executions" in capsys.readouterr().out


def rewrite(kind, step, **data):
    """Damage: a line of the journal says something else."""
    return lambda e: Event.objects.filter(execution=e, type=kind, step_id=step).update(data=data)


@pytest.mark.parametrize(
    ("invariant", "damage"),
    [
        ("I6", lambda e: Event.objects.filter(execution=e, seq=4).delete()),
        ("I6", lambda e: Event.objects.filter(execution=e).delete()),
        ("I3", rewrite("task.started", "d", status="completed", attempt=1)),
        ("I4", rewrite("task.started", "d", status="in_progress", attempt=3)),
        ("I7", rewrite("task.completed", "a", status="completed", overall_percent=98)),
        ("I8", rewrite("task.completed", "a", status="in_progress")),
        ("I5", lambda e: Event.objects.filter(execution=e, type="task.started", step_id="d").update(step_id="a")),
        ("I6", lambda e: Task.objects.filter(execution=e, step_id="a").update(fence=9)),
        ("I6", lambda e: Task.objects.filter(execution=e, step_id="a").update(percent=7)),
        ("I6", lambda e: Execution.objects.filter(pk=e.pk).update(failed_tasks=1)),
        ("I6", rewrite("task.skipped", "c", status="cancelled")),
        ("I12", lambda e: Event.objects.filter(execution=e, seq=2).update(type="execution.cancel_requested")),
    ],
)
def test_damage_to_the_journal_is_found(ran, invariant, damage):
    damage(ran)
    assert invariant in broken()
    with pytest.raises(CommandError, match="violations"):
        call_command("check_invariants")


@pytest.mark.parametrize(
    "damage",
    [
        lambda e: Task.objects.filter(execution=e).update(ready_at=None),
        lambda e: Execution.objects.filter(pk=e.pk).update(ready_at=None),
        lambda e: Execution.objects.filter(pk=e.pk).update(open_tasks=1),
        lambda e: Task.objects.filter(execution=e, step_id="c").update(waiting_on=0),
        lambda e: Task.objects.filter(execution=e, step_id="c").update(waiting_on=2),
        lambda e: Task.objects.filter(execution=e, step_id="timer").update(due_at=None),
        lambda e: Task.objects.filter(execution=e, step_id="sub").update(waiting_for="execution", status="waiting"),
        lambda e: Execution.objects.filter(pk=e.pk).update(ready_at=F("updated_at") + timedelta(hours=1)),
    ],
)
def test_what_nobody_can_move_is_found(make_workflow, owner, damage):
    steps = [noop("a"), noop("b"), noop("c", "a"), {"id": "timer", "wait": {"seconds": 99}}]
    steps += [{"id": "sub", "approval": {}}]
    execution = executions.start(make_workflow(steps), by=owner)
    assert not broken()
    damage(execution)
    assert broken() == {"I2"}


def test_what_nobody_did_in_time_is_found_where_it_is_asked_for(make_workflow, owner):
    steps = [noop("a"), {"id": "timer", "wait": {"seconds": 99}}]
    execution = executions.start(make_workflow(steps), by=owner)
    claim(lease=60)
    assert not verdict(overdue=5).violations
    past = database_now() - timedelta(seconds=10)
    Task.objects.filter(step_id="a").update(lease_expires_at=past)
    Task.objects.filter(step_id="timer").update(due_at=past)
    found = verdict(overdue=5).violations
    assert [one.invariant for one in found] == ["I9", "I9"]
    assert {one.execution_id for one in found} == {str(execution.pk)}
    assert not verdict().violations, "it is not lost: a worker that comes will see to it"
    with pytest.raises(CommandError, match="2 violations"):
        call_command("check_invariants", overdue=5)
