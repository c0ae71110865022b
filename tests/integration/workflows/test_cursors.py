"""What a transaction of the ledger leaves behind disturbs no other one."""

import gc
import threading

import pytest
from django.db import connection

from apps.workflows.services.ledger import sql

pytestmark = pytest.mark.django_db

ROUNDS = 400
MANY = [(number,) for number in range(40)]


def test_a_cursor_that_another_thread_throws_away_disturbs_nobody():
    """Garbage is collected in any thread: it once reset a statement that its owner had begun to use again."""
    with connection.cursor() as cursor:
        cursor.execute("CREATE TEMPORARY TABLE garbage (number integer)")
    over = threading.Event()

    def collect():
        while not over.wait(0.0002):
            gc.collect(0)

    other = threading.Thread(target=collect)
    other.start()
    try:
        for _ in range(ROUNDS):
            with sql.statements() as cursor:
                cursor.executemany("INSERT INTO garbage VALUES (%s)", MANY)
            ring = [cursor]
            ring.append(ring)
    finally:
        over.set()
        other.join()
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM garbage")
        assert cursor.fetchone()[0] == ROUNDS * len(MANY)
