"""A database whose clock a test sets, and which need not survive a power cut."""

import pytest
from django.db import connection
from django.db.backends.signals import connection_created

from tests.support import clock as clocks


def _unsynced(*, connection, **_):
    """Processes die in these tests, not the machine: what was written is there, synced or not."""
    with connection.cursor() as cursor:
        cursor.execute("PRAGMA synchronous = OFF" if connection.vendor == "sqlite" else "SET synchronous_commit = off")


@pytest.fixture
def clock(transactional_db):
    connection_created.connect(_unsynced, dispatch_uid="unsynced")
    connection.close()
    with clocks.virtual() as clock:
        yield clock
    connection_created.disconnect(dispatch_uid="unsynced")
    connection.close()
