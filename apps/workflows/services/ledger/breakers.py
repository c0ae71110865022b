"""Circuit breakers: asked at a claim, told by a report. `engine.breaker` decides; here are their rows.

A report inserts what is to be counted, in its own transaction, and fights over no row. It is counted (`fold`) right
after the commit where it may move the breaker, else by the sweep of any worker within a second or so. Whoever changes
a breaker holds the lock of its row, and no claim waits for that lock.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from django.db import connection, transaction

from apps.core.clock import database_now
from apps.workflows import signals
from apps.workflows.engine import breaker as rules
from apps.workflows.engine.breaker import WAITS, Call, Counted, Policy, State
from apps.workflows.engine.graph import Breaker, Graph
from apps.workflows.engine.states import Status
from apps.workflows.engine.types import Accept, Completed, Deferred, Failed, Happening, Lost, Unperformed
from apps.workflows.models import BreakerCall, BreakerMove, CircuitBreaker, Task
from apps.workflows.services.ledger.unit import Unit, unit_of

logger = logging.getLogger(__name__)

BUSY = timedelta(milliseconds=250)  # when another claim holds the breaker's row, ask again after this
AT_ONCE = 1000  # calls counted, and tasks woken, in one transaction
SUCCESS, FAILURE, REFUSED = "success", "failure", "refused"
_MOVING = ("state", "since", "reason", "probe_at", "probe", "half_since")
_COUNTING = ("calls", "failures", "calls_before", "failures_before")
_LOST = {"type": "lost"}
_TOTALS = {State.OPEN: "opened_total", State.HALF_OPEN: "half_opened_total", State.CLOSED: "closed_total"}


def attempt_of(task: UUID, fence: int) -> str:
    """The name of an attempt."""
    return f"{task}:{fence}"


# --- when a definition is saved ---------------------------------------------------------------------------------------


def make(graph: Graph, *, now: datetime) -> None:
    """Have the breakers of a graph's steps exist, with the thresholds that the definition gives."""
    wanted: dict[str, dict[str, float | int]] = {}
    for spec in graph.steps.values():
        for guard in spec.breakers:
            wanted.setdefault(guard.name, {}).update(_thresholds(guard))
    for name, given in sorted(wanted.items()):
        _, made = CircuitBreaker.objects.get_or_create(name=name, defaults={"since": now, "used_at": now, **given})
        if given and not made:
            CircuitBreaker.objects.filter(name=name, fixed=False).update(**given)


def _thresholds(guard: Breaker) -> dict[str, float | int]:
    given = {
        "open_failures": guard.failures,
        "open_ratio": guard.ratio,
        "window_seconds": guard.window_seconds,
        "open_seconds": guard.open_seconds,
    }
    return {name: value for name, value in given.items() if value is not None}


# --- at a report ------------------------------------------------------------------------------------------------------


def read(guards: Sequence[Breaker], happening: Happening, now: datetime) -> Happening:
    """A report as it is taken where a step has breakers: what was not even tried goes back into the line."""
    if not isinstance(happening, Failed) or not happening.error.get("retryable", True):
        return happening
    for guard in guards:
        if rules.outcome_of(guard, happening.error)[1]:
            return Unperformed(
                step_id=happening.step_id,
                fence=happening.fence,
                error=happening.error,
                until=now + timedelta(seconds=1),  # by then the breaker is open, and says for how long
                waiting_for=f"{WAITS}{guard.name}",
            )
    return happening


Told = tuple[Sequence[Breaker], UUID, Happening]
"""A report that was taken: the breakers of its step, its task, and what happened."""


def note(told: Iterable[Told]) -> frozenset[str]:
    """Insert what is to be counted of these reports; gives the breakers that open by it.

    After the commit those are counted that may move: with a failure, and those that are not closed.
    """
    calls: list[BreakerCall] = []
    for guards, task, happening in told:
        if not isinstance(happening, Completed | Failed | Lost):
            continue  # it says nothing about what the breaker guards
        error = None if isinstance(happening, Completed) else _LOST if isinstance(happening, Lost) else happening.error
        for guard in guards:
            if isinstance(happening, Lost) and not rules.outcome_of(guard, _LOST)[0]:
                continue  # how the call ended is not known, and whether its performer lives is not what this guards
            failed, conclusive = rules.outcome_of(guard, error)
            kind = str(error.get("type"))[:40] if failed and error else ""
            calls.append(
                BreakerCall(
                    breaker=guard.name,
                    result=FAILURE if failed else SUCCESS,
                    conclusive=conclusive,
                    attempt=attempt_of(task, happening.fence),
                    error_type=kind,
                )
            )
    if not calls:
        return frozenset()
    BreakerCall.objects.bulk_create(calls)
    failing = {call.breaker for call in calls if call.result == FAILURE}
    good = {call.breaker for call in calls} - failing
    transaction.on_commit(lambda: _after(failing, good), robust=True)
    return frozenset(call.breaker for call in calls if call.conclusive)


def _after(failing: set[str], good: set[str]) -> None:
    moving = CircuitBreaker.objects.filter(name__in=good).exclude(state=State.CLOSED) if good else ()
    for name in sorted({*failing, *(row.name for row in moving)}):
        fold(name)


# --- counting ---------------------------------------------------------------------------------------------------------


def fold(name: str) -> None:
    """Count the calls of a breaker that were recorded, all that are there."""
    more = True
    while more:
        with transaction.atomic():
            row = locked(name)
            more = count_into(row, database_now()) == AT_ONCE


def sweep() -> None:
    """Count what is left to be counted. Any worker does it, each second."""
    for name in BreakerCall.objects.order_by("breaker").values_list("breaker", flat=True).distinct():
        fold(name)


def locked(name: str) -> CircuitBreaker:
    """The row of a breaker under its lock, made where it is missing."""
    now = database_now()
    CircuitBreaker.objects.get_or_create(name=name, defaults={"since": now, "used_at": now})
    return CircuitBreaker.objects.select_for_update().get(name=name)


def count_into(row: CircuitBreaker, now: datetime) -> int:
    """Count the recorded calls of a breaker whose row is locked; gives how many rows that were."""
    calls = list(BreakerCall.objects.filter(breaker=row.name).order_by("pk")[:AT_ONCE])
    if not calls:
        return 0
    BreakerCall.objects.filter(pk__in=[call.pk for call in calls]).delete()
    policy, state = policy_of(row), counted_of(row)
    moves: list[Counted] = []
    sums = Counter[str]()
    for call in calls:
        sums[call.result] += call.count
        if call.result == REFUSED:
            continue
        failed = call.result == FAILURE
        row.error_type = call.error_type if failed else row.error_type
        after = rules.count(state, policy, Call(failed, call.conclusive, call.attempt), now)
        if after.state is not state.state:
            moves.append(after)
        state = after
    row.succeeded_total += sums[SUCCESS]
    row.failed_total += sums[FAILURE]
    row.refused_total += sums[REFUSED]
    row.used_at = now
    put(row, state, moves)
    return len(calls)


def put(row: CircuitBreaker, state: Counted, moves: Sequence[Counted], *, by: str = "", note: str = "") -> None:
    """Write a breaker whose row is locked, with the moves that led there; once it is closed, those in line come."""
    for name in (*_MOVING, *_COUNTING):
        setattr(row, name, getattr(state, name))
    row.state = state.state.value
    for move in moves:
        column = _TOTALS[move.state]
        setattr(row, column, getattr(row, column) + 1)
        logger.info("circuit breaker %s is %s: %s", row.name, move.state.value, move.reason)
    row.save()
    told = {"breaker": row.name, "by": by[:150], "note": note[:200]}
    BreakerMove.objects.bulk_create(
        [
            BreakerMove(at=move.since or row.since, to_state=move.state.value, reason=move.reason, **told)
            for move in moves
        ]
    )
    if moves and state.state is State.CLOSED:
        transaction.on_commit(lambda: wake(row.name), robust=True)


def policy_of(row: CircuitBreaker) -> Policy:
    """Its thresholds."""
    return Policy(
        failures=row.open_failures,
        ratio=row.open_ratio,
        window_seconds=row.window_seconds,
        open_seconds=row.open_seconds,
    )


def counted_of(row: CircuitBreaker) -> Counted:
    """What it has counted, and its state."""
    values = {name: getattr(row, name) for name in (*_MOVING, *_COUNTING)}
    return Counted(**{**values, "state": State(row.state)})


def wake(name: str) -> None:
    """Have the tasks that a breaker kept in line be claimable now. Without it they come when they were told to."""
    while True:
        now = database_now()
        waiting = Task.objects.filter(ready_at__gt=now, waiting_for=f"{WAITS}{name}")
        tasks: dict[UUID, list[str]] = {}
        for execution, step in waiting.values_list("execution_id", "step_id")[:AT_ONCE]:
            tasks.setdefault(execution, []).append(step)
        if not tasks:
            return
        moved = False
        with unit_of(tasks) as unit:
            unit.read((execution, step) for execution, steps in tasks.items() for step in steps)
            for execution, steps in tasks.items():
                held = unit.held.get(execution)
                for step in steps if held else ():
                    assert held is not None  # noqa: S101 (there are no steps then)
                    if held.tasks[step].waiting_for == f"{WAITS}{name}":
                        until = Deferred(step_id=step, until=unit.now, waiting_for="")
                        moved = isinstance(held.happen(until), Accept) or moved
                        held.claimed = True  # so that its place in line is mended
            unit.flush()
            signals.announce(executions=[], ready=True)
        if not moved:
            return


# --- at a claim -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Admitted:
    """A step may start, and is the probe of these breakers, whose rows are locked."""

    probes: tuple[CircuitBreaker, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """A step may not start before `until`: the breaker `name` is open."""

    name: str
    until: datetime


class Asking:
    """The breakers as one claim sees them: each is read once, and locked only where a probe may be due.

    `tripped` are those that open by this very transaction's reports.
    """

    def __init__(self, unit: Unit, tripped: frozenset[str]) -> None:
        self._now = unit.now
        self._kept: dict[str, datetime] = {name: unit.now + timedelta(seconds=1) for name in tripped}
        self._closed: set[str] = set()
        self._due: dict[str, CircuitBreaker] = {}
        self._refused: Counter[str] = Counter()

    def ask(self, guards: Sequence[Breaker]) -> Admitted | Kept:
        """Whether a step with these breakers may start now."""
        self._read([guard for guard in guards if guard.name not in self._closed | self._kept.keys() | self._due.keys()])
        for guard in guards:
            if guard.name in self._kept:
                self._refused[guard.name] += 1
                return Kept(name=guard.name, until=self._kept[guard.name])
        return Admitted(probes=tuple(self._due[guard.name] for guard in guards if guard.name in self._due))

    def start(self, probes: Sequence[CircuitBreaker], task: UUID, fence: int) -> None:
        """The step has started as the probe of these breakers: nobody else goes through before its result."""
        for row in probes:
            state = rules.probing(attempt_of(task, fence), self._now)
            put(row, state, [] if row.state == State.HALF_OPEN else [state])
            del self._due[row.name]
            self._kept[row.name] = self._now + timedelta(seconds=row.open_seconds)

    def end(self) -> None:
        """Record how often each refused."""
        if self._refused:
            refused = sorted(self._refused.items())
            BreakerCall.objects.bulk_create(
                [BreakerCall(breaker=name, result=REFUSED, count=count) for name, count in refused]
            )

    def _read(self, guards: Sequence[Breaker]) -> None:
        if not guards:
            return
        rows = CircuitBreaker.objects.in_bulk([guard.name for guard in guards])
        for guard in guards:
            row = rows.get(guard.name)
            if row is None:  # it was not used for so long that it was pruned
                make_one(guard, now=self._now)
            if row is None or row.state == State.CLOSED:
                self._closed.add(guard.name)
            elif row.state == State.OPEN and (row.probe_at is None or row.probe_at > self._now):
                self._kept[guard.name] = row.probe_at or self._now + timedelta(seconds=row.open_seconds)
            else:
                self._look_closer(guard.name)

    def _look_closer(self, name: str) -> None:
        """Under its lock; one that another claim holds is not waited for, so claims never wait for each other."""
        rows = CircuitBreaker.objects.filter(name=name)
        if connection.features.has_select_for_update:
            rows = rows.select_for_update(skip_locked=True)
        row = rows.first()
        if row is None:
            self._kept[name] = self._now + BUSY
            return
        count_into(row, self._now)
        until = rules.ask(counted_of(row), policy_of(row), self._now, probe_lives=_lives(row.probe))
        if until is not None:
            self._kept[name] = until
        elif row.state == State.CLOSED:
            self._closed.add(name)
        else:
            self._due[name] = row


def make_one(guard: Breaker, *, now: datetime) -> None:
    """Have a breaker exist."""
    CircuitBreaker.objects.get_or_create(name=guard.name, defaults={"since": now, "used_at": now, **_thresholds(guard)})


def _lives(probe: str) -> bool:
    """Whether the attempt that is the probe is under way."""
    task, _, fence = probe.rpartition(":")
    return bool(task) and Task.objects.filter(pk=task, fence=int(fence), status=Status.IN_PROGRESS).exists()
