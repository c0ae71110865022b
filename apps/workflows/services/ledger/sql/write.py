"""What a transaction writes: changed rows, and new lines of journal and log."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from apps.workflows.engine.types import Fact, TaskState
from apps.workflows.services.ledger.sql.dialect import (
    Cursor,
    ExecutionRow,
    TaskRow,
    is_sqlite,
    json_in,
    marks,
    new_cursor,
    time_in,
    uuid_in,
)


class FencedError(Exception):
    """A row was not as it was read, although its execution was locked: the transaction must not be committed."""


A_POINT = timedelta(minutes=1)

# An update under way: the cursor that will know its count, the table, and how many rows there were to write.
Written = tuple[Cursor, str, int]

_TASK_TYPES = {
    "id": "uuid", "status": "text", "waiting_on": "int", "met": "int", "fence": "bigint", "failures": "int",
    "losses": "int", "ready_at": "timestamptz", "waiting_for": "text", "due_at": "timestamptz",
    "expires_at": "timestamptz", "items": "int", "next_item": "int", "lease_owner": "text",
    "lease_expires_at": "timestamptz", "percent": "float8", "message": "text", "error": "jsonb",
    "started_at": "timestamptz", "finished_at": "timestamptz", "old_fence": "bigint",
}  # fmt: skip
_TASK_SET = [name for name in _TASK_TYPES if name not in ("id", "old_fence")]

_EXECUTION_TYPES = {
    "id": "uuid", "seq": "bigint", "status": "text", "tasks_total": "int", "open_tasks": "int",
    "failed_tasks": "int", "points": "float8",
    "percent": "float8", "message": "text", "ready_at": "timestamptz", "rank": "timestamptz", "held": "bool",
    "deadline_at": "timestamptz", "owes_parent": "bool", "cancel_requested_at": "timestamptz",
    "started_at": "timestamptz", "finished_at": "timestamptz",
    "outputs": "jsonb", "error": "jsonb", "updated_at": "timestamptz",
}  # fmt: skip
_EXECUTION_SET = [name for name in _EXECUTION_TYPES if name != "id"]


def _update(
    table: str, types: Mapping[str, str], names: Sequence[str], rows: Sequence[Sequence[Any]],
    *, fenced: bool,
) -> Written:  # fmt: skip
    """Update rows whose values come in the order of `types`: `id` first, `old_fence` last where `fenced`."""
    cursor = new_cursor()  # of its own: in a pipeline its count is asked for when all has been sent
    if is_sqlite():
        settings = ", ".join(f"{name} = %s" for name in names)
        condition = " AND fence = %s" if fenced else ""
        ordered = [[*row[1 : len(names) + 1], row[0], *row[len(names) + 1 :]] for row in rows]
        cursor.executemany(f"UPDATE {table} SET {settings} WHERE id = %s{condition}", ordered)
    else:
        settings = ", ".join(f"{name} = v.{name}" for name in names)
        one = "(" + ", ".join(f"%s::{kind}" for kind in types.values()) + ")"
        condition = f" AND {table}.fence = v.old_fence" if fenced else ""
        cursor.execute(
            f"UPDATE {table} SET {settings} FROM (VALUES {', '.join([one] * len(rows))}) AS v({', '.join(types)})"
            f" WHERE {table}.id = v.id{condition}",
            [value for row in rows for value in row],
        )
    return cursor, table, len(rows)


def check_written(written: Iterable[Written | None]) -> None:
    """Raise `FencedError` unless each update found every row as it was read."""
    for done in written:
        if done and done[0].rowcount != done[2]:
            raise FencedError(f"{done[2]} rows of {done[1]} to write, {done[0].rowcount} as they were read")


def write_tasks(cursor: Cursor, changed: Iterable[tuple[UUID, TaskState, int]]) -> Written | None:
    """Write tasks (id, new state, the fencing number they were read with). The answer is for `check_written`."""
    rows, left = [], []
    for identity, state, old_fence in changed:
        key = uuid_in(identity)
        rows.append(
            (key, state.status.value, state.waiting_on, state.met, state.fence, state.failures, state.losses,
             time_in(state.ready_at), state.waiting_for, time_in(state.due_at), time_in(state.expires_at), state.items,
             state.next_item, state.lease_owner, time_in(state.lease_expires_at), state.percent, state.message,
             json_in(state.error), time_in(state.started_at), time_in(state.finished_at), old_fence)
        )  # fmt: skip
        # Of a step that left nothing, nothing is written; of an item its absence would mean that it failed.
        if state.outputs is not None and (state.outputs != {} or state.is_item):
            left.append((json_in(state.outputs), key))
    if left:
        cast = "" if is_sqlite() else "::jsonb"
        cursor.executemany(f"UPDATE workflows_task SET outputs = %s{cast} WHERE id = %s", left)
    return _update("workflows_task", _TASK_TYPES, _TASK_SET, rows, fenced=True) if rows else None


def rank(row: ExecutionRow) -> datetime | None:
    """Its place in the line of its workflow: a point of priority is worth a minute of waiting, so nobody starves."""
    moment = row.state.ready_at
    return None if moment is None else moment - row.priority * A_POINT


def write_executions(changed: Iterable[ExecutionRow], *, at: datetime) -> Written | None:
    """Write executions that were read under their lock. The answer is for `check_written`."""
    rows = [
        (uuid_in(row.id), row.seq, row.state.status.value, row.state.tasks_total, row.state.open_tasks,
         row.state.failed_tasks, row.state.points, row.state.percent, row.state.message, time_in(row.state.ready_at),
         time_in(rank(row)), row.state.held, time_in(row.state.deadline_at),
         row.state.owes_parent, time_in(row.state.cancel_requested_at), time_in(row.state.started_at),
         time_in(row.state.finished_at), json_in(row.state.outputs), json_in(row.state.error), time_in(at))
        for row in changed
    ]  # fmt: skip
    return _update("workflows_execution", _EXECUTION_TYPES, _EXECUTION_SET, rows, fenced=False) if rows else None


def _insert(
    cursor: Cursor, table: str, names: Sequence[str], rows: Sequence[Sequence[Any]], *, once: bool = False
) -> None:
    one = f"({marks(len(names))})"
    into = f"INSERT INTO {table} ({', '.join(names)}) VALUES "
    end = " ON CONFLICT DO NOTHING" if once else ""
    if is_sqlite():
        cursor.executemany(into + one + end, rows)
        return
    for start in range(0, len(rows), 1000):
        some = rows[start : start + 1000]
        cursor.execute(into + ", ".join([one] * len(some)) + end, [value for row in some for value in row])


def insert_events(cursor: Cursor, rows: Iterable[tuple[UUID, int, Fact]], *, at: datetime) -> None:
    """Append to the journal: (execution, seq, fact)."""
    stamp = time_in(at)
    values = [
        (uuid_in(execution), seq, fact.type, fact.step_id, json_in(fact.data), stamp) for execution, seq, fact in rows
    ]
    if values:
        _insert(cursor, "workflows_event", ("execution_id", "seq", "type", "step_id", "data", "at"), values)


def insert_tasks(cursor: Cursor, rows: Iterable[TaskRow]) -> None:
    """Insert tasks of a new execution, or steps that a tracker tells of for the first time."""
    values = [
        (uuid_in(row.id), uuid_in(row.execution_id), row.state.step_id, row.state.status.value, row.state.queue,
         row.state.lane, row.state.waiting_on, row.state.met, row.state.fence, row.state.failures, row.state.losses,
         time_in(row.state.ready_at), row.state.waiting_for, time_in(row.state.due_at),
         time_in(row.state.expires_at), row.state.items, row.state.next_item, json_in(row.item),
         row.state.lease_owner, time_in(row.state.lease_expires_at), row.state.percent, row.state.message,
         json_in(row.state.outputs), json_in(row.state.error), time_in(row.state.started_at),
         time_in(row.state.finished_at))
        for row in rows
    ]  # fmt: skip
    names = (
        "id", "execution_id", "step_id", "status", "queue", "lane", "waiting_on", "met", "fence", "failures", "losses",
        "ready_at", "waiting_for", "due_at", "expires_at", "items", "next_item", "item", "lease_owner",
        "lease_expires_at", "percent", "message", "outputs", "error", "started_at",
        "finished_at",
    )  # fmt: skip
    if not values:
        return
    _insert(cursor, "workflows_task", names, values)


def write_item(cursor: Cursor, task: UUID, value: Any) -> None:
    """Write the list of a step that was opened."""
    cast = "" if is_sqlite() else "::jsonb"
    cursor.execute(f"UPDATE workflows_task SET item = %s{cast} WHERE id = %s", [json_in(value), uuid_in(task)])


def insert_logs(cursor: Cursor, rows: Sequence[tuple[UUID, int, int, str, str]], *, at: datetime) -> None:
    """Append log chunks: (task, fence, number, stream, text). One that is there already is left alone."""
    stamp = time_in(at)
    values = [(uuid_in(task), fence, number, stream, text, stamp) for task, fence, number, stream, text in rows]
    if values:
        _insert(cursor, "workflows_logchunk", ("task_id", "fence", "number", "stream", "text", "at"), values, once=True)
