"""Is this installation able to work: the checks behind `/monitoring/health/ready`, each timed, with its reason."""

import select
import time
from collections.abc import Callable
from dataclasses import dataclass

import psutil
from django.conf import settings
from django.core.cache import cache
from django.db import Error, connection

from apps.core import bell
from apps.core.clock import database_now
from apps.workflows.selectors import statistics
from apps.workflows.services import counting

LEAST_FREE_BYTES = 64 * 1024 * 1024
"""Under this SQLite cannot be relied on to finish a checkpoint, nor a step to write its artifacts."""

BELL_SECONDS = 1.0
SCHEDULER_SECONDS = 60.0
"""As of the alert `SchedulerStalled`."""
_BELL = "health"


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One thing that was looked at. Where it is not `required`, the server is of use without it."""

    name: str
    ok: bool
    required: bool
    seconds: float
    reason: str


def checks() -> list[Check]:
    """Look at everything; nothing raises."""
    return [
        _look("database", _database),
        _look("disk", _disk),
        # Not required: whoever does not hear a bell looks by himself a second later.
        _look("channel_layer", _channel_layer, required=False),
        _look("scheduler", _scheduler, required=False),
        # Not required: without workers the server still accepts, shows and cancels; taking it out of the balancer
        # would turn a backlog into an outage.
        _look("workers", _workers, required=False),
    ]


def is_ready(found: list[Check]) -> bool:
    """Whether requests should be sent here."""
    return all(check.ok for check in found if check.required)


def _look(name: str, question: Callable[[], tuple[bool, str]], *, required: bool = True) -> Check:
    began = time.perf_counter()
    try:
        ok, reason = question()
    except Error as error:
        # The next question gets a connection that works; the error's text may name hosts and users, its type does not.
        if not connection.in_atomic_block:
            connection.close()
        ok, reason = False, f"the database does not answer ({type(error).__name__})"
    except OSError as error:
        ok, reason = False, f"{error.strerror or type(error).__name__}"
    return Check(name=name, ok=ok, required=required, seconds=round(time.perf_counter() - began, 6), reason=reason)


def _database() -> tuple[bool, str]:
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
        cursor.fetchone()
    return True, f"{connection.vendor} answers"


def _disk() -> tuple[bool, str]:
    free = psutil.disk_usage(str(settings.DATA_DIR)).free
    text = f"{free // (1024 * 1024):,} MiB free in the data directory"
    return free >= LEAST_FREE_BYTES, text


def _channel_layer() -> tuple[bool, str]:
    """A doorbell is rung and must be heard; where there is a shared cache, it must answer."""
    if settings.ENV.REDIS_URL:
        try:
            cache.get("monitoring.health")
        except Exception as error:  # of whichever client the cache has
            return False, f"the shared cache does not answer ({type(error).__name__})"
    listener = bell.listen(_BELL)
    try:
        deadline = time.monotonic() + BELL_SECONDS
        while time.monotonic() < deadline:
            bell.ring(_BELL)
            if select.select([listener], [], [], 0.1)[0] and any(ring.topic == _BELL for ring in listener.read()):
                return True, "a doorbell that was rung was heard"
    finally:
        listener.close()
    return False, f"a doorbell was not heard within {BELL_SECONDS:g} s; whoever waits looks each second"


def _scheduler() -> tuple[bool, str]:
    tick = statistics.figures().get(counting.SCHEDULER_TICK)
    if tick is None:
        return False, "no worker has looked for due schedules yet"
    seconds = max(0.0, database_now().timestamp() - tick)
    return seconds <= SCHEDULER_SECONDS, f"a worker looked for due schedules {seconds:.0f} s ago"


def _workers() -> tuple[bool, str]:
    seconds = settings.ENV.LEASE_SECONDS
    counted = statistics.workers(database_now(), lease_seconds=seconds)
    text = ", ".join(f"{number} {state}" for state, number in counted.items())
    return counted["live"] > 0, f"{text}; lost means silent for {seconds:g} s"
