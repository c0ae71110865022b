"""The two dialects: how values go in and come out, and how statements are sent."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from typing import Any
from uuid import UUID

from django.db import connection

from apps.workflows.engine.types import ExecutionState, TaskState

# Django's cursor or psycopg's: both have `execute`, `executemany`, `fetchall` and `rowcount`.
Cursor = Any
PREPARED_AFTER = 3  # executions of a statement before PostgreSQL keeps its plan


@dataclass(slots=True)
class ExecutionRow:
    """An execution as read under its lock. `inputs` is JSON text, parsed only where it is needed."""

    id: UUID
    workflow_id: UUID
    version_id: UUID
    seq: int
    priority: int
    inputs: str
    trace_id: str
    state: ExecutionState
    parent_task: UUID | None = None
    concurrency_key: str = ""


@dataclass(slots=True)
class TaskRow:
    """A task as read under its execution's lock."""

    id: UUID
    execution_id: UUID
    state: TaskState
    item: Any = None  # what a new task of a step with `for_each` is about, or the list of the step itself


@cache
def is_sqlite() -> bool:
    """Which dialect to speak; a process has one database."""
    return bool(connection.vendor == "sqlite")


def uuid_in(value: UUID) -> Any:
    """A UUID as the database wants it."""
    return value.hex if is_sqlite() else value


def uuid_out(value: Any) -> UUID:
    """A UUID as the database gave it."""
    return value if isinstance(value, UUID) else UUID(value)


def time_in(value: datetime | None) -> Any:
    """A time as the database wants it (SQLite: text in UTC that sorts)."""
    if value is None or not is_sqlite():
        return value
    return str(value.astimezone(UTC).replace(tzinfo=None))


def time_out(value: Any) -> datetime | None:
    """A time as the database gave it."""
    if value is None:
        return None
    if isinstance(value, str):
        value = datetime.fromisoformat(value)
    moment: datetime = value if value.tzinfo else value.replace(tzinfo=UTC)
    return moment


def json_in(value: Any) -> str | None:
    """JSON text. Raises ValueError for NaN and infinities, TypeError for what is no JSON."""
    return None if value is None else json.dumps(value, allow_nan=False, separators=(",", ":"), ensure_ascii=False)


def json_out(value: Any) -> Any:
    """What JSON text says."""
    return json.loads(value) if isinstance(value, str) else value


def marks(count: int) -> str:
    """Placeholders for so many values."""
    return ", ".join(["%s"] * count)


def new_cursor() -> Cursor:
    """A cursor for the statements of this module.

    On PostgreSQL one that binds on the server, so that a statement seen often is planned once; Django's own bind on the
    client. Errors are Django's inside `pipelined`.
    """
    if is_sqlite():
        return connection.cursor()
    import psycopg

    connection.ensure_connection()
    link = connection.connection
    link.prepare_threshold = PREPARED_AFTER
    return psycopg.Cursor(link)


@contextmanager
def pipelined() -> Iterator[Cursor]:
    """PostgreSQL: statements go out without waiting for the answer to the one before, unless it is asked for.

    To be entered inside a transaction. What the server refuses is raised, as Django's error, at the next answer that
    is read or at the end.
    """
    if is_sqlite():
        with connection.cursor() as cursor:
            yield cursor
        return
    with connection.wrap_database_errors:
        cursor = new_cursor()
        with connection.connection.pipeline():
            yield cursor
