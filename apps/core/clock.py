"""Time as the database tells it: every deadline is set and judged by this one clock, never by a worker's."""

import time
from datetime import UTC, datetime, timedelta

from django.db import connection

BELIEVED_SECONDS = 5.0
"""How long a reading is carried on. Steady clocks of two hosts part by less than 0.1 ms a second (100 ppm)."""


def database_now() -> datetime:
    """The database's present time in UTC.

    SQLite's database runs in our own process, so there its clock is the host's.
    """
    if connection.vendor == "sqlite":
        return datetime.now(UTC)
    with connection.cursor() as cursor:
        cursor.execute("SELECT clock_timestamp()")
        return sample(cursor.fetchone()[0])


def carried_now() -> datetime:
    """The database's present time in UTC without asking it again: what it told lately, carried on by the steady clock.

    Never ahead of the database's own, and behind it by at most the time that the last answer took to arrive. The host's
    wall clock plays no part. A reading older than `BELIEVED_SECONDS` is taken anew.
    """
    if connection.vendor == "sqlite":
        return datetime.now(UTC)
    told, at = _reading
    passed = time.monotonic() - at
    return told + timedelta(seconds=passed) if passed < BELIEVED_SECONDS else database_now()


def sample(told: datetime) -> datetime:
    """Take in a time that has just arrived from the database; gives it in UTC.

    Each is behind by the time that it took to arrive, so the one that is ahead of the others is the best.
    """
    global _reading  # noqa: PLW0603 (one clock a process, as there is one database)
    moment, at = told.astimezone(UTC) if told.tzinfo else told.replace(tzinfo=UTC), time.monotonic()
    best, since = _reading
    passed = at - since
    if passed > BELIEVED_SECONDS or moment >= best + timedelta(seconds=passed):
        _reading = (moment, at)
    return moment


_reading = (datetime.min.replace(tzinfo=UTC), float("-inf"))
