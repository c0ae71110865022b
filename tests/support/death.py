"""Dying at a chosen moment: before or after the n-th commit, or before the n-th ring of a doorbell.

A death is SIGKILL to the process itself. `UNANSWERED` is the fault that no death is: the commit is done, and its
answer does not arrive.
"""

import contextlib
import os
import re
import signal
import time
from enum import Enum

from django.db import OperationalError, connection, connections

from apps.core import bell

_WRITES = re.compile(r"\s*(INSERT|UPDATE|DELETE|WITH)\b", re.IGNORECASE)
_NOT_OURS = ("virtual.clock",)


class Cut(Enum):
    """Where it happens."""

    BEFORE_COMMIT = "before commit"
    AFTER_COMMIT = "after commit"
    BEFORE_RING = "before ring"
    UNANSWERED = "unanswered commit"


class Fault:
    """Counts the moments that have passed, and strikes at the n-th of its kind (from 1); with n = 0 never."""

    def __init__(self, cut, number, strike=None):
        self.cut, self.number = cut, number
        self.commits = self.rings = 0
        self.struck = False
        self._strike = strike or _die

    def _hit(self, cut, count):
        if cut is self.cut and count == self.number:
            self.struck = True
            self._strike()

    def commit(self, really):
        """A commit is about to be done."""
        self.commits += 1
        count = self.commits
        self._hit(Cut.BEFORE_COMMIT, count)
        answer = really()
        self._hit(Cut.AFTER_COMMIT, count)
        if self.cut is Cut.UNANSWERED and count == self.number:
            self.struck = True
            raise OperationalError("the answer to the commit was lost")
        return answer

    def ring(self, really, *values):
        """A doorbell is about to be rung."""
        self.rings += 1
        self._hit(Cut.BEFORE_RING, self.rings)
        return really(*values)

    @contextlib.contextmanager
    def installed(self):
        """Under way for every commit of this process, single statements outside transactions as well."""
        kind = type(connections["default"])
        commit, ring = kind._commit, bell.ring

        def single(execute, sql, params, many, context):
            if context["connection"].in_atomic_block or not _WRITES.match(sql) or any(n in sql for n in _NOT_OURS):
                return execute(sql, params, many, context)
            return self.commit(lambda: execute(sql, params, many, context))

        kind._commit = lambda wrapper: self.commit(lambda: commit(wrapper))
        bell.ring = lambda *values: self.ring(ring, *values)
        try:
            with connection.execute_wrapper(single), at_once(self.commit):
                yield self
        finally:
            kind._commit, bell.ring = commit, ring


@contextlib.contextmanager
def at_once(commit):
    """`commit(really)` is called for what the ledger writes in one statement, which is a transaction of its own.

    That goes past Django, by a plain cursor of psycopg's (SQLite has no such way).
    """
    if connection.vendor != "postgresql":
        yield
        return
    import psycopg

    before = psycopg.Cursor.execute

    def execute(cursor, query, *values, **named):
        def really():
            return before(cursor, query, *values, **named)

        alone = type(cursor) is psycopg.Cursor and cursor.connection is connection.connection
        if not alone or connection.in_atomic_block or not _WRITES.match(str(query)):
            return really()
        return commit(really)

    psycopg.Cursor.execute = execute
    try:
        yield
    finally:
        psycopg.Cursor.execute = before


def _die():
    os.kill(os.getpid(), signal.SIGKILL)


def _until_alone(seconds=60.0):
    """Until PostgreSQL has noticed that the dead is gone, and has undone what it had open.

    That takes a moment of the host's clock, in which by a virtual one any time may pass.
    """
    if connection.vendor != "postgresql":
        return
    deadline = time.monotonic() + seconds
    with connection.cursor() as cursor:
        while True:
            cursor.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
                " AND pid <> pg_backend_pid() AND xact_start IS NOT NULL AND backend_type = 'client backend'"
            )
            if not cursor.fetchone()[0]:
                return
            assert time.monotonic() < deadline, "a transaction of the dead goes on"
            time.sleep(0.005)


def in_a_fork(act):
    """Call `act` in a process of its own; gives whether it died. What it raises is printed, and raised here."""
    connection.close()
    bell.close()
    child = os.fork()
    if child == 0:
        try:
            act()
            os._exit(0)
        except BaseException:
            import traceback

            traceback.print_exc()
        finally:
            os._exit(70)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        _until_alone()
        return True
    assert os.WEXITSTATUS(status) == 0, "the process failed; see its traceback"
    return False
