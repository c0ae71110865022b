"""The database's clock as a test sets it: far from the host's, standing still until it is moved, the same in a fork.

On SQLite the database's clock is that of the process. On PostgreSQL its functions are shadowed by some of ours, which
come first in the search path and read a table. Whatever asks another clock is some years off, and is noticed.
"""

import contextlib
import mmap
import struct
from datetime import UTC, datetime, timedelta

from django.db import connection
from django.db.backends.signals import connection_created

from apps.core import clock as core
from apps.workflows.services.ledger import lanes

EPOCH = datetime(2041, 3, 1, 12, tzinfo=UTC)
_FUNCTIONS = ("clock_timestamp", "now", "statement_timestamp", "transaction_timestamp")


class Clock:
    """Seconds since `EPOCH`, in memory that forks share."""

    def __init__(self):
        self._memory = mmap.mmap(-1, 8)
        self.set(0.0)

    @property
    def seconds(self):
        return struct.unpack("d", self._memory[:8])[0]

    @property
    def now(self):
        return EPOCH + timedelta(seconds=self.seconds)

    def set(self, seconds):
        self._memory[:8] = struct.pack("d", seconds)

    def advance(self, seconds):
        """Move on; to be called outside a transaction."""
        self.set(self.seconds + seconds)
        if connection.vendor == "postgresql":
            with connection.cursor() as cursor:
                cursor.execute("UPDATE virtual.clock SET now = %s", [self.now])


class _Time:
    """What `core.clock` and `ledger.lanes` take for `time`: the steady clock stands still, and moves with the other."""

    def __init__(self, clock):
        self._clock = clock

    def monotonic(self):
        return 1e6 + self._clock.seconds


class _Datetime(datetime):
    """What `apps.core.clock` takes for `datetime`."""

    clock = None

    @classmethod
    def now(cls, tz=None):
        return cls.clock.now.astimezone(tz)


@contextlib.contextmanager
def virtual():
    """A clock that this process's database goes by. Not within a transaction."""
    clock = Clock()
    with _steady(clock), _SHADOWED[connection.vendor](clock):
        yield clock


@contextlib.contextmanager
def _steady(clock):
    """What is remembered for a while is remembered by this clock: by the host's, two equal histories would differ."""
    before = [(module, module.time) for module in (core, lanes)]
    lanes.forget()
    for module, _ in before:
        module.time = _Time(clock)
    try:
        yield
    finally:
        for module, time in before:
            module.time = time
        lanes.forget()


@contextlib.contextmanager
def _on_sqlite(clock):
    before, core.datetime, _Datetime.clock = core.datetime, _Datetime, clock
    try:
        yield
    finally:
        core.datetime = before


@contextlib.contextmanager
def _on_postgres(clock):
    with connection.cursor() as cursor:
        cursor.execute("DROP SCHEMA IF EXISTS virtual CASCADE; CREATE SCHEMA virtual")
        cursor.execute("CREATE TABLE virtual.clock (now timestamptz)")
        cursor.execute("INSERT INTO virtual.clock VALUES (%s)", [clock.now])
        for name in _FUNCTIONS:
            cursor.execute(
                f"CREATE FUNCTION virtual.{name}() RETURNS timestamptz LANGUAGE sql VOLATILE"
                " AS 'SELECT now FROM virtual.clock'"
            )
    connection_created.connect(_look_there_first, dispatch_uid="virtual clock")
    connection.close()
    reading = core._reading
    core._reading = (datetime.min.replace(tzinfo=UTC), float("-inf"))
    try:
        yield
    finally:
        core._reading = reading
        connection_created.disconnect(dispatch_uid="virtual clock")
        with connection.cursor() as cursor:
            cursor.execute("RESET search_path; DROP SCHEMA virtual CASCADE")
        connection.close()


_SHADOWED = {"sqlite": _on_sqlite, "postgresql": _on_postgres}


def _look_there_first(*, connection, **_):
    with connection.cursor() as cursor:
        cursor.execute("SET search_path = virtual, public, pg_catalog")
