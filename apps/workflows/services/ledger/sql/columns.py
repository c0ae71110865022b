"""The columns of the ledger's tables by the types that PostgreSQL gives them, and rows as tuples in their order.

Of a row that is changed only the columns that differ are written.
"""

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Any

from apps.workflows.engine.types import ExecutionState, TaskState
from apps.workflows.services.ledger.sql.rows import Change, ExecutionRow

# Of tasks, those that may change are fields of their state with the same names.
TASK = {
    "id": "uuid", "execution_id": "uuid", "step_id": "text", "queue": "text", "lane": "text",
    "status": "text", "waiting_on": "int", "met": "int", "fence": "bigint", "failures": "int", "losses": "int",
    "ready_at": "timestamptz", "waiting_for": "text", "due_at": "timestamptz", "expires_at": "timestamptz",
    "items": "int", "next_item": "int", "lease_owner": "text", "lease_expires_at": "timestamptz",
    "percent": "float8", "message": "text", "started_at": "timestamptz", "finished_at": "timestamptz",
    "error": "jsonb", "outputs": "jsonb", "item": "jsonb", "queued_at": "timestamptz",
}  # fmt: skip
EXECUTION = {
    "status": "text", "tasks_total": "int", "open_tasks": "int", "failed_tasks": "int", "points": "float8",
    "percent": "float8", "message": "text", "ready_at": "timestamptz", "held": "bool", "deadline_at": "timestamptz",
    "owes_parent": "bool", "cancel_requested_at": "timestamptz", "started_at": "timestamptz",
    "finished_at": "timestamptz", "outputs": "jsonb", "error": "jsonb",
}  # fmt: skip
ALWAYS = {"id": "uuid", "seq": "bigint", "revision": "bigint", "rank": "timestamptz", "updated_at": "timestamptz"}
"""Of an execution: written with every change."""
BIRTH = {
    "workflow_id": "uuid", "version_id": "uuid", "priority": "smallint", "inputs": "jsonb", "trace_id": "text",
    "trigger": "text", "origin_id": "uuid", "parent_task_id": "uuid", "concurrency_key": "text",
    "schedule_id": "uuid", "scheduled_for": "timestamptz", "requested_by_id": "uuid", "created_at": "timestamptz",
    "signals": "jsonb", "counted": "bool", "trace_parent": "text",
}  # fmt: skip
EVENT = {"execution_id": "uuid", "seq": "bigint", "type": "text", "step_id": "text", "data": "jsonb"}
LOG = {"task_id": "uuid", "fence": "bigint", "number": "int", "stream": "text", "text": "text"}

assert tuple(EXECUTION) == ExecutionState._fields  # noqa: S101 (states are written as they are)


def new_task(change: Change) -> tuple[Any, ...]:
    """A new task in the order of `TASK`."""
    state = change.state
    return (
        change.id, change.execution_id, state.step_id, state.queue, state.lane,
        state.status, state.waiting_on, state.met, state.fence, state.failures, state.losses, state.ready_at,
        state.waiting_for, state.due_at, state.expires_at, state.items, state.next_item, state.lease_owner,
        state.lease_expires_at, state.percent, state.message, state.started_at, state.finished_at, state.error,
        change.left, change.item, state.queued_at,
    )  # fmt: skip


def changed_task(change: Change) -> dict[str, Any]:
    """The columns of a task that differ from how it was read, by name."""
    before, after = change.before, change.state
    assert before is not None  # noqa: S101 (of one that was read)
    differing = {
        name: new
        for name, new, old in zip(TaskState._fields, after, before, strict=True)
        if new is not old and new != old
    }
    differing.pop("outputs", None)
    if (left := change.left) is not None:
        differing["outputs"] = left
    if change.item is not None:
        differing["item"] = change.item
    return differing


def changed_execution(row: ExecutionRow) -> dict[str, Any]:
    """The columns of an execution's state that differ from how it was read, by name."""
    assert row.was is not None  # noqa: S101 (of one that was read)
    return {
        name: new
        for name, new, old in zip(ExecutionState._fields, row.state, row.was, strict=True)
        if new is not old and new != old
    }


def always(row: ExecutionRow, at: datetime) -> tuple[Any, ...]:
    """In the order of `ALWAYS`."""
    return row.id, row.seq, row.revision + 1, row.rank, at


def birth(row: ExecutionRow, at: datetime) -> tuple[Any, ...]:
    """In the order of `BIRTH`."""
    first = row.birth
    assert first is not None  # noqa: S101 (of a new one)
    return (
        row.workflow_id, row.version_id, row.priority, first.inputs, row.trace_id, first.trigger, first.origin,
        row.parent_task, row.concurrency_key, first.schedule, first.scheduled_for, first.requested_by, at, {},
        False, row.trace_parent,
    )  # fmt: skip


NEW_EXECUTION = {**ALWAYS, **EXECUTION, **BIRTH}


def new_execution(row: ExecutionRow, at: datetime) -> tuple[Any, ...]:
    """A new execution in the order of `NEW_EXECUTION`."""
    return (*always(row, at), *row.state, *birth(row, at))


class Into:
    """Turns values into what a dialect takes, by the types of their columns."""

    def __init__(self, how: Mapping[str, Callable[[Any], Any]], columns: Mapping[str, str]) -> None:
        self._names = tuple(columns)
        self._converters = [(place, how[kind]) for place, kind in enumerate(columns.values()) if kind in how]

    def __call__(self, row: Iterable[Any]) -> list[Any]:
        """The values in their order."""
        values = list(row)
        for place, convert in self._converters:
            if values[place] is not None:
                values[place] = convert(values[place])
        return values

    def record(self, row: Iterable[Any]) -> dict[str, Any]:
        """By the columns' names."""
        return dict(zip(self._names, self(row), strict=True))
