"""`check_invariants` finds what does not hold, and nothing in what does."""

from datetime import timedelta

import pytest
from django.core.management import CommandError, call_command
from django.db.models import F

from apps.core.clock import database_now
from apps.workflows.models import Event, Execution, LogChunk, Task, WorkflowVersion
from apps.workflows.selectors.graphs import graph_of
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
        ("I8", rewrite("task.retrying", "a", status="in_progress", attempt=1)),
        ("I7", lambda e: Execution.objects.filter(pk=e.pk).update(failed_tasks=1)),
        ("I6", lambda e: Event.objects.filter(execution=e, seq=F("execution__seq")).update(data={"status": "failed"})),
        ("I10", rewrite("task.completed", "a", overall_percent="much")),
        ("I10", rewrite("task.completed", "a", attempt="first")),
        ("I10", lambda e: Event.objects.filter(execution=e, seq=4).update(data=[1])),
    ],
)
def test_damage_to_the_journal_is_found(ran, invariant, damage):
    damage(ran)
    assert invariant in broken()
    with pytest.raises(CommandError, match="violations"):
        call_command("check_invariants")


def lose_row(execution, step):
    """Damage that adds up: a task is gone, and nobody counts it."""
    Task.objects.filter(execution=execution, step_id=step).delete()
    Execution.objects.filter(pk=execution.pk).update(tasks_total=F("tasks_total") - 1, open_tasks=F("open_tasks") - 1)


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
        lambda e: Execution.objects.filter(pk=e.pk).update(rank=None),
        lambda e: Task.objects.filter(execution=e, step_id="a").update(lane="nowhere"),
        lambda e: Task.objects.filter(execution=e, step_id="sub").update(waiting_for="leave"),
        lambda e: Task.objects.filter(execution=e, step_id="sub").update(waiting_for="nobody knows"),
        lambda e: Execution.objects.filter(pk=e.pk).update(signals={"go": {}}),
        lambda e: lose_row(e, "b"),
    ],
)
def test_what_nobody_can_move_is_found(make_workflow, owner, damage):
    steps = [noop("a"), noop("b"), noop("c", "a"), {"id": "timer", "wait": {"seconds": 99}}]
    steps += [{"id": "sub", "approval": {}}, {"id": "go", "wait": {"signal": "go"}}]
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


def test_an_end_that_is_gone_is_found(ran):
    Event.objects.filter(execution=ran, seq=ran.seq).delete()
    Execution.objects.filter(pk=ran.pk).update(seq=F("seq") - 1, status="in_progress", finished_at=None, percent=99)
    assert broken() == {"I2"}


def unreadable(execution):
    graph_of.cache_clear()
    WorkflowVersion.objects.filter(pk=execution.version_id).update(definition={"steps": [{"id": 3}]})


def leave_early(execution):
    Task.objects.filter(execution=execution, step_id="b").update(ready_at=database_now())


@pytest.mark.parametrize(
    ("invariant", "damage"),
    [
        ("I2", lambda e: Task.objects.filter(lease_owner="w1").update(lease_expires_at=F("started_at") + timedelta(9))),
        ("I4", lambda e: log_of_attempt(e, 2)),
        ("I6", lambda e: Execution.objects.filter(pk=e.pk).update(percent=77)),
        ("I6", lambda e: Execution.objects.filter(pk=e.pk).update(status="waiting")),
        ("I8", leave_early),
        ("I10", unreadable),
        ("I12", lambda e: Execution.objects.filter(pk=e.pk).update(cancel_requested_at=database_now())),
    ],
)
def test_damage_to_what_runs_is_found(make_workflow, owner, invariant, damage):
    execution = executions.start(make_workflow([noop("a"), noop("b", "a"), noop("c")]), by=owner)
    other = executions.start(make_workflow([noop("a")], name="Other"), by=owner)
    claim(slots=1, lease=60)
    log_of_attempt(execution, 0)
    assert not broken()
    damage(execution)
    found = verdict().violations
    assert invariant in {one.invariant for one in found}
    assert {one.execution_id for one in found} == {str(execution.pk)}, "it is named, and the others are read"
    assert verdict().executions == 2, other


def log_of_attempt(execution, number):
    task = Task.objects.get(execution=execution, step_id="a")
    LogChunk.objects.create(task=task, fence=number, number=1, stream="stdout", text="x", at=database_now())


def test_what_is_held_back_or_waits_for_nothing_is_found_where_lateness_is_asked_for(make_workflow, owner):
    make_workflow([{"id": "long", "wait": {"seconds": 900}}], name="Inner")
    outer = make_workflow([{"id": "sub", "workflow": {"id": "inner"}}], timeout_seconds=500)
    parent = executions.start(outer, by=owner)
    one = make_workflow([noop("a")], concurrency={"key": "k", "limit": 1})
    first, second = executions.start(one, by=owner), executions.start(one, by=owner)
    past = database_now() - timedelta(seconds=60)
    Execution.objects.update(created_at=past)
    assert not verdict(overdue=5).violations, "the second waits for the first"

    def late():
        return {(found.invariant, found.execution_id) for found in verdict(overdue=5).violations}

    Execution.objects.filter(pk=first.pk).update(held=True, ready_at=None)
    assert late() == {("I9", str(first.pk)), ("I9", str(second.pk))}
    leases.reap()
    assert not late(), "the sweep lets one of them begin"
    Execution.objects.filter(pk=parent.pk).update(deadline_at=past)
    child = Execution.objects.filter(parent_task__execution=parent)
    assert late() == {("I9", str(parent.pk))}
    leases.reap()
    assert not late()
    assert child.get().cancel_requested_at, "and what nobody waits for any more is stopped"


def test_a_sub_workflow_that_nobody_waits_for_is_found_where_lateness_is_asked_for(make_workflow, owner):
    make_workflow([{"id": "long", "wait": {"seconds": 900}}], name="Inner")
    parent = executions.start(make_workflow([{"id": "sub", "workflow": {"id": "inner"}}]), by=owner)
    past = database_now() - timedelta(seconds=60)
    Execution.objects.filter(pk=parent.pk).update(cancel_requested_at=past)
    child = Execution.objects.get(parent_task__execution=parent)
    assert ("I9", str(child.pk)) in {(one.invariant, one.execution_id) for one in verdict(overdue=5).violations}
