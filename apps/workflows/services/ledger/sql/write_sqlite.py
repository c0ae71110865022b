"""SQLite: a statement for each set of columns that change, over all rows in which just these do."""

from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import Any

from apps.workflows.services.ledger.sql import columns
from apps.workflows.services.ledger.sql.dialect import Cursor, json_in, marks, time_in, uuid_in
from apps.workflows.services.ledger.sql.rows import Batch, FencedError

_HOW: Mapping[str, Callable[[Any], Any]] = {"uuid": uuid_in, "timestamptz": time_in, "jsonb": json_in}
_CONVERT = {
    name: _HOW.get(kind) for table in (columns.TASK, columns.EXECUTION, columns.ALWAYS) for name, kind in table.items()
}
_task, _execution, _always = (
    columns.Into(_HOW, table) for table in (columns.TASK, columns.NEW_EXECUTION, columns.ALWAYS)
)


def _insert(table: str, types: Iterable[str], end: str = "") -> str:
    names = list(types)
    return f"INSERT INTO {table} ({', '.join(names)}) VALUES ({marks(len(names))}){end}"


_INSERT_TASKS = _insert("workflows_task", columns.TASK)
_INSERT_EXECUTIONS = _insert("workflows_execution", columns.NEW_EXECUTION)
_INSERT_EVENTS = _insert("workflows_event", [*columns.EVENT, "at"])
_INSERT_LOGS = _insert("workflows_logchunk", [*columns.LOG, "at"], " ON CONFLICT DO NOTHING")


@lru_cache(maxsize=512)
def _update(table: str, names: tuple[str, ...], guard: str) -> str:
    return f"UPDATE {table} SET {', '.join(f'{name} = %s' for name in names)} WHERE id = %s AND {guard} = %s"


def _values(differing: Mapping[str, Any]) -> list[Any]:
    values = []
    for name, value in differing.items():
        convert = _CONVERT[name]
        values.append(convert(value) if convert and value is not None else value)
    return values


class _Updates:
    """Rows to update, gathered by the columns that change; each is guarded by what it was read with."""

    def __init__(self, table: str, guard: str) -> None:
        self._table, self._guard = table, guard
        self._rows: dict[tuple[str, ...], list[list[Any]]] = {}

    def add(self, names: tuple[str, ...], values: list[Any], guarded: Any) -> None:
        self._rows.setdefault(names, []).append([*values, guarded])

    def run(self, cursor: Cursor) -> None:
        for names, rows in self._rows.items():
            cursor.executemany(_update(self._table, names, self._guard), rows)
            if cursor.rowcount != len(rows):
                raise FencedError(f"{len(rows)} rows of {self._table} to write, {cursor.rowcount} as they were read")


_TABLE_ALWAYS = tuple(name for name in columns.ALWAYS if name != "id")


def write(cursor: Cursor, batch: Batch) -> None:
    """Write it, in the transaction that is open. Raises `FencedError`."""
    at = time_in(batch.at)
    executions, tasks = _Updates("workflows_execution", "revision"), _Updates("workflows_task", "fence")
    born = []
    for row in batch.executions:
        if row.birth:
            born.append(_execution(columns.new_execution(row, batch.at)))
            continue
        differing = columns.changed_execution(row)
        identity, *always = _always(columns.always(row, batch.at))
        executions.add((*_TABLE_ALWAYS, *differing), [*always, *_values(differing), identity], row.revision)
    new = []
    for change in batch.tasks:
        if change.before is None:
            new.append(_task(columns.new_task(change)))
        elif differing := columns.changed_task(change):
            tasks.add(tuple(differing), [*_values(differing), uuid_in(change.id)], change.before.fence)
    if born:
        cursor.executemany(_INSERT_EXECUTIONS, born)
    executions.run(cursor)
    tasks.run(cursor)
    if new:
        cursor.executemany(_INSERT_TASKS, new)
    if batch.events:
        cursor.executemany(
            _INSERT_EVENTS,
            [(uuid_in(e), seq, fact.type, fact.step_id, json_in(fact.data), at) for e, seq, fact in batch.events],
        )
    if batch.logs:
        cursor.executemany(_INSERT_LOGS, [(uuid_in(task), *line, at) for task, *line in batch.logs])
