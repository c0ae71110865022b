"""The facts of one moment, under bounded labels: what the database counted, and which series exist at all.

Execution ids never become labels. Workflows and steps that found no room share the label `other`, trackers the label
`tracker`, ad-hoc tasks the label `tasks`. Every series of a registered definition is there from the start, at 0:
`increase()` would miss a series that is born at 1, and the first failure would never alert.
"""

import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from uuid import UUID

from django.conf import settings

from apps.core.clock import database_now
from apps.monitoring.tracing import ids
from apps.workflows.models import Workflow
from apps.workflows.selectors import statistics
from apps.workflows.selectors.breakers import BreakerNow, breakers_now
from apps.workflows.selectors.estimates.outcomes import Outcomes, outcomes
from apps.workflows.selectors.outcomes import ERROR_TYPES, Outcome
from apps.workflows.selectors.statistics import EXECUTION_BOUNDS, STEP_BOUNDS, WAIT_BOUNDS, Agents, Backlog, Registered
from apps.workflows.services import counting

MAX_QUEUES = 100
MAX_BREAKERS = 100
OTHER = "other"
# Of what callers name as they go, without end.
SHARED: dict[str, str] = {Workflow.Kind.TRACKER.value: "tracker", Workflow.Kind.TASKS.value: "tasks"}
MAX_AGE_SECONDS = 1.0
STALLED_SECONDS = 600.0
EXAMPLES, EXAMPLE_TASKS = 50, 500

StepKey = tuple[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Exemplar:
    """One that fell into a bucket: its trace and span, how long it took, and when it ended (Unix time)."""

    trace_id: str
    span_id: str
    seconds: float
    at: float


@dataclass(slots=True)
class Durations:
    """A histogram: how many, how long together, and how many within each bound; `examples` by the bucket's place."""

    within: list[int]
    count: int = 0
    microseconds: int = 0
    examples: dict[int, Exemplar] = field(default_factory=dict)

    def add(self, outcome: Outcome) -> None:
        """Take the timed ones of `outcome` in."""
        self.count += outcome.timed
        self.microseconds += outcome.microseconds
        self.within = [mine + more for mine, more in zip(self.within, outcome.within, strict=True)]


@dataclass(slots=True, kw_only=True)
class Facts:
    """What was so when the database was read, at Unix time `at`. Keys are labels in the order of their family."""

    at: float
    executions: dict[tuple[str, str], int] = field(default_factory=dict)
    execution_seconds: dict[str, Durations] = field(default_factory=dict)
    steps: dict[tuple[str, str, str], int] = field(default_factory=dict)
    step_seconds: dict[StepKey, Durations] = field(default_factory=dict)
    retries: dict[StepKey, int] = field(default_factory=dict)
    wait_seconds: dict[str, Durations] = field(default_factory=dict)
    errors: dict[str, int] = field(default_factory=dict)
    overflow: int = 0
    concurrent_workflows: int = 0
    concurrent_steps: int = 0
    stalled_workflows: int = 0
    queues: dict[str, Backlog] = field(default_factory=dict)
    workers: dict[str, int] = field(default_factory=dict)
    breakers: list[BreakerNow] = field(default_factory=list)
    estimates: Outcomes = field(default_factory=outcomes)
    agents: Agents = field(default_factory=lambda: Agents(states={}, slots=0, used=0))
    figures: Mapping[str, float] = field(default_factory=dict)

    def show_workflow(self, label: str) -> None:
        """Have the series of a workflow exist."""
        if label not in self.execution_seconds:
            self.executions.update({(label, status): 0 for status in statistics.EXECUTION_OUTCOMES})
            self.execution_seconds[label] = Durations([0] * len(EXECUTION_BOUNDS))

    def show_step(self, key: StepKey) -> None:
        """Have the series of a step exist."""
        if key not in self.step_seconds:
            self.steps.update({(*key, status): 0 for status in statistics.STEP_OUTCOMES})
            self.step_seconds[key] = Durations([0] * len(STEP_BOUNDS))
            self.retries[key] = 0


class Labels:
    """Who has a label of his own: what the table says, and nothing that was read in between."""

    def __init__(self, workflows: Sequence[Registered], admitted: frozenset[tuple[UUID, str]]) -> None:
        self._admitted = admitted
        self.owners = {one.id: one for one in workflows if one.kind not in SHARED and (one.id, "") in admitted}
        self._shared = {one.id: SHARED[one.kind] for one in workflows if one.kind in SHARED}

    def of_workflow(self, workflow: UUID) -> str:
        """The label of a workflow."""
        if workflow in self._shared:
            return self._shared[workflow]
        owner = self.owners.get(workflow)
        return owner.slug if owner else OTHER

    def of_step(self, workflow: UUID, step: str) -> StepKey:
        """The labels of a step."""
        if workflow not in self.owners:
            label = self._shared.get(workflow, OTHER)
            return label, label
        return (self.owners[workflow].slug, step) if (workflow, step) in self._admitted else (OTHER, OTHER)


def gather() -> Facts:
    """Read the database now."""
    facts = Facts(at=time.time())
    workflows = statistics.registered()
    labels = Labels(workflows, statistics.labelled())
    definitions = statistics.steps_of([workflow.version_id for workflow in labels.owners.values()])
    queues = [statistics.DEFAULT_QUEUE]
    for workflow in workflows:
        facts.show_workflow(labels.of_workflow(workflow.id))
    for workflow in labels.owners.values():
        for step, queue in definitions[workflow.version_id]:
            facts.show_step(labels.of_step(workflow.id, step))
            queues.append(queue)
    facts.errors = dict.fromkeys((*ERROR_TYPES, OTHER), 0)
    _count_executions(facts, labels)
    _count_steps(facts, labels)
    facts.concurrent_workflows = statistics.executions_begun()
    facts.concurrent_steps = statistics.steps_performed()
    now = database_now()
    lease = settings.ENV.LEASE_SECONDS
    facts.stalled_workflows = statistics.stalled(now, seconds=STALLED_SECONDS).count()
    facts.queues = _queues(queues, statistics.backlogs(now))
    facts.breakers = breakers_now()[:MAX_BREAKERS]
    _count_waits(facts)
    facts.workers = dict(statistics.workers(now, lease_seconds=lease))
    facts.agents = statistics.agents(now, lease_seconds=lease)
    facts.figures = {counting.WORKERS_LOST: 0.0, counting.SCHEDULES_MISSED: 0.0, **statistics.figures()}
    if settings.ENV.DAGGER_TRACING_ENABLED:
        _give_examples(facts, labels)
    return facts


def _count_executions(facts: Facts, labels: Labels) -> None:
    for outcome in statistics.execution_outcomes(EXECUTION_BOUNDS):
        label = labels.of_workflow(outcome.workflow_id)
        facts.show_workflow(label)
        facts.executions[label, outcome.status] += outcome.count
        facts.execution_seconds[label].add(outcome)
        facts.overflow += outcome.count if label == OTHER else 0
        _count_errors(facts, outcome)


def _count_steps(facts: Facts, labels: Labels) -> None:
    for outcome in statistics.task_outcomes(STEP_BOUNDS):
        key = labels.of_step(outcome.workflow_id, outcome.step_id)
        facts.show_step(key)
        facts.retries[key] += outcome.retries
        if outcome.status:
            facts.steps[*key, outcome.status] += outcome.count
            facts.step_seconds[key].add(outcome)
            facts.overflow += outcome.count if key[1] == OTHER else 0
            _count_errors(facts, outcome)


def _count_errors(facts: Facts, outcome: Outcome) -> None:
    if outcome.error_type != "":
        known = outcome.error_type in facts.errors
        facts.errors[outcome.error_type if known and outcome.error_type else OTHER] += outcome.count


def _count_waits(facts: Facts) -> None:
    facts.wait_seconds = {queue: Durations([0] * len(WAIT_BOUNDS)) for queue in facts.queues}
    for outcome in statistics.waits(WAIT_BOUNDS):
        queue = outcome.step_id if outcome.step_id in facts.wait_seconds else OTHER
        facts.wait_seconds.setdefault(queue, Durations([0] * len(WAIT_BOUNDS))).add(outcome)


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
    for one in statistics.recent(EXAMPLES, EXAMPLE_TASKS):
        if not one.trace_id:
            continue
        bounds: Sequence[float]
        if one.task_id is None:
            durations, bounds = facts.execution_seconds.get(labels.of_workflow(one.workflow_id)), EXECUTION_BOUNDS
            span = ids.execution_span_id(one.trace_id)
        else:
            durations, bounds = facts.step_seconds.get(labels.of_step(one.workflow_id, one.step_id)), STEP_BOUNDS
            span = ids.attempt_span_id(str(one.task_id), one.attempt)
        place = next((place for place, bound in enumerate(bounds) if one.seconds <= bound), len(bounds))
        if durations is not None and place not in durations.examples:
            durations.examples[place] = Exemplar(
                trace_id=one.trace_id, span_id=f"{span:016x}", seconds=max(0.0, one.seconds), at=one.at.timestamp()
            )


class Cache:
    """The last facts, and one reader at a time: whoever asks meanwhile gets what that one brings."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._facts: Facts | None = None
        self._read_at = float("-inf")

    def get(self) -> Facts:
        """Facts that were at most a second old when they were asked for."""
        asked_at = time.monotonic()
        with self._lock:
            if self._facts is None or asked_at - self._read_at > MAX_AGE_SECONDS:
                began_at = time.monotonic()
                self._facts = gather()
                self._read_at = began_at
            return self._facts

    def forget(self) -> None:
        """Read anew at the next question."""
        with self._lock:
            self._facts, self._read_at = None, float("-inf")


cache = Cache()
