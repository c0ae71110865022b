"""A turn that PostgreSQL ends to break a deadlock is begun anew: nobody waits for it, and nothing is reported twice."""

import sys
import threading
import time

import pytest
from django.db import OperationalError, connection

from apps.workflows.models import Execution
from apps.workflows.services import executions
from apps.workflows.services.ledger import turn
from apps.workflows.services.ledger.memory import memory
from tests.integration.conftest import noop
from tests.integration.workflows.driver import accepted, check_rows, done, wanted

pytestmark = pytest.mark.django_db(transaction=True)

LOCK = "SELECT 1 FROM workflows_execution WHERE id = %s FOR UPDATE"


@pytest.fixture
def two_claimed(make_workflow, owner):
    """One claimed task of each of two executions, in the order in which their rows are locked."""
    for _ in range(2):
        executions.start(make_workflow([noop("a"), noop("b", "a")]), by=owner)
    tasks = sorted(accepted(then=wanted(2)).claimed, key=lambda task: task.execution_id)
    memory.forget()
    assert len({task.execution_id for task in tasks}) == 2
    return tasks


def stranger(first, then):
    """Locks one row and, once somebody waits for it, another: in the wrong order, and patient enough to survive."""
    link = connection.copy()
    link.inc_thread_sharing()
    locked = threading.Event()

    def run():
        with link.cursor() as cursor:
            cursor.execute("BEGIN")
            cursor.execute("SET LOCAL deadlock_timeout = '300s'")
            cursor.execute(LOCK, [first])
            locked.set()
            until_somebody_waits(cursor)
            cursor.execute(LOCK, [then])
            cursor.execute("ROLLBACK")
        link.close()

    thread = threading.Thread(target=run)
    thread.start()
    assert locked.wait(60)
    return thread


def until_somebody_waits(cursor):
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        cursor.execute("SELECT 1 FROM pg_stat_activity WHERE pg_backend_pid() = ANY(pg_blocking_pids(pid))")
        if cursor.fetchone():
            return
        time.sleep(0.01)


def test_a_turn_that_lost_a_deadlock_is_begun_anew(two_claimed):
    if connection.vendor == "sqlite":
        return  # it has one writer at a time
    one, two = two_claimed
    thread = stranger(two.execution_id, one.execution_id)
    try:
        result = accepted(done(one), done(two), then=wanted(2))
    finally:
        thread.join(60)
    assert {task.step_id for task in result.claimed} == {"b"}
    assert len(result.claimed) == 2
    accepted(*map(done, result.claimed), then=wanted(2))
    for task in two_claimed:
        check_rows(Execution.objects.get(pk=task.execution_id))


def test_it_gives_up_after_three_deadlocks_and_lets_the_worker_wait(two_claimed, monkeypatch):
    class DeadlockDetected(Exception):
        pass

    tries = []

    def refuse(*_):
        tries.append(1)
        raise OperationalError("deadlock detected") from DeadlockDetected()

    monkeypatch.setattr(sys.modules[turn.__module__], "unit_of", refuse)
    with pytest.raises(OperationalError, match="deadlock"):
        accepted(done(two_claimed[0]), then=wanted(1))
    assert len(tries) == 3
