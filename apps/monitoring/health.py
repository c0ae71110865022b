"""Is this installation able to work: the checks behind `/monitoring/health/ready`, each timed, with its reason."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import psutil
from django.conf import settings
from django.db import Error, connection

from apps.core.clock import database_now
from apps.workflows.selectors import statistics

LEAST_FREE_BYTES = 64 * 1024 * 1024
"""Under this SQLite cannot be relied on to finish a checkpoint, nor a step to write its artifacts."""


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


def _workers() -> tuple[bool, str]:
    seconds = settings.ENV.LEASE_SECONDS
    counted = statistics.workers(database_now(), lease_seconds=seconds)
    text = ", ".join(f"{number} {state}" for state, number in counted.items())
    return counted["live"] > 0, f"{text}; lost means silent for {seconds:g} s"
