"""The two dialects: how values go in and come out, and how statements are sent."""

import json
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from datetime import UTC, datetime
from functools import cache, lru_cache
from typing import Any
from uuid import UUID

from django.db import DatabaseError, DataError, connection

from apps.workflows.services.ledger.sql.rows import FencedError

# `_Plain` or psycopg's: both have `execute`, `executemany`, `fetchone`, `fetchall` and `rowcount`.
Cursor = Any
PREPARED_AFTER = 3  # executions of a statement before PostgreSQL keeps its plan


@cache
def is_sqlite() -> bool:
    """Which dialect to speak; a process has one database."""
    return bool(connection.vendor == "sqlite")


def uuid_in(value: UUID) -> Any:
    """A UUID as the database wants it."""
    return value.hex if is_sqlite() else value


def uuid_out(value: Any) -> UUID:
    """A UUID as the database gave it."""
    return value if isinstance(value, UUID) else _uuid(value)


# A step names the same few ids a dozen times.
_uuid = lru_cache(maxsize=4096)(UUID)


def time_in(value: datetime | None) -> Any:
    """A time as the database wants it (SQLite: text in UTC that sorts)."""
    if value is None or not is_sqlite():
        return value
    return (value if value.tzinfo is UTC else value.astimezone(UTC)).isoformat(" ")[: -len(_OFFSET)]


def time_out(value: Any) -> datetime | None:
    """A time as the database gave it."""
    if value is None:
        return None
    if isinstance(value, str):
        value = datetime.fromisoformat(value)
    moment: datetime = value if value.tzinfo else value.replace(tzinfo=UTC)
    return moment


_OFFSET = "+00:00"
_encode = json.JSONEncoder(allow_nan=False, separators=(",", ":"), ensure_ascii=False).encode


def json_in(value: Any) -> str | None:
    """JSON text. Raises ValueError for NaN and infinities, TypeError for what is no JSON."""
    return None if value is None else _encode(value)


def json_out(value: Any) -> Any:
    """What JSON text says."""
    return json.loads(value) if isinstance(value, str) else value


def marks(count: int) -> str:
    """Placeholders for so many values."""
    return ", ".join(["%s"] * count)


class _Plain:
    """SQLite's own cursor: beside a statement of ten microseconds Django's wrappers cost as much again."""

    __slots__ = ("_cursor", "close", "fetchall", "fetchone")

    def __init__(self, cursor: sqlite3.Cursor) -> None:
        self._cursor = cursor
        self.fetchone, self.fetchall, self.close = cursor.fetchone, cursor.fetchall, cursor.close

    @property
    def rowcount(self) -> int:
        return self._cursor.rowcount

    def execute(self, statement: str, values: Sequence[Any] = ()) -> None:
        self._cursor.execute(_question_marks(statement), values)

    def executemany(self, statement: str, rows: Sequence[Sequence[Any]]) -> None:
        self._cursor.executemany(_question_marks(statement), rows)


@lru_cache(maxsize=512)
def _question_marks(statement: str) -> str:
    return statement.replace("%s", "?")


def new_cursor() -> Cursor:
    """A cursor for the statements of this module, without Django's wrappers. Errors are Django's inside `statements`.

    On PostgreSQL it binds on the server, so that a statement seen often is planned once; Django's own bind on the
    client.
    """
    connection.ensure_connection()
    if is_sqlite():
        return _Plain(sqlite3.Cursor(connection.connection))
    import psycopg

    link = connection.connection
    link.prepare_threshold = PREPARED_AFTER
    return psycopg.Cursor(link)


@contextmanager
def statements() -> Iterator[Cursor]:
    """A cursor inside a transaction; what the database refuses is raised as Django's error, or as `FencedError`.

    It is closed at the end: one that only the garbage collector ends may be ended in another thread, and with it goes a
    statement that this thread has begun to use again ("bad parameter or other API misuse").
    """
    try:
        with connection.wrap_database_errors, closing(new_cursor()) as cursor:
            yield cursor
    except DataError as error:
        if type(error.__cause__).__name__ == "DivisionByZero":
            raise FencedError("a row to be written was not as it had been read") from error
        raise


def in_line() -> AbstractContextManager[None]:
    """Where writers take turns (SQLite): wait for one's own before what is to be written is gathered."""
    return connection.in_line() if is_sqlite() else nullcontext()  # type: ignore[attr-defined]


def is_deadlock(error: DatabaseError) -> bool:
    """Whether PostgreSQL ended a transaction because it and another waited for each other."""
    return type(error.__cause__).__name__ == "DeadlockDetected"
