"""An installation with nothing to do: what it costs, and how soon it begins when there is something."""

import random
import time
from datetime import UTC, datetime

import psutil
from django.db import connection, transaction

from apps.workflows.models import Event
from benchmarks.executing import made, start, wait_for
from benchmarks.host import Installation
from benchmarks.shapes import SINGLE, Sizes


def idle(installation: Installation, sizes: Sizes) -> dict[str, float]:
    """CPU over some seconds, in percent of one core: of the server, of all workers, of the database's processes."""
    time.sleep(sizes.settle_seconds)
    before = _used(installation)
    time.sleep(sizes.idle_seconds)
    after = _used(installation)
    return {role: 100 * (after[role] - before[role]) / sizes.idle_seconds for role in before}


def _used(installation: Installation) -> dict[str, float]:
    used = {role: installation.cpu_seconds(role) for role in ("server", "worker")}
    if connection.vendor == "postgresql":
        used["database"] = _of_postgres()
    return used


def _of_postgres() -> float:
    """Of the server on this host and its processes; ended ones are counted with their parent."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        top = psutil.Process(cursor.fetchone()[0]).parent()
    if top is None:
        return 0.0
    times = [process.cpu_times() for process in (top, *top.children())]
    own = sum(one.user + one.system for one in times)
    return own + times[0].children_user + times[0].children_system


def latency(sizes: Sizes) -> list[float]:
    """Milliseconds from the commit that makes an execution to its first `task.started`, an idle moment before each."""
    workflow = made(SINGLE)
    chance = random.Random(1)
    wait_for([start(workflow).pk])
    committed: list[datetime] = []
    found = []
    for _ in range(sizes.latency):
        time.sleep(chance.uniform(0.05, 0.15))
        with transaction.atomic():
            transaction.on_commit(lambda: committed.append(datetime.now(UTC)))  # before the doorbell's own
            execution = start(workflow)
        wait_for([execution.pk])
        began = Event.objects.get(execution=execution, type="task.started").at
        found.append(1000 * (began - committed[-1]).total_seconds())
    return found
