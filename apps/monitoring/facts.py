"""The facts of one moment: what the database counted, and which series exist at all."""

import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from django.conf import settings

from apps.core.clock import database_now
from apps.monitoring.sums import OTHER, Exemplar, Labels, Remembered, Sums
from apps.monitoring.tracing import ids
from apps.workflows.selectors import statistics
from apps.workflows.selectors.breakers import BreakerNow, breakers_now
from apps.workflows.selectors.estimates.outcomes import Outcomes, outcomes
from apps.workflows.selectors.statistics import EXECUTION_BOUNDS, STEP_BOUNDS, Agents, Backlog
from apps.workflows.services import counting

MAX_QUEUES = 100
MAX_BREAKERS = 100
MAX_AGE_SECONDS = 1.0
STALLED_SECONDS = 600.0
EXAMPLES, EXAMPLE_TASKS = 50, 500


@dataclass(slots=True, kw_only=True)
class Facts(Sums):
    """What was so when the database was read, at Unix time `at`. Keys are labels in the order of their family."""

    at: float
    concurrent_workflows: int = 0
    concurrent_steps: int = 0
    stalled_workflows: int = 0
    queues: dict[str, Backlog] = field(default_factory=dict)
    workers: dict[str, int] = field(default_factory=dict)
    breakers: list[BreakerNow] = field(default_factory=list)
    estimates: Outcomes = field(default_factory=outcomes)
    agents: Agents = field(default_factory=lambda: Agents(states={}, slots=0, used=0))
    figures: Mapping[str, float] = field(default_factory=dict)


def gather(remembered: Remembered | None = None) -> Facts:
    """Read the database now; what was `remembered` needs not be worked out again."""
    at = time.time()
    sums, labels, named = (remembered or Remembered()).read()
    now = database_now()
    lease = settings.ENV.LEASE_SECONDS
    queues = _queues(named, statistics.backlogs(now))
    facts = Facts(
        at=at, executions=sums.executions, execution_seconds=sums.execution_seconds, steps=sums.steps,
        step_seconds=sums.step_seconds, retries=sums.retries, errors=sums.errors, overflow=sums.overflow,
        wait_seconds=sums.waits_by(list(queues)), queues=queues,
        concurrent_workflows=statistics.executions_begun(), concurrent_steps=statistics.steps_performed(),
        stalled_workflows=statistics.stalled(now, seconds=STALLED_SECONDS).count(),
        breakers=breakers_now()[:MAX_BREAKERS], workers=dict(statistics.workers(now, lease_seconds=lease)),
        agents=statistics.agents(now, lease_seconds=lease),
        figures={counting.WORKERS_LOST: 0.0, counting.SCHEDULES_MISSED: 0.0, **statistics.figures()},
    )  # fmt: skip
    if settings.ENV.DAGGER_TRACING_ENABLED:
        _give_examples(facts, labels)
    return facts


def _queues(named: Iterable[str], found: Mapping[str, Backlog]) -> dict[str, Backlog]:
    shown = list(dict.fromkeys((*named, *sorted(found))))[:MAX_QUEUES]
    queues = {queue: found.get(queue, Backlog(depth=0, oldest_seconds=0.0)) for queue in shown}
    others = [backlog for queue, backlog in found.items() if queue not in queues]
    if others:
        depth, oldest = sum(backlog.depth for backlog in others), max(backlog.oldest_seconds for backlog in others)
        queues[OTHER] = Backlog(depth=depth, oldest_seconds=oldest)
    return queues


def _give_examples(facts: Facts, labels: Labels) -> None:
    """To each bucket the newest that fell into it, of those that ended last."""
    executions: dict[str, dict[int, Exemplar]] = {}
    steps: dict[tuple[str, str], dict[int, Exemplar]] = {}
    for one in statistics.recent(EXAMPLES, EXAMPLE_TASKS):
        if not one.trace_id:
            continue
        bounds: Sequence[float]
        if one.task_id is None:
            found, bounds = executions.setdefault(labels.of_workflow(one.workflow_id), {}), EXECUTION_BOUNDS
            span = ids.execution_span_id(str(one.execution_id))
        else:
            found, bounds = steps.setdefault(labels.of_step(one.workflow_id, one.step_id), {}), STEP_BOUNDS
            span = ids.attempt_span_id(str(one.task_id), one.attempt)
        place = next((place for place, bound in enumerate(bounds) if one.seconds <= bound), len(bounds))
        if place not in found:
            found[place] = Exemplar(
                trace_id=one.trace_id, span_id=f"{span:016x}", seconds=max(0.0, one.seconds), at=one.at.timestamp()
            )
    for label, examples in executions.items():
        if label in facts.execution_seconds:
            facts.execution_seconds[label] = replace(facts.execution_seconds[label], examples=examples)
    for key, examples in steps.items():
        if key in facts.step_seconds:
            facts.step_seconds[key] = replace(facts.step_seconds[key], examples=examples)


class Cache:
    """The last facts, and one reader at a time: whoever asks meanwhile gets what that one brings."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._remembered = Remembered()
        self._facts: Facts | None = None
        self._read_at = float("-inf")

    def get(self) -> Facts:
        """Facts that were at most a second old when they were asked for."""
        asked_at = time.monotonic()
        with self._lock:
            if self._facts is None or asked_at - self._read_at > MAX_AGE_SECONDS:
                began_at = time.monotonic()
                # What is remembered may be half of one reading and half of the next once that was broken off.
                remembered, self._remembered = self._remembered, Remembered()
                self._facts = gather(remembered)
                self._remembered = remembered
                self._read_at = began_at
            return self._facts

    def forget(self) -> None:
        """Read anew, and everything, at the next question."""
        with self._lock:
            self._facts, self._read_at, self._remembered = None, float("-inf"), Remembered()

    def expire(self) -> None:
        """Read anew at the next question, as if a second had passed."""
        with self._lock:
            self._read_at = float("-inf")


cache = Cache()
