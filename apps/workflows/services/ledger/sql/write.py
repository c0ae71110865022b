"""What a transaction writes, all of it at once: changed rows, and new lines of journal and log."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any
from uuid import UUID

from apps.workflows.services.ledger.sql import columns, write_postgres, write_sqlite
from apps.workflows.services.ledger.sql.dialect import Cursor, is_sqlite
from apps.workflows.services.ledger.sql.rows import Batch, ExecutionRow, TaskRow


def write(cursor: Cursor, batch: Batch, *, ahead: Iterable[UUID] = (), lock: bool = False) -> list[TaskRow]:
    """Write it. Raises `FencedError` where an execution or a task was not as it was read; then nothing is written.

    Gives, where that costs no statement of its own, the tasks `ahead`, which the next transaction will ask for. With
    `lock` the executions are not locked yet.
    """
    if is_sqlite():
        write_sqlite.write(cursor, batch)
        return []
    return write_postgres.write(cursor, batch, ahead=list(ahead), lock=lock)


def execution_columns(row: ExecutionRow, at: datetime) -> dict[str, Any]:
    """A new execution's columns as they are written at `at`, by name."""
    return dict(zip(columns.NEW_EXECUTION, columns.new_execution(row, at), strict=True))
