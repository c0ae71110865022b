"""PostgreSQL: one statement, whatever there is to write.

Each table's rows go in as one JSON text, so the client binds a handful of values and the server keeps one plan for
any number of rows. Where a transaction holds no lock yet, the statement locks the executions first, in the order of
their ids, and only then writes.
"""

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from functools import lru_cache
from operator import attrgetter
from typing import Any
from uuid import UUID

from apps.core.clock import sample
from apps.workflows.services.ledger.sql import columns
from apps.workflows.services.ledger.sql.dialect import Cursor, json_in
from apps.workflows.services.ledger.sql.read import SELECT_TASK, task_row
from apps.workflows.services.ledger.sql.rows import Batch, TaskRow

# What a report and a claim change of a step that runs as it should. A statement writes these columns of all its rows,
# or all columns: so there are few statements, and each is planned once.
_HOT_TASK = (
    "status", "waiting_on", "met", "fence", "ready_at", "lease_owner", "lease_expires_at", "percent", "started_at",
    "finished_at", "outputs", "queued_at",
)  # fmt: skip
_HOT_EXECUTION = ("status", "open_tasks", "points", "percent", "ready_at", "started_at")
_ALL_TASK = tuple(name for name in columns.TASK if name not in ("id", "execution_id", "step_id", "queue", "lane"))
_ALL_EXECUTION = tuple(columns.EXECUTION)
_KEPT_WHERE_NULL = ("outputs", "item", "queued_at")  # of tasks: None leaves them as they are


def _records(types: Mapping[str, str]) -> str:
    """The rows of a JSON text, as a table `v`."""
    names = ", ".join(f'"{name}" {kind}' for name, kind in types.items())
    return f"json_to_recordset(%s::json) AS v({names})"


def _copied(table: str, types: Mapping[str, str], *, stamped: bool = False, end: str = "") -> str:
    """Insert the rows of a JSON text."""
    names = ", ".join(f'"{name}"' for name in types)
    into, values = (f'{names}, "at"', f"{names}, %s::timestamptz") if stamped else (names, names)
    return f"INSERT INTO {table} ({into}) SELECT {values} FROM {_records(types)}{end}"


def _update_tasks(names: tuple[str, ...], *, locked: bool) -> str:
    types = {
        "id": "uuid",
        "execution_id": "uuid",
        "old_fence": "bigint",
        **{name: columns.TASK[name] for name in names},
    }
    sets = ", ".join(
        f"{name} = {f'coalesce(v.{name}, t.{name})' if name in _KEPT_WHERE_NULL else f'v.{name}'}" for name in names
    )
    join = " JOIN locked ON locked.id = v.execution_id" if locked else ""
    # Found by their ids, however few rows the planner takes the table for: a plan may be older than the table.
    return (
        f"UPDATE workflows_task AS t SET {sets} FROM {_records(types)}{join}"
        " WHERE t.id = v.id AND t.fence = v.old_fence AND t.id = ANY(%s) RETURNING 1"
    )


def _update_executions(names: tuple[str, ...], *, locked: bool) -> str:
    types = {**columns.ALWAYS, **{name: columns.EXECUTION[name] for name in names}}
    # A state is read without the outputs: where they are not known they stay.
    sets = ", ".join(
        f"{name} = {f'coalesce(v.{name}, x.{name})' if name == 'outputs' else f'v.{name}'}"
        for name in types
        if name != "id"
    )
    join = " JOIN locked ON locked.id = v.id" if locked else ""
    return (
        f"UPDATE workflows_execution AS x SET {sets} FROM {_records(types)}{join}"
        " WHERE x.id = v.id AND x.revision = v.revision - 1 AND x.id = ANY(%s) RETURNING 1"
    )


_LOCKED = "SELECT id FROM workflows_execution WHERE id = ANY(%s) ORDER BY id FOR UPDATE"
_COUNTED = ("tasks", "executions")


@lru_cache(maxsize=64)
def _statement(parts: tuple[str, ...], tasks: tuple[str, ...], executions: tuple[str, ...], ahead: bool) -> str:
    """One statement for these parts. A row that was not as it had been read makes it divide by zero, so all fails."""
    locked = "locked" in parts
    texts = {
        "locked": _LOCKED,
        "executions": _update_executions(executions, locked=locked),
        "tasks": _update_tasks(tasks, locked=locked),
        "new_executions": _copied("workflows_execution", columns.NEW_EXECUTION),
        "new_tasks": _copied("workflows_task", columns.TASK),
        "events": _copied("workflows_event", columns.EVENT, stamped=True),
        "logs": _copied("workflows_logchunk", columns.LOG, stamped=True, end=" ON CONFLICT DO NOTHING"),
    }
    with_ = ", ".join(f"{part} AS {'MATERIALIZED ' if part == 'locked' else ''}({texts[part]})" for part in parts)
    right = " AND ".join(f"(SELECT count(*) FROM {part}) = %s" for part in parts if part in _COUNTED) or "TRUE"
    answer = f"SELECT 1 / ({right})::int, clock_timestamp()"
    if ahead:
        answer += f", t.* FROM (SELECT 1) AS one LEFT JOIN ({SELECT_TASK} WHERE id = ANY(%s)) AS t ON TRUE"
    return f"WITH {with_} {answer}"


_HOW: Mapping[str, Callable[[Any], Any]] = {"uuid": attrgetter("hex"), "timestamptz": datetime.isoformat}
_task, _execution, _always, _event, _log = (
    columns.Into(_HOW, table).record
    for table in (columns.TASK, columns.NEW_EXECUTION, columns.ALWAYS, columns.EVENT, columns.LOG)
)
_TIMES = {name for table in (columns.TASK, columns.EXECUTION) for name, kind in table.items() if kind == "timestamptz"}


def _written(values: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: value.isoformat() if name in _TIMES and value is not None else value for name, value in values.items()
    }


def _names(changed: Iterable[Mapping[str, Any]], hot: tuple[str, ...], every: tuple[str, ...]) -> tuple[str, ...]:
    """Which columns the statement writes."""
    return hot if all(name in hot for values in changed for name in values) else every


def write(cursor: Cursor, batch: Batch, *, ahead: list[UUID], lock: bool) -> list[TaskRow]:
    """Write it, and read the tasks `ahead` with the same statement. Raises `FencedError`."""
    old = [change for change in batch.tasks if change.before is not None]
    changed = [(change, differing) for change in old if (differing := columns.changed_task(change))]
    kept = [row for row in batch.executions if not row.birth]
    moved = [columns.changed_execution(row) for row in kept]
    task_names = _names([differing for _, differing in changed], _HOT_TASK, _ALL_TASK)
    execution_names = _names(moved, _HOT_EXECUTION, _ALL_EXECUTION)
    rows: dict[str, list[Any]] = {
        "executions": [
            {
                **_always(columns.always(row, batch.at)),
                **_written({name: getattr(row.state, name) for name in execution_names}),
            }
            for row in kept
        ],
        "tasks": [
            {
                "id": change.id.hex,
                "execution_id": change.execution_id.hex,
                "old_fence": change.before.fence if change.before else None,
                **_written(
                    {
                        name: differing.get(name) if name in _KEPT_WHERE_NULL else getattr(change.state, name)
                        for name in task_names
                    }
                ),
            }
            for change, differing in changed
        ],
        "new_executions": [_execution(columns.new_execution(row, batch.at)) for row in batch.executions if row.birth],
        "new_tasks": [_task(columns.new_task(change)) for change in batch.tasks if change.before is None],
        "events": [_event((e, seq, fact.type, fact.step_id, fact.data)) for e, seq, fact in batch.events],
        "logs": [_log(line) for line in batch.logs],
    }
    parts = tuple(part for part, some in rows.items() if some)
    if not parts:
        return []
    values: list[Any] = []
    if lock and kept:
        parts = ("locked", *parts)
    for part in parts:
        if part == "locked":
            values.append([row.id for row in kept])
            continue
        values += [batch.at] if part in ("events", "logs") else []
        values.append(json_in(rows[part]))
        values += [[UUID(row["id"]) for row in rows[part]]] if part in _COUNTED else []
    values += [len(rows[part]) for part in parts if part in _COUNTED]
    values += [ahead] if ahead else []
    cursor.execute(_statement(parts, task_names, execution_names, bool(ahead)), values)
    found = cursor.fetchall()
    sample(found[0][1])
    return [task_row(row[2:]) for row in found if row[2] is not None] if ahead else []
