"""A storm over an installation: load and faults for some seconds, then quiet until all has ended, then the verdict."""

import json
import random
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

from django.db import Error, connection

from apps.accounts.models import User
from apps.workers.chaos.faults import Faults, Struck
from apps.workers.chaos.load import Load
from apps.workflows.models import Event, Task
from apps.workflows.selectors.invariants import verdict
from apps.workflows.services.ledger.claim import SUSPECT_AFTER

TICK_SECONDS = 0.2
QUIET_WITHIN = 120.0  # seconds after the last fault, besides the lease


@dataclass(slots=True)
class Report:
    """What was done and what came of it. Times are in seconds.

    `recovery_…` tell within what time steps that were lost were begun again, `held_back_max` the same of those that
    were lost so often that they waited for an idle performer.
    """

    seed: int
    seconds: float = 0.0
    executions: int = 0
    steps: int = 0
    events: int = 0
    attempts: int = 0
    refused: int = 0
    kills: int = 0
    stops: int = 0
    server_kills: int = 0
    lost: int = 0
    recovery_p99: float = 0.0
    recovery_max: float = 0.0
    held_back_max: float = 0.0
    quiet_after: float = 0.0
    violations: list[str] = field(default_factory=list)
    zombie: list[str] = field(default_factory=list)

    def as_json(self) -> str:
        """For a ledger."""
        return json.dumps(asdict(self))


def run(*, by: User, seconds: float, seed: int, lease_seconds: float, say: Callable[[str], None]) -> Report:
    """Hurt the installation of this process's database, and look. It must have workers, or nothing will end."""
    rng = random.Random(seed)  # noqa: S311 (no secret)
    load, faults = Load(by, rng), Faults(rng, lease_seconds=lease_seconds, say=say)
    load.prepare()
    began = time.monotonic()
    try:
        while time.monotonic() - began < seconds:
            load.start()
            faults.strike()
            time.sleep(TICK_SECONDS)
    finally:
        faults.wake()
    quiet = time.monotonic()
    left = _until_quiet(load, lease_seconds + QUIET_WITHIN)
    silent = _until_answered(faults, QUIET_WITHIN)
    report = Report(seed=seed, seconds=round(seconds, 1), refused=load.refused)
    report.quiet_after = round(time.monotonic() - quiet, 1)
    _judge(report, load, faults.struck, lease_seconds)
    if left:
        report.violations.append(f"I9 {left} executions have not ended {report.quiet_after:g} s after the last fault")
    report.violations += [f"the server that was killed at {address} was not started again" for address in silent]
    return report


def _until_quiet(load: Load, limit: float) -> int:
    deadline, left = time.monotonic() + limit, len(load.acknowledged)
    while left and time.monotonic() < deadline:
        time.sleep(0.5)
        try:
            left = load.left()
        except Error:
            connection.close()
    return left


def _until_answered(faults: Faults, limit: float) -> list[str]:
    """Whoever ran this finds the installation as it was. Gives the addresses where it is not."""
    deadline = time.monotonic() + limit
    while (silent := faults.silent()) and time.monotonic() < deadline:
        time.sleep(0.2)
    return silent


def _judge(report: Report, load: Load, struck: Struck, lease_seconds: float) -> None:
    told = verdict(overdue=lease_seconds + 10)
    report.executions, report.events = len(load.acknowledged), told.events
    mine = Task.objects.filter(execution__in=load.acknowledged)
    report.steps = mine.count()
    report.attempts = sum(mine.values_list("fence", flat=True))
    report.kills, report.stops, report.server_kills = struck.kills, struck.stops, struck.server_kills
    report.violations = [f"{one.invariant} {one.execution_id}: {one.what}" for one in told.violations]
    report.violations += load.broken_promises()
    recoveries, held_back = _recoveries(load, struck)
    report.lost = len(recoveries) + len(held_back)
    if recoveries:
        report.recovery_max = round(recoveries[-1], 2)
        report.recovery_p99 = round(recoveries[int(len(recoveries) * 0.99) - (len(recoveries) == 1)], 2)
    if held_back:
        report.held_back_max = round(held_back[-1], 2)
    report.zombie = _zombie(struck)


def _recoveries(load: Load, struck: Struck) -> tuple[list[float], list[float]]:
    """Of each step that was lost with its performer: seconds from the blow until another began it.

    Apart are those that were lost `SUSPECT_AFTER` times: they wait for an idle performer, so as to harm no other.
    """
    found: tuple[list[float], list[float]] = ([], [])
    losses = Counter[tuple[Any, str]]()
    for event in Event.objects.filter(type="task.lost", execution__in=load.acknowledged).order_by("seq"):
        losses[event.execution_id, event.step_id] += 1
        at = struck.moments.get(str(event.data.get("performer")))
        again = Event.objects.filter(
            execution=event.execution_id, step_id=event.step_id, type="task.started", seq__gt=event.seq
        ).first()
        if at is not None and again is not None:
            suspect = losses[event.execution_id, event.step_id] >= SUSPECT_AFTER
            found[suspect].append(max(0.0, again.at.timestamp() - at))
    return sorted(found[0]), sorted(found[1])


def _zombie(struck: Struck) -> list[str]:
    """The journal of an execution whose step was taken from a stopped worker: its lines about that step."""
    lost = Event.objects.filter(type="task.lost", data__performer__in=struck.zombies).first()
    if lost is None:
        return []
    lines: list[Any] = list(Event.objects.filter(execution=lost.execution_id, step_id=lost.step_id).order_by("seq"))
    return [
        f"{line.at:%H:%M:%S.%f}"[:-3]
        + f"  {line.seq:>3} {line.type:<16} attempt {line.data.get('attempt')}  {line.data.get('performer', '')}"
        for line in lines
    ]
