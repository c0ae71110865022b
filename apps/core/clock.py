"""Time as the database tells it: every deadline is set and judged by this one clock, never by a worker's."""

from datetime import UTC, datetime

from django.db import connection


def database_now() -> datetime:
    """The database's present time in UTC.

    SQLite's database runs in our own process, so there its clock is the host's.
    """
    if connection.vendor == "sqlite":
        return datetime.now(UTC)
    with connection.cursor() as cursor:
        cursor.execute("SELECT clock_timestamp()")
        now: datetime = cursor.fetchone()[0]
    return now if now.tzinfo else now.replace(tzinfo=UTC)
