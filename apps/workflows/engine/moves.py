"""How a task changes, and with it its execution's counts: the building blocks of `decide`."""

from dataclasses import replace
from datetime import datetime
from typing import Any

from apps.workflows.engine.states import TASK_MOVES, TERMINAL, Status
from apps.workflows.engine.types import ExecutionState, Fact, Ignore, Reject, TaskState

# Until it is terminal an execution is never told as finished, whatever its tasks report.
MOST_BEFORE_THE_END = 99.0


def move(task: TaskState, to: Status, **values: Any) -> TaskState:
    """The task in another status. The only place where one changes; the engine proposes lawful moves only."""
    assert to in TASK_MOVES[task.status], f"{task.step_id}: {task.status} → {to} is no lawful move"  # noqa: S101
    return replace(task, status=to, **values)


def end(task: TaskState, to: Status, now: datetime, **values: Any) -> TaskState:
    """The task in a terminal status."""
    return move(task, to, finished_at=now, ready_at=None, lease_owner="", lease_expires_at=None, **values)


def ready(task: TaskState, to: Status, at: datetime, **values: Any) -> TaskState:
    """The task back in line, to be claimed from `at` on."""
    changed = replace(task, ready_at=at, lease_owner="", lease_expires_at=None, **values)
    return changed if task.status is to else move(changed, to)


def weigh(execution: ExecutionState, before: TaskState, after: TaskState) -> ExecutionState:
    """The execution's counts and percentage after one of its tasks changed. The percentage never falls (I7)."""
    was_open, is_open = before.status not in TERMINAL, after.status not in TERMINAL
    delta = after.percent - before.percent
    closed = was_open and not is_open
    if not delta and not closed:
        return execution
    points = execution.points + delta
    percent = min(MOST_BEFORE_THE_END, round(points / max(1, execution.tasks_total), 2))
    return replace(
        execution,
        points=points,
        open_tasks=execution.open_tasks - 1 if closed else execution.open_tasks,
        percent=max(execution.percent, percent),
    )


def sooner(execution: ExecutionState, at: datetime) -> ExecutionState:
    """The execution with a place in line that is not later than `at`."""
    return execution if execution.ready_at and execution.ready_at <= at else replace(execution, ready_at=at)


def fact(kind: str, task: TaskState, execution: ExecutionState, **data: Any) -> Fact:
    """A line of the journal about a task: absolute values, so that hearing it twice harms nobody."""
    return Fact(
        type=kind,
        step_id=task.step_id,
        data={
            "status": task.status.value,
            "attempt": task.fence,
            "percent_complete": 100.0 if task.status is Status.COMPLETED else task.percent,
            "overall_percent": execution.percent,
            **data,
        },
    )


def stale(task: TaskState, fence: int) -> Reject | Ignore | None:
    """None when `fence` names the task's present lease."""
    if task.fence == fence and task.status is Status.IN_PROGRESS:
        return None
    if task.fence == fence and task.status in TERMINAL:
        return Ignore(reason=f"{task.step_id} has ended already")
    return Reject(code="stale_attempt", reason=f"attempt {fence} of {task.step_id} no longer holds its lease")
