"""What a transaction writes, all of it at once: changed rows, and new lines of journal and log.

On PostgreSQL it is one statement, whatever there is to write: each table's rows go in as one JSON text, so the client
binds a handful of values and the server keeps one plan for any number of rows.
"""

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from functools import lru_cache
from operator import attrgetter
from typing import Any
from uuid import UUID

from apps.workflows.services.ledger.sql.dialect import (
    Cursor,
    is_sqlite,
    json_in,
    marks,
    time_in,
    uuid_in,
)
from apps.workflows.services.ledger.sql.rows import Batch, Change, ExecutionRow, FencedError

_TASK = {
    "id": "uuid", "execution_id": "uuid", "step_id": "text", "queue": "text", "lane": "text",
    "status": "text", "waiting_on": "int", "met": "int", "fence": "bigint", "failures": "int", "losses": "int",
    "ready_at": "timestamptz", "waiting_for": "text", "due_at": "timestamptz", "expires_at": "timestamptz",
    "items": "int", "next_item": "int", "lease_owner": "text", "lease_expires_at": "timestamptz",
    "percent": "float8", "message": "text", "error": "jsonb", "started_at": "timestamptz",
    "finished_at": "timestamptz", "outputs": "jsonb", "item": "jsonb", "queued_at": "timestamptz",
}  # fmt: skip
_TASK_BIRTH = 5  # the first columns never change
_EXECUTION = {
    "id": "uuid", "seq": "bigint", "status": "text", "tasks_total": "int", "open_tasks": "int", "failed_tasks": "int",
    "points": "float8", "percent": "float8", "message": "text", "ready_at": "timestamptz", "rank": "timestamptz",
    "held": "bool", "deadline_at": "timestamptz", "owes_parent": "bool", "cancel_requested_at": "timestamptz",
    "started_at": "timestamptz", "finished_at": "timestamptz", "outputs": "jsonb", "error": "jsonb",
    "updated_at": "timestamptz",
}  # fmt: skip
_BIRTH = {
    "workflow_id": "uuid", "version_id": "uuid", "priority": "smallint", "inputs": "jsonb", "trace_id": "text",
    "trigger": "text", "origin_id": "uuid", "parent_task_id": "uuid", "concurrency_key": "text",
    "schedule_id": "uuid", "scheduled_for": "timestamptz", "requested_by_id": "uuid", "created_at": "timestamptz",
    "signals": "jsonb", "counted": "bool",
}  # fmt: skip
_EVENT = {"execution_id": "uuid", "seq": "bigint", "type": "text", "step_id": "text", "data": "jsonb"}
_LOG = {"task_id": "uuid", "fence": "bigint", "number": "int", "stream": "text", "text": "text"}
_KEPT_WHERE_NULL = ("outputs", "item", "queued_at")  # of tasks: None leaves them as they are


def write(cursor: Cursor, batch: Batch) -> None:
    """Write it. Raises `FencedError` where a task was not as it was read."""
    if is_sqlite():
        _write_sqlite(cursor, batch)
    else:
        _write_postgres(cursor, batch)


def execution_columns(row: ExecutionRow, at: datetime) -> dict[str, Any]:
    """A new execution's columns as they are written at `at`, by name."""
    return dict(zip([*_EXECUTION, *_BIRTH], _execution(row, at) + _birth(row, at), strict=True))


# --- rows -------------------------------------------------------------------------------------------------------------


def _task(change: Change) -> tuple[Any, ...]:
    """In the order of `_TASK`."""
    state = change.state
    return (
        change.id, change.execution_id, state.step_id, state.queue, state.lane,
        state.status.value, state.waiting_on, state.met, state.fence, state.failures, state.losses, state.ready_at,
        state.waiting_for, state.due_at, state.expires_at, state.items, state.next_item, state.lease_owner,
        state.lease_expires_at, state.percent, state.message, state.error, state.started_at, state.finished_at,
        change.left, change.item, state.queued_at,
    )  # fmt: skip


def _execution(row: ExecutionRow, at: datetime) -> tuple[Any, ...]:
    """In the order of `_EXECUTION`."""
    state = row.state
    return (
        row.id, row.seq, state.status.value, state.tasks_total, state.open_tasks, state.failed_tasks, state.points,
        state.percent, state.message, state.ready_at, row.rank, state.held, state.deadline_at, state.owes_parent,
        state.cancel_requested_at, state.started_at, state.finished_at, state.outputs, state.error, at,
    )  # fmt: skip


def _birth(row: ExecutionRow, at: datetime) -> tuple[Any, ...]:
    """In the order of `_BIRTH`."""
    birth = row.birth
    assert birth is not None  # noqa: S101 (of a new one)
    return (
        row.workflow_id, row.version_id, row.priority, birth.inputs, row.trace_id, birth.trigger, birth.origin,
        row.parent_task, row.concurrency_key, birth.schedule, birth.scheduled_for, birth.requested_by, at, {},
        False,
    )  # fmt: skip


class _Into:
    """Turns values into what a dialect takes, by the types of their columns."""

    def __init__(self, how: Mapping[str, Callable[[Any], Any]], *columns: Mapping[str, str]) -> None:
        kinds = [kind for each in columns for kind in each.values()]
        self._names = [name for each in columns for name in each]
        self._converters = [(place, how[kind]) for place, kind in enumerate(kinds) if kind in how]

    def __call__(self, row: tuple[Any, ...]) -> list[Any]:
        values = list(row)
        for place, convert in self._converters:
            if values[place] is not None:
                values[place] = convert(values[place])
        return values

    def record(self, row: tuple[Any, ...]) -> dict[str, Any]:
        """By the columns' names."""
        return dict(zip(self._names, self(row), strict=True))


# --- SQLite -----------------------------------------------------------------------------------------------------------


def _insert(table: str, types: Iterable[str], end: str = "") -> str:
    names = list(types)
    return f"INSERT INTO {table} ({', '.join(names)}) VALUES ({marks(len(names))}){end}"


_TASK_SET = list(_TASK)[_TASK_BIRTH:]
_UPDATE_TASKS = (
    "UPDATE workflows_task SET "
    + ", ".join(f"{name} = {f'coalesce(%s, {name})' if name in _KEPT_WHERE_NULL else '%s'}" for name in _TASK_SET)
    + " WHERE id = %s AND fence = %s"
)
_INSERT_TASKS = _insert("workflows_task", _TASK)
_UPDATE_EXECUTIONS = (
    f"UPDATE workflows_execution SET {', '.join(f'{name} = %s' for name in list(_EXECUTION)[1:])} WHERE id = %s"
)
_INSERT_EXECUTIONS = _insert("workflows_execution", [*_EXECUTION, *_BIRTH])
_INSERT_EVENTS = _insert("workflows_event", [*_EVENT, "at"])
_INSERT_LOGS = _insert("workflows_logchunk", [*_LOG, "at"], " ON CONFLICT DO NOTHING")


_SQLITE: Mapping[str, Callable[[Any], Any]] = {"uuid": uuid_in, "timestamptz": time_in, "jsonb": json_in}
_task_in, _execution_in, _new_execution_in = (
    _Into(_SQLITE, _TASK),
    _Into(_SQLITE, _EXECUTION),
    _Into(_SQLITE, _EXECUTION, _BIRTH),
)


def _write_sqlite(cursor: Cursor, batch: Batch) -> None:
    at = time_in(batch.at)
    changed, new = [], []
    for change in batch.tasks:
        values = _task_in(_task(change))
        if change.old_fence is None:
            new.append(values)
        else:
            changed.append([*values[_TASK_BIRTH:], values[0], change.old_fence])
    born = [row for row in batch.executions if row.birth]
    if born:
        rows = [_new_execution_in(_execution(row, batch.at) + _birth(row, batch.at)) for row in born]
        cursor.executemany(_INSERT_EXECUTIONS, rows)
    if changed:
        cursor.executemany(_UPDATE_TASKS, changed)
        if cursor.rowcount != len(changed):
            raise FencedError(f"{len(changed)} tasks to write, {cursor.rowcount} as they were read")
    if new:
        cursor.executemany(_INSERT_TASKS, new)
    if batch.events:
        cursor.executemany(
            _INSERT_EVENTS,
            [(uuid_in(e), seq, fact.type, fact.step_id, json_in(fact.data), at) for e, seq, fact in batch.events],
        )
    if rows := [_execution_in(_execution(row, batch.at)) for row in batch.executions if not row.birth]:
        cursor.executemany(_UPDATE_EXECUTIONS, [[*row[1:], row[0]] for row in rows])
    if batch.logs:
        cursor.executemany(_INSERT_LOGS, [(uuid_in(task), *line, at) for task, *line in batch.logs])


# --- PostgreSQL -------------------------------------------------------------------------------------------------------


def _records(types: Mapping[str, str]) -> str:
    """The rows of a JSON text, as a table `v`."""
    columns = ", ".join(f'"{name}" {kind}' for name, kind in types.items())
    return f"json_to_recordset(%s::json) AS v({columns})"


def _copied(table: str, types: Mapping[str, str], end: str = "") -> str:
    """Insert the rows of a JSON text."""
    names = ", ".join(f'"{name}"' for name in types)
    stamped = (f'{names}, "at"', f"{names}, %s::timestamptz") if table in _STAMPED else (names, names)
    return f"INSERT INTO {table} ({stamped[0]}) SELECT {stamped[1]} FROM {_records(types)}{end}"


_STAMPED = ("workflows_event", "workflows_logchunk")
_PARTS = {
    "tasks": "UPDATE workflows_task AS t SET "
    + ", ".join(
        f"{name} = {f'coalesce(v.{name}, t.{name})' if name in _KEPT_WHERE_NULL else f'v.{name}'}" for name in _TASK_SET
    )
    + f" FROM {_records({**_TASK, 'old_fence': 'bigint'})}"
    + " WHERE t.id = v.id AND t.fence = v.old_fence AND t.id = ANY(%s) RETURNING 1",
    "executions": "UPDATE workflows_execution AS x SET "
    + ", ".join(f"{name} = v.{name}" for name in list(_EXECUTION)[1:])
    + f" FROM {_records(_EXECUTION)} WHERE x.id = v.id AND x.id = ANY(%s) RETURNING 1",
    "new_executions": _copied("workflows_execution", {**_EXECUTION, **_BIRTH}),
    "new_tasks": _copied("workflows_task", _TASK),
    "events": _copied("workflows_event", _EVENT),
    "logs": _copied("workflows_logchunk", _LOG, " ON CONFLICT DO NOTHING"),
}
_COUNTED = ("tasks", "executions")


@lru_cache(maxsize=64)
def _statement(parts: tuple[str, ...]) -> str:
    """One statement for these parts. A row that was not as it had been read makes it divide by zero, so all fails."""
    with_ = ", ".join(f"{part} AS ({_PARTS[part]})" for part in parts)
    right = " AND ".join(f"(SELECT count(*) FROM {part}) = %s" for part in parts if part in _COUNTED) or "TRUE"
    return f"WITH {with_} SELECT 1 / ({right})::int"


_POSTGRES: Mapping[str, Callable[[Any], Any]] = {"uuid": attrgetter("hex"), "timestamptz": datetime.isoformat}
_task_record, _execution_record, _new_execution_record, _event_record, _log_record = (
    _Into(_POSTGRES, *columns).record for columns in ((_TASK,), (_EXECUTION,), (_EXECUTION, _BIRTH), (_EVENT,), (_LOG,))
)


def _write_postgres(cursor: Cursor, batch: Batch) -> None:
    rows: dict[str, list[Any]] = {part: [] for part in _PARTS}
    for change in batch.tasks:
        record = _task_record(_task(change))
        if change.old_fence is None:
            rows["new_tasks"].append(record)
        else:
            rows["tasks"].append({**record, "old_fence": change.old_fence})
    for row in batch.executions:
        if row.birth:
            rows["new_executions"].append(_new_execution_record(_execution(row, batch.at) + _birth(row, batch.at)))
        else:
            rows["executions"].append(_execution_record(_execution(row, batch.at)))
    rows["events"] = [_event_record((e, seq, fact.type, fact.step_id, fact.data)) for e, seq, fact in batch.events]
    rows["logs"] = [_log_record(line) for line in batch.logs]
    parts = tuple(part for part, some in rows.items() if some)
    if not parts:
        return
    values: list[Any] = []
    for part in parts:
        values += [batch.at] if part in ("events", "logs") else []
        values.append(json_in(rows[part]))
        # Found by their ids, however few rows the planner takes the table for: a plan may be older than the table.
        values += [[UUID(row["id"]) for row in rows[part]]] if part in _COUNTED else []
    values += [len(rows[part]) for part in parts if part in _COUNTED]
    cursor.execute(_statement(parts), values)
