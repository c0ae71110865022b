"""What the database itself allows: a synced commit of one row, in milliseconds, on the disk that is measured."""

import sqlite3
import time
from collections.abc import Callable
from pathlib import Path

from django.conf import settings
from django.db import connection

from apps.core.sqlite.base import PRAGMAS
from benchmarks.shapes import Sizes

ROUNDS = 5


def commits(sizes: Sizes) -> list[float]:
    """Milliseconds a commit: the mean of each of some rounds of updates to one row, a transaction each."""
    once = _sqlite() if connection.vendor == "sqlite" else _postgres()
    count = max(1, sizes.commits // ROUNDS)
    found = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        for _ in range(count):
            once()
        found.append(1000 * (time.perf_counter() - began) / count)
    return found


def _sqlite() -> Callable[[], None]:
    """A file of its own beside the database, with the same settings."""
    link = sqlite3.connect(Path(settings.DATA_DIR) / "limit.sqlite3", isolation_level=None)
    for pragma in filter(str.strip, PRAGMAS.split(";")):
        link.execute(pragma)
    link.execute("CREATE TABLE one (n INTEGER)")
    link.execute("INSERT INTO one VALUES (0)")

    def once() -> None:
        link.execute("BEGIN IMMEDIATE")
        link.execute("UPDATE one SET n = n + 1")
        link.execute("COMMIT")

    return once


def _postgres() -> Callable[[], None]:
    """One statement in autocommit: one round trip and one commit."""
    import psycopg

    params = connection.get_connection_params()
    wanted = {key: params[key] for key in ("dbname", "host", "port", "user", "password") if params.get(key)}
    link = psycopg.connect(**wanted, autocommit=True)
    link.execute("CREATE TABLE bench_one (n int)")
    link.execute("INSERT INTO bench_one VALUES (0)")

    def once() -> None:
        link.execute("UPDATE bench_one SET n = n + 1", prepare=True)

    return once


def version() -> str:
    """The database and its version."""
    if connection.vendor == "sqlite":
        return f"SQLite {sqlite3.sqlite_version}"
    with connection.cursor() as cursor:
        cursor.execute("SHOW server_version")
        return f"PostgreSQL {cursor.fetchone()[0].split()[0]}"
