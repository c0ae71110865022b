"""What has ended, summed up under bounded labels; of the totals in the database only what differs is worked out again.

Execution ids never become labels. Workflows and steps that found no room share the label `other`, trackers the label
`tracker`, ad-hoc tasks the label `tasks`. Every series of a registered definition is there from the start, at 0:
`increase()` would miss a series that is born at 1, and the first failure would never alert.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from operator import add, sub
from typing import Self
from uuid import UUID

from apps.workflows.models import OutcomeTotal, Workflow
from apps.workflows.selectors import statistics
from apps.workflows.selectors.outcomes import ERROR_TYPES, Heir, Outcome, TotalRow, of_total
from apps.workflows.selectors.statistics import BOUNDS, EXECUTION_BOUNDS, STEP_BOUNDS, WAIT_BOUNDS, Registered, Tallies

OTHER = "other"
# Of what callers name as they go, without end.
SHARED: dict[str, str] = {Workflow.Kind.TRACKER.value: "tracker", Workflow.Kind.TASKS.value: "tasks"}

StepKey = tuple[str, str]
What = OutcomeTotal.What


@dataclass(frozen=True, slots=True, kw_only=True)
class Exemplar:
    """One that fell into a bucket: its trace and span, how long it took, and when it ended (Unix time)."""

    trace_id: str
    span_id: str
    seconds: float
    at: float


@dataclass(frozen=True, slots=True)
class Durations:
    """A histogram: how many, how long together, and how many within each bound; `examples` by the bucket's place.

    A change is a new value, so that whoever has written one down sees by it whether it is still what it was.
    """

    within: list[int]
    count: int = 0
    microseconds: int = 0
    examples: Mapping[int, Exemplar] = field(default_factory=dict)

    def changed(self, outcome: Outcome, sign: int) -> "Durations":
        """With the timed ones of `outcome` taken in (1), or out again (-1)."""
        combined = add if sign > 0 else sub
        return Durations(
            list(map(combined, self.within, outcome.within)),
            self.count + sign * outcome.timed,
            self.microseconds + sign * outcome.microseconds,
        )


_NO_EXECUTIONS, _NO_STEPS, _NO_WAITS = (Durations([0] * len(b)) for b in (EXECUTION_BOUNDS, STEP_BOUNDS, WAIT_BOUNDS))


class Labels:
    """Who has a label of his own: what the table says, and nothing that was read in between."""

    def __init__(self, workflows: Sequence[Registered], admitted: frozenset[tuple[str, str]]) -> None:
        self._admitted = {(UUID(workflow), step) for workflow, step in admitted}
        owning = {workflow for workflow, step in self._admitted if not step}
        self.owners = {one.id: one for one in workflows if one.kind not in SHARED and one.id in owning}
        self._shared = {one.id: SHARED[one.kind] for one in workflows if one.kind in SHARED}
        self._shared |= {
            Heir.TRACKER: SHARED[Workflow.Kind.TRACKER.value], Heir.TASKS: SHARED[Workflow.Kind.TASKS.value]
        }  # fmt: skip

    def of_workflow(self, workflow: UUID) -> str:
        """The label of a workflow."""
        if workflow in self._shared:
            return self._shared[workflow]
        owner = self.owners.get(workflow)
        return owner.slug if owner else OTHER

    def of_step(self, workflow: UUID, step: str) -> StepKey:
        """The labels of a step."""
        owner = self.owners.get(workflow)
        if owner is None:
            label = self._shared.get(workflow, OTHER)
            return label, label
        return (owner.slug, step) if (workflow, step) in self._admitted else (OTHER, OTHER)


@dataclass(slots=True, kw_only=True)
class Sums:
    """Counts by labels. `wait_seconds` are by queue, however many there are; `overflow` is what `other` stands for."""

    executions: dict[tuple[str, str], int] = field(default_factory=dict)
    execution_seconds: dict[str, Durations] = field(default_factory=dict)
    steps: dict[tuple[str, str, str], int] = field(default_factory=dict)
    step_seconds: dict[StepKey, Durations] = field(default_factory=dict)
    retries: dict[StepKey, int] = field(default_factory=dict)
    wait_seconds: dict[str, Durations] = field(default_factory=dict)
    errors: dict[str, int] = field(default_factory=lambda: dict.fromkeys((*ERROR_TYPES, OTHER), 0))
    overflow: int = 0

    def copied(self) -> Self:
        """The same, to be changed by itself."""
        return replace(
            self, executions=dict(self.executions), execution_seconds=dict(self.execution_seconds),
            steps=dict(self.steps), step_seconds=dict(self.step_seconds), retries=dict(self.retries),
            wait_seconds=dict(self.wait_seconds), errors=dict(self.errors),
        )  # fmt: skip

    def show_workflow(self, label: str) -> None:
        """Have the series of a workflow exist."""
        if label not in self.execution_seconds:
            self.executions.update({(label, status): 0 for status in statistics.EXECUTION_OUTCOMES})
            self.execution_seconds[label] = _NO_EXECUTIONS

    def show_step(self, key: StepKey) -> None:
        """Have the series of a step exist."""
        if key not in self.step_seconds:
            self.steps.update({(*key, status): 0 for status in statistics.STEP_OUTCOMES})
            self.step_seconds[key] = _NO_STEPS
            self.retries[key] = 0

    def count(self, what: str, outcome: Outcome, labels: Labels, sign: int = 1) -> None:
        """Take an outcome in (1), or out again (-1)."""
        if outcome.workflow_id == Heir.OWN and what != What.WAIT:
            self._count_error(outcome, sign)
        elif what == What.EXECUTION:
            label = labels.of_workflow(outcome.workflow_id)
            self.show_workflow(label)
            self.executions[label, outcome.status] += sign * outcome.count
            self.execution_seconds[label] = self.execution_seconds[label].changed(outcome, sign)
            self.overflow += sign * outcome.count if label == OTHER else 0
            self._count_error(outcome, sign)
        elif what == What.TASK:
            key = labels.of_step(outcome.workflow_id, outcome.step_id)
            self.show_step(key)
            self.retries[key] += sign * outcome.retries
            if outcome.status:
                self.steps[*key, outcome.status] += sign * outcome.count
                self.step_seconds[key] = self.step_seconds[key].changed(outcome, sign)
                self.overflow += sign * outcome.count if key[1] == OTHER else 0
                self._count_error(outcome, sign)
        else:
            waited = self.wait_seconds.get(outcome.step_id, _NO_WAITS)
            self.wait_seconds[outcome.step_id] = waited.changed(outcome, sign)

    def _count_error(self, outcome: Outcome, sign: int) -> None:
        if outcome.error_type != "":
            known = outcome.error_type in self.errors
            self.errors[outcome.error_type if known and outcome.error_type else OTHER] += sign * outcome.count

    def waits_by(self, queues: Sequence[str]) -> dict[str, Durations]:
        """Waits of these queues, and of all others together."""
        shown = dict.fromkeys(queues, _NO_WAITS)
        for queue, waited in self.wait_seconds.items():
            name = queue if queue in shown else OTHER
            before = shown.get(name, _NO_WAITS)
            shown[name] = Durations(
                list(map(add, before.within, waited.within)),
                before.count + waited.count,
                before.microseconds + waited.microseconds,
            )
        return shown


class Remembered:
    """The sums of the totals as they were read last; one reader at a time.

    It remembers what it was told and never decides by it: each reading brings every row, and whatever row is not
    equal to one that is in the sums already is taken out of or into them.
    """

    def __init__(self) -> None:
        self._of: tuple[Sequence[Registered], frozenset[tuple[str, str]]] | None = None
        self._labels = Labels((), frozenset())
        self._queues: list[str] = []
        self._rows: dict[str, dict[TotalRow, Outcome]] = {}
        self._sums = Sums()

    def read(self) -> tuple[Sums, Labels, Sequence[str]]:
        """Sums, labels, and the queues that definitions name, as the database has them now."""
        self._see(statistics.registered(), statistics.labelled())
        found: dict[str, Tallies] = {what: statistics.tallies(what) for what in BOUNDS}
        for what, tallies in found.items():
            self._take(what, frozenset(tallies.totals))
        sums = self._sums.copied()
        for what, tallies in found.items():
            for outcome in tallies.counted:
                sums.count(what, outcome, self._labels)
        return sums, self._labels, self._queues

    def _see(self, workflows: Sequence[Registered], admitted: frozenset[tuple[str, str]]) -> None:
        """Begin anew where other workflows, versions or labels are registered than before."""
        if self._of == (workflows, admitted):
            return
        labels, sums, queues = Labels(workflows, admitted), Sums(), [statistics.DEFAULT_QUEUE]
        definitions = statistics.steps_of([workflow.version_id for workflow in labels.owners.values()])
        for workflow in workflows:
            sums.show_workflow(labels.of_workflow(workflow.id))
        for workflow in labels.owners.values():
            for step, queue in definitions[workflow.version_id]:
                sums.show_step(labels.of_step(workflow.id, step))
                queues.append(queue)
        self._labels, self._sums, self._rows = labels, sums, {}
        self._queues = list(dict.fromkeys(queues))
        self._of = workflows, admitted

    def _take(self, what: str, rows: frozenset[TotalRow]) -> None:
        known = self._rows.setdefault(what, {})
        bounds = BOUNDS[What(what)]
        for row in known.keys() - rows:
            self._sums.count(what, known.pop(row), self._labels, -1)
        for row in rows - known.keys():
            outcome = known[row] = of_total(row, bounds)
            self._sums.count(what, outcome, self._labels)
