"""Circuit breakers as they are now, what is not yet counted included."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from django.db.models import Sum

from apps.core.clock import database_now
from apps.workflows.engine import breaker as rules
from apps.workflows.engine.breaker import Counted, Policy, State
from apps.workflows.models import BreakerCall, BreakerMove, CircuitBreaker

MAX_BREAKERS = 1_000
MAX_MOVES = 50
RESULTS = ("success", "failure", "refused")


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerNow:
    """A breaker. `calls` and `failures` are those of its window, `calls_total` and `moves_total` since it was made."""

    name: str
    state: str
    since: datetime
    reason: str
    probe_at: datetime | None
    calls: int
    failures: int
    failure_ratio: float
    error_type: str
    policy: Policy
    fixed: bool
    calls_total: Mapping[str, int]
    moves_total: Mapping[str, int]
    used_at: datetime


def breakers_now(name: str | None = None) -> list[BreakerNow]:
    """All breakers, or the one of this name, by name."""
    rows = CircuitBreaker.objects.order_by("name") if name is None else CircuitBreaker.objects.filter(name=name)
    pending = BreakerCall.objects.all() if name is None else BreakerCall.objects.filter(breaker=name)
    sums = pending.values_list("breaker", "result").annotate(Sum("count")).order_by()
    waiting = {(breaker, result): count for breaker, result, count in sums}
    now = database_now()
    return [_told(row, waiting, now) for row in rows[:MAX_BREAKERS]]


def moves_of(name: str) -> list[BreakerMove]:
    """The last moves of a breaker, the newest first."""
    return list(BreakerMove.objects.filter(breaker=name).order_by("-pk")[:MAX_MOVES])


def _told(row: CircuitBreaker, waiting: Mapping[tuple[str, str], int], now: datetime) -> BreakerNow:
    policy = Policy(
        failures=row.open_failures,
        ratio=row.open_ratio,
        window_seconds=row.window_seconds,
        open_seconds=row.open_seconds,
    )
    window = rules.rolled(
        Counted(
            half_since=row.half_since,
            calls=row.calls,
            failures=row.failures,
            calls_before=row.calls_before,
            failures_before=row.failures_before,
        ),
        policy,
        now,
    )
    totals = (row.succeeded_total, row.failed_total, row.refused_total)
    return BreakerNow(
        name=row.name,
        state=row.state,
        since=row.since,
        reason=row.reason,
        probe_at=row.probe_at,
        calls=window.calls + window.calls_before,
        failures=window.failures + window.failures_before,
        failure_ratio=round(window.ratio, 4),
        error_type=row.error_type,
        policy=policy,
        fixed=row.fixed,
        calls_total={
            result: total + waiting.get((row.name, result), 0) for result, total in zip(RESULTS, totals, strict=True)
        },
        moves_total={
            State.CLOSED.value: row.closed_total,
            State.OPEN.value: row.opened_total,
            State.HALF_OPEN.value: row.half_opened_total,
        },
        used_at=row.used_at,
    )
