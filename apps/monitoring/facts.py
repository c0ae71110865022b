"""The facts of one moment, under bounded labels: what the database counted, and which series exist at all.

Execution ids never become labels. Workflows and steps beyond the caps share the label `other`, trackers the label
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
from apps.workflows.models import Workflow
from apps.workflows.selectors import statistics
from apps.workflows.selectors.breakers import BreakerNow, breakers_now
from apps.workflows.selectors.outcomes import ERROR_TYPES, Outcome
from apps.workflows.selectors.statistics import EXECUTION_BOUNDS, STEP_BOUNDS, Backlog, Registered

MAX_WORKFLOWS = 200
MAX_STEPS = 1_000
MAX_QUEUES = 100
MAX_BREAKERS = 100
OTHER = "other"
# Of what callers name as they go, without end.
SHARED: dict[str, str] = {Workflow.Kind.TRACKER.value: "tracker", Workflow.Kind.TASKS.value: "tasks"}
MAX_AGE_SECONDS = 1.0

StepKey = tuple[str, str]


@dataclass(slots=True)
class Durations:
    """A histogram: how many, how long together, and how many within each bound."""

    within: list[int]
    count: int = 0
    microseconds: int = 0

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
    errors: dict[str, int] = field(default_factory=dict)
    concurrent_workflows: int = 0
    concurrent_steps: int = 0
    queues: dict[str, Backlog] = field(default_factory=dict)
    workers: dict[str, int] = field(default_factory=dict)
    breakers: list[BreakerNow] = field(default_factory=list)

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
    """Who has a label of his own. Workflows in the order they were made, then their steps, as long as there is room."""

    def __init__(self, workflows: Sequence[Registered]) -> None:
        own = [workflow for workflow in workflows if workflow.kind not in SHARED][:MAX_WORKFLOWS]
        self.owners = {workflow.id: workflow for workflow in own}
        self._shared = {workflow.id: SHARED[workflow.kind] for workflow in workflows if workflow.kind in SHARED}
        self._steps: set[StepKey] = set()

    def of_workflow(self, workflow: UUID) -> str:
        """The label of a workflow."""
        if workflow in self._shared:
            return self._shared[workflow]
        owner = self.owners.get(workflow)
        return owner.slug if owner else OTHER

    def of_step(self, workflow: UUID, step: str) -> StepKey:
        """The labels of a step; asking admits it while there is room."""
        label = self.of_workflow(workflow)
        if workflow not in self.owners:
            return label, label
        key = (label, step)
        if key not in self._steps:
            if len(self._steps) >= MAX_STEPS:
                return OTHER, OTHER
            self._steps.add(key)
        return key


def gather() -> Facts:
    """Read the database now."""
    facts = Facts(at=time.time())
    workflows = statistics.registered()
    labels = Labels(workflows)
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
    facts.queues = _queues(queues, statistics.backlogs(now))
    facts.breakers = breakers_now()[:MAX_BREAKERS]
    facts.workers = dict(statistics.workers(now, lease_seconds=settings.ENV.LEASE_SECONDS))
    return facts


def _count_executions(facts: Facts, labels: Labels) -> None:
    for outcome in statistics.execution_outcomes(EXECUTION_BOUNDS):
        label = labels.of_workflow(outcome.workflow_id)
        facts.show_workflow(label)
        facts.executions[label, outcome.status] += outcome.count
        facts.execution_seconds[label].add(outcome)
        _count_errors(facts, outcome)


def _count_steps(facts: Facts, labels: Labels) -> None:
    for outcome in statistics.task_outcomes(STEP_BOUNDS):
        key = labels.of_step(outcome.workflow_id, outcome.step_id)
        facts.show_step(key)
        facts.retries[key] += outcome.retries
        if outcome.status:
            facts.steps[*key, outcome.status] += outcome.count
            facts.step_seconds[key].add(outcome)
            _count_errors(facts, outcome)


def _count_errors(facts: Facts, outcome: Outcome) -> None:
    if outcome.error_type != "":
        known = outcome.error_type in facts.errors
        facts.errors[outcome.error_type if known and outcome.error_type else OTHER] += outcome.count


def _queues(named: Iterable[str], found: Mapping[str, Backlog]) -> dict[str, Backlog]:
    shown = list(dict.fromkeys((*named, *sorted(found))))[:MAX_QUEUES]
    queues = {queue: found.get(queue, Backlog(depth=0, oldest_seconds=0.0)) for queue in shown}
    others = [backlog for queue, backlog in found.items() if queue not in queues]
    if others:
        depth, oldest = sum(backlog.depth for backlog in others), max(backlog.oldest_seconds for backlog in others)
        queues[OTHER] = Backlog(depth=depth, oldest_seconds=oldest)
    return queues


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
