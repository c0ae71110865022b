"""Progress that is reported from outside: trackers are made, moved and ended here, all updates of a call or none."""

import re
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from uuid import UUID

from django.db import IntegrityError, transaction
from django.db.models import OuterRef

from apps.accounts.models import User
from apps.accounts.permissions import Permission, holds, scope_of
from apps.core.errors import Conflict, Denied, Invalid, Problem
from apps.workflows import signals
from apps.workflows.engine import tracker
from apps.workflows.engine.course import neighbours
from apps.workflows.engine.decide import decide
from apps.workflows.engine.ids import new_execution_id
from apps.workflows.engine.states import EXECUTION_MOVES, TASK_MOVES, TERMINAL, Status
from apps.workflows.engine.types import Accept, Decision, ExecutionState, Fact, Ignore, Progressed, Reject
from apps.workflows.models import Execution, Trigger, Workflow, WorkflowVersion
from apps.workflows.selectors.progress import execution_key
from apps.workflows.services.ledger import Unit, sql, unit_of
from apps.workflows.services.ledger.turn import ended_of
from apps.workflows.services.workflows import RESERVED, create_tracker

MAX_UPDATES = 1000
MAX_MESSAGE = 1000
_ID = re.compile(r"[A-Za-z0-9_-]{1,100}")


@dataclass(frozen=True, slots=True, kw_only=True)
class TrackerUpdate:
    """One report. `workflow_id` is a tracker's id (new or known), a workflow's, or an execution's.

    `data` (perhaps `timestamp` and `metadata`) goes into the journal as it came. `restart` begins a new execution
    of a tracker whose last one has ended.
    """

    workflow_id: str
    status: Status
    percent: float
    step_id: str = ""
    message: str | None = None
    data: Mapping[str, Any] = field(default_factory=dict)
    restart: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """Where an execution is after a call: its id, its workflow's id, and the number of its last event."""

    pk: UUID
    workflow_id: str
    status: Status
    percent: float
    seq: int


def update(updates: Sequence[TrackerUpdate], *, by: User) -> list[Standing]:
    """Carry the reports out in their order; the answer has the execution of each, as it is after all of them.

    Raises `Invalid` with every problem; `Denied` where the caller may not report; `Conflict`: "id_taken" (the id is
    another's), "terminal", "invalid_transition", "not_a_tracker" (a status of the platform's own execution),
    "not_running". After an error nothing has changed.
    """
    if problems := [problem for index, one in enumerate(updates) for problem in _problems(index, one)]:
        raise Invalid("The report is not valid; `errors` lists every mistake.", problems=problems)
    with transaction.atomic():
        targets = _Resolution(updates, by).targets
        with unit_of({target.execution for target in targets.values() if target.execution}) as unit:
            batch = _Batch(unit, targets, by)
            batch.begin_the_new()
            batch.read(updates)
            where = [batch.carry_out(index, one) for index, one in enumerate(updates)]
            unit.flush()
            batch.announce()
            standing = {key: _standing(unit, key, slug) for key, slug in where}
    return [standing[key] for key, _ in where]


def _standing(unit: Unit, execution: UUID, slug: str) -> Standing:
    held = unit.held[execution]
    return Standing(
        pk=execution, workflow_id=slug, status=held.state.status, percent=held.state.percent, seq=held.row.seq
    )


def _problems(index: int, one: TrackerUpdate) -> Iterable[Problem]:
    def problem(name: str, code: str, message: str) -> Problem:
        return Problem(pointer=f"/{index}/{name}", code=code, message=message)

    if one.workflow_id in RESERVED:
        yield problem("workflow_id", "reserved", f"`{one.workflow_id}` is a word of the API; choose another id")
    elif not _ID.fullmatch(one.workflow_id):
        yield problem("workflow_id", "invalid", "1 to 100 letters, digits, - and _")
    if one.step_id and not _ID.fullmatch(one.step_id):
        yield problem("step_id", "invalid", "1 to 100 letters, digits, - and _")
    if not 0 <= one.percent <= 100:  # NaN is not
        yield problem("percent_complete", "invalid", "a number from 0 to 100")
    known = TASK_MOVES if one.step_id else EXECUTION_MOVES
    if one.status not in known:
        what = "step" if one.step_id else "workflow"
        yield problem("status", "invalid", f"of a {what} one of: {', '.join(status.value for status in known)}")
    if one.message is not None and len(one.message) > MAX_MESSAGE:
        yield problem("message", "too_long", f"at most {MAX_MESSAGE:,} characters")


def _not_a_tracker(workflow: Workflow) -> Conflict:
    return Conflict(
        f"`{workflow.slug}` is executed by the platform, which alone sets its status; only the percentage and the "
        "message of a running step (status `in_progress`) may be reported.",
        code="not_a_tracker",
    )


@dataclass(slots=True)
class _Target:
    """What an id stands for in this call: an execution (None: one that is to begin) of a workflow."""

    execution: UUID | None
    workflow: Workflow
    by_slug: bool

    @property
    def pinned(self) -> UUID:
        """The execution, once every one has begun."""
        assert self.execution is not None  # noqa: S101 (`begin_the_new` has seen to it)
        return self.execution


def _refusal(by: User, name: str) -> Conflict | Denied:
    """Who may make trackers learns that this id is another's; who may not learns nothing about it."""
    if holds(by, Permission.PROGRESS_UPDATE):
        return Conflict(f"The id `{name}` is taken; choose another.", code="id_taken")
    return Denied(f"This needs the permission {Permission.PROGRESS_UPDATE}.")


class _Resolution:
    """Which executions are meant: `targets` by id. Trackers that are new are made here."""

    def __init__(self, updates: Sequence[TrackerUpdate], by: User) -> None:
        self.by = by
        self.targets: dict[str, _Target] = {}
        names = dict.fromkeys(one.workflow_id for one in updates)
        self._find_executions(names)
        restarted = {one.workflow_id for one in updates if one.restart}
        self._find_workflows([name for name in names if name not in self.targets], restarted)
        for name in names:
            if name not in self.targets:
                self._make(name)

    def _find_executions(self, names: Iterable[str]) -> None:
        keys = {name: key for name in names if (key := execution_key(name))}
        if not keys:
            return
        rows = Execution.objects.select_related("workflow").in_bulk(set(keys.values()))
        allowed = set(self._allowed(row.workflow_id for row in rows.values()))
        for name, key in keys.items():
            if (row := rows.get(key)) is None:
                continue
            if row.workflow_id not in allowed:
                raise _refusal(self.by, name)
            self.targets[name] = _Target(execution=row.pk, workflow=row.workflow, by_slug=False)

    def _find_workflows(self, names: Sequence[str], restarted: set[str]) -> None:
        if not names:
            return
        newest = Execution.objects.filter(workflow=OuterRef("pk")).order_by("-id").values("pk")[:1]
        found = list(Workflow.objects.filter(slug__in=names).annotate(newest=newest))
        allowed = set(self._allowed(workflow.pk for workflow in found))
        alone = []
        for workflow in found:
            execution: UUID | None = workflow.newest  # type: ignore[attr-defined]  # the annotation
            if workflow.pk not in allowed:
                raise _refusal(self.by, workflow.slug)
            if execution is None and workflow.kind != Workflow.Kind.TRACKER:
                raise _not_a_tracker(workflow)
            if workflow.kind == Workflow.Kind.TRACKER and (execution is None or workflow.slug in restarted):
                alone.append(workflow.pk)
            self.targets[workflow.slug] = _Target(execution=execution, workflow=workflow, by_slug=True)
        self._begin_alone(alone)

    def _begin_alone(self, workflows: Sequence[UUID]) -> None:
        """Who may begin an execution of these trackers does so alone: two restarts at a time make one."""
        if not workflows:
            return
        locked = Workflow.objects.filter(pk__in=workflows).order_by("pk").select_for_update(no_key=True)
        for slug, pk in list(locked.values_list("slug", "pk")):
            now = Execution.objects.filter(workflow=pk).order_by("-id").values_list("pk", flat=True).first()
            self.targets[slug].execution = now

    def _allowed(self, workflows: Iterable[UUID]) -> Iterable[UUID]:
        asked = list(workflows)
        if not asked or (scope_of(self.by) is None and holds(self.by, Permission.PROGRESS_UPDATE)):
            return asked
        visible = Workflow.objects.visible_to(self.by, Permission.PROGRESS_UPDATE)
        return visible.filter(pk__in=asked).values_list("pk", flat=True)

    def _make(self, slug: str) -> None:
        """A tracker of this name, owned by the caller."""
        if not holds(self.by, Permission.PROGRESS_UPDATE):
            raise _refusal(self.by, slug)
        try:
            with transaction.atomic():
                workflow = create_tracker(slug, by=self.by)
        except IntegrityError:  # another call made it at this moment
            self._find_workflows([slug], set())
        else:
            self.targets[slug] = _Target(execution=None, workflow=workflow, by_slug=True)


class _Batch:
    """The reports of one call over locked executions."""

    def __init__(self, unit: Unit, targets: Mapping[str, _Target], by: User) -> None:
        self.unit = unit
        self.targets = targets
        self.by = by

    def begin_the_new(self) -> None:
        """An execution for every tracker that has none."""
        for target in self.targets.values():
            if target.execution is None:
                target.execution = self._begin(target.workflow)

    def _begin(self, workflow: Workflow) -> UUID:
        """A new execution of a tracker, held by the unit."""
        now = self.unit.now
        version = WorkflowVersion.objects.get(workflow=workflow, number=workflow.version_number)
        state = ExecutionState(deadline_at=now + tracker.STALE_AFTER)
        row = sql.ExecutionRow(
            id=new_execution_id(),
            workflow_id=workflow.pk,
            version_id=version.pk,
            seq=0,
            revision=0,
            priority=0,
            trace_id=uuid.uuid4().hex,
            state=state,
            birth=sql.Birth(inputs={}, trigger=str(Trigger.CALLER), requested_by=self.by.pk),
        )
        self.unit.hold([row])
        about = {"status": Status.PENDING.value, "percent_complete": 0.0, "overall_percent": 0.0, "steps": 0}
        self.unit.held[row.id].accept(Accept(execution=state, facts=(Fact(type="execution.created", data=about),)))
        return row.id

    # -- what follows --------------------------------------------------------------------------------------------------

    def read(self, updates: Sequence[TrackerUpdate]) -> None:
        """Read the steps that the reports are about, and every open one of an execution that may end by them."""
        steps: dict[UUID, set[str]] = {}
        ending: set[UUID] = set()
        for one in updates:
            execution = self.targets[one.workflow_id].pinned
            if one.step_id:
                steps.setdefault(execution, set()).add(one.step_id)
            elif one.status in TERMINAL:
                ending.add(execution)
        for execution, names in steps.items():
            self.unit.take(sql.tasks_of_steps(self.unit.cursor, execution, names))
        for execution in ending:
            self.unit.take(sql.open_tasks(self.unit.cursor, execution))

    def carry_out(self, index: int, one: TrackerUpdate) -> tuple[UUID, str]:
        """Decide about one report; the execution it went to, and its workflow's id."""
        target = self.targets[one.workflow_id]
        if target.pinned not in self.unit.held:
            raise _refusal(self.by, one.workflow_id)  # it was deleted at this moment
        if target.workflow.kind != Workflow.Kind.TRACKER:
            self._progressed(index, one, target)
            return target.pinned, target.workflow.slug
        if one.restart and target.by_slug and self.unit.held[target.pinned].state.status in TERMINAL:
            target.execution = self._begin(target.workflow)
        told = tracker.Reported(
            status=one.status, percent=one.percent, step_id=one.step_id, message=one.message, data=one.data
        )
        decision = tracker.report(self.unit.held[target.pinned].snapshot(), told, self.unit.now)
        self._take(target.pinned, decision, one)
        return target.pinned, target.workflow.slug

    def _progressed(self, index: int, one: TrackerUpdate, target: _Target) -> None:
        """An execution of the platform's own: a running step's percentage and message, and nothing else."""
        if one.status is not Status.IN_PROGRESS:
            raise _not_a_tracker(target.workflow)
        if not one.step_id:
            raise Invalid(
                f"`{target.workflow.slug}` is no tracker: the platform itself knows how far the whole is; name a step.",
                problems=[Problem(pointer=f"/{index}/step_id", code="required", message="name a running step")],
            )
        task = self.unit.held[target.pinned].tasks.get(one.step_id)
        if task is None:
            message = "there is no such step in this execution"
            raise Invalid(
                f"step_id: {message}.",
                problems=[Problem(pointer=f"/{index}/step_id", code="unknown_step", message=message)],
            )
        if task.status is not Status.IN_PROGRESS:
            code = "terminal" if task.status in TERMINAL else "not_running"
            raise Conflict(f"The step {task.step_id} is {task.status.value}, not in progress.", code=code)
        message = task.message if one.message is None else one.message
        happening = Progressed(step_id=task.step_id, fence=task.fence, percent=one.percent, message=message)
        held = self.unit.held[target.pinned]
        held.read(neighbours(held.graph, task.step_id, happening))
        decision = decide(held.snapshot(), happening, self.unit.now)
        if isinstance(decision, Accept) and one.data:
            facts = tuple(replace(fact, data={**one.data, **fact.data}) for fact in decision.facts)
            decision = replace(decision, facts=facts)
        self._take(target.pinned, decision, one)

    def _take(self, execution: UUID, decision: Decision, one: TrackerUpdate) -> None:
        if isinstance(decision, Reject):
            hint = "; `restart: true` begins a new execution" if decision.code == "terminal" and not one.step_id else ""
            raise Conflict(f"{one.workflow_id}: {decision.reason}{hint}.", code=decision.code)
        if not isinstance(decision, Ignore):
            self.unit.held[execution].accept(decision)

    def announce(self) -> None:
        """Once committed, tell whose journal grew and what ended."""
        grown = [(key, held) for key, held in self.unit.held.items() if held.facts]
        if grown:
            signals.announce(executions=[key for key, _ in grown], closed=ended_of(self.unit))
