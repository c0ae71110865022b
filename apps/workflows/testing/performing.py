"""Brings executions in memory to their end: claims, attempts by mocks, and a clock that moves when all else rests."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from apps.core.errors import Invalid
from apps.executors.outputs import Unrecordable, checked_outputs
from apps.workflows.engine.decide.opening import APPROVAL, CHILD, SIGNAL
from apps.workflows.engine.expressions import NO_ITEM, ExpressionError, render
from apps.workflows.engine.graph import StepSpec
from apps.workflows.engine.ids import step_of
from apps.workflows.engine.moves import context_of
from apps.workflows.engine.states import Status
from apps.workflows.engine.types import (
    Accept,
    ChildEnded,
    Claimed,
    Completed,
    Deferred,
    Failed,
    Happening,
    Lost,
    Reject,
    Stopped,
)
from apps.workflows.testing.memory import Memory, MemoryExecution, Origin
from apps.workflows.testing.mocks import MAX_OUTPUT_BYTES, Call, HarnessError, Outcome

if TYPE_CHECKING:
    from apps.workflows.testing.harness import Harness

PERFORMER = "harness"
LEASE = timedelta(seconds=30)
MOST_DEEP = 20  # sub-workflows within each other, as the ledger allows


@dataclass(frozen=True, slots=True, kw_only=True)
class Action:
    """Something from outside, `at` seconds after an execution was created; without `at`, whenever it applies."""

    told: str
    at: float | None
    happenings: Callable[[MemoryExecution], Sequence[Happening]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """When an execution counts as endless: virtual seconds, and rounds in which something happened."""

    seconds: float = 400 * 24 * 3600
    turns: int = 200_000


@dataclass(frozen=True, slots=True, kw_only=True)
class _Attempt:
    execution: MemoryExecution
    task: str
    fence: int
    outcome: Outcome
    ends_at: datetime
    child: bool = False  # a mocked sub-workflow: no performer holds it

    @property
    def current(self) -> bool:
        """Whether its result is still asked for."""
        task = self.execution.all_tasks[self.task]
        held = task.waiting_for == CHILD if self.child else task.status is Status.IN_PROGRESS
        return held and task.fence == self.fence


class Performer:
    """Performs the executions that it has started, `slots` attempts at a time."""

    def __init__(self, memory: Memory, *, slots: int, limits: Limits) -> None:
        self.memory = memory
        self._slots = slots
        self._limits = limits
        self._of: dict[str, Harness] = {}
        self._actions: dict[str, list[Action]] = {}
        self._running: list[_Attempt] = []

    # -- starting ----------------------------------------------------------------------------------------------------

    def start(self, harness: Harness, inputs: Mapping[str, Any], origin: Origin) -> MemoryExecution:
        """A new execution of what `harness` was made from. Raises `Invalid` for inputs that do not fit."""
        resolved = harness.resolve(inputs)
        # An execution may begin sub-workflows as it is made: whose it is must be known by then.
        identity = f"execution-{len(self.memory.executions) + 1}"
        self._of[identity] = harness
        self._actions[identity] = list(harness.script)
        try:
            return self.memory.add(
                harness.graph, workflow=harness.name, inputs=resolved, start_child=self._start_child, origin=origin
            )
        except ExpressionError as wrong:
            raise Invalid(f"concurrency.key: {wrong}", code="invalid_inputs") from None

    def _start_child(
        self, parent: MemoryExecution, name: str, config: Mapping[str, Any]
    ) -> Mapping[str, Any] | None:  # fmt: skip
        harness, slug = self._of[parent.id], str(config.get("id"))
        if (story := harness.story(name)) is not None:
            fence, item = parent.under_way(name)
            outcome = story.next(self._call(parent, name, config, attempt=fence, item=item))
            if outcome.dead:
                raise HarnessError(
                    f"the mock of `{name}`: no performer does a sub-workflow, so none is lost; use fails()"
                )
            self._add(parent, name, fence, outcome, child=True)
            return None
        child = harness.children.get(slug)
        if child is None:
            raise HarnessError(
                f'step `{name}` runs the workflow `{slug}`: say what it leaves, .mock("{step_of(name)}", returns(…)), '
                f'or give its definition, .child("{slug}", …)'
            )
        if _depth(parent) >= MOST_DEEP:
            return _refused(f"sub-workflows stand at most {MOST_DEEP} deep in each other")
        told = {"parent_execution_id": parent.id, "parent_step_id": name}
        try:
            self.start(child, config.get("inputs") or {}, Origin(parent=parent, parent_task=name, told=told))
        except Invalid as wrong:
            return _refused("; ".join([str(wrong), *(f"{p.pointer}: {p.message}" for p in wrong.problems)]))
        return None

    # -- going on ----------------------------------------------------------------------------------------------------

    def run(self, root: MemoryExecution) -> None:
        """Go on until every execution has ended. Raises `HarnessError` where that never happens."""
        memory = self.memory
        latest = memory.now + timedelta(seconds=self._limits.seconds)
        for _ in range(self._limits.turns):
            memory.follow()
            if self._act() or self._stop() or self._claim() or self._report() or memory.wake():
                continue
            if all(execution.ended for execution in memory.executions):
                return
            moment = self._next_moment()
            if moment is None:
                raise HarnessError(self._stuck(root))
            if moment > latest:
                raise HarnessError(
                    f"{root.id} has not ended after {self._limits.seconds:g} virtual seconds{_last(root)}"
                )
            memory.now = moment
        raise HarnessError(f"{root.id} has not ended after {self._limits.turns} turns{_last(root)}")

    def _next_moment(self) -> datetime | None:
        now = self.memory.now
        moments = [attempt.ends_at for attempt in self._running]
        moments += [
            moment for execution, action in self._pending() if (moment := _moment(execution, action)) is not None
        ]
        moments += [moment for moment in [self.memory.next_moment()] if moment is not None]
        return min((moment for moment in moments if moment > now), default=None)

    def _pending(self) -> list[tuple[MemoryExecution, Action]]:
        opened = [execution for execution in self.memory.executions if not execution.ended]
        return [(execution, action) for execution in opened for action in self._actions[execution.id]]

    def _act(self) -> bool:
        """Do what the script says for this moment; gives whether something happened."""
        acted = False
        for execution, action in self._pending():
            moment = _moment(execution, action)
            if execution.ended or (moment is not None and moment > self.memory.now):
                continue
            happenings = action.happenings(execution)
            if moment is not None:
                self._actions[execution.id].remove(action)
                if not happenings:
                    raise HarnessError(f"{action.told}: at that moment it does not wait for an approval")
            for happening in happenings:
                decision = execution.happen(happening)
                if isinstance(decision, Reject):
                    raise HarnessError(f"{action.told}: {decision.reason}")
                acted = True
        return acted

    def _stop(self) -> bool:
        """Break off what was given up; gives whether something was reported by it."""
        self._running = [attempt for attempt in self._running if attempt.current]
        stopping = [a for a in self._running if a.execution.state.cancel_requested_at is not None]
        for attempt in stopping:
            if attempt.child:
                ended = ChildEnded(step_id=attempt.task, status=Status.CANCELLED, outputs={})
                attempt.execution.happen(ended)
            else:
                attempt.execution.happen(Stopped(step_id=attempt.task, fence=attempt.fence))
        return bool(stopping)

    def _report(self) -> bool:
        """Report the attempts that have ended; gives whether there were any."""
        done = [attempt for attempt in self._running if attempt.ends_at <= self.memory.now]
        self._running = [attempt for attempt in self._running if attempt not in done]
        for attempt in sorted(done, key=lambda attempt: attempt.ends_at):
            attempt.execution.happen(_ending(attempt))
        return bool(done)

    # -- claiming ----------------------------------------------------------------------------------------------------

    def _claim(self) -> bool:
        """Take what is ready, as far as there are slots: executions in line, then their tasks as they became ready."""
        claimed = False
        line = [
            e for e in self.memory.executions if e.state.ready_at is not None and e.state.ready_at <= self.memory.now
        ]
        for execution in sorted(line, key=lambda e: e.state.ready_at or self.memory.now):
            free = self._slots - sum(not attempt.child for attempt in self._running)
            names = execution.ready()[:free]
            for name in names:
                self._take(execution, name)
                claimed = True
            if not names and free > 0:
                with execution.unit(claimed=True):
                    pass  # it stands in line without a task to claim: it gets its true place
        return claimed

    def _take(self, execution: MemoryExecution, name: str) -> None:
        memory, spec = self.memory, execution.graph.steps[step_of(name)]
        with execution.unit(claimed=True) as course:
            if spec.rate is not None and (until := memory.take_token(spec.rate)) is not None:
                course.happen(Deferred(step_id=name, until=until, waiting_for=f"rate:{spec.rate.name}"))
                return
            claim = Claimed(step_id=name, owner=PERFORMER, lease_expires_at=memory.now + LEASE)
            if not isinstance(course.happen(claim), Accept):
                return
            fence = course.tasks[name].fence
            course.read_outputs(spec.reads)
            course.read_items([name])
            item = course.items.get(name, NO_ITEM)
            try:
                context = replace(context_of(course.snapshot(), item), secrets=self._of[execution.id].secret)
                config = render(spec.config, context) if spec.config else {}
            except ExpressionError as wrong:
                error = {"type": "invalid", "message": str(wrong), "retryable": False}
                course.happen(Failed(step_id=name, fence=fence, error=error))
                return
        call = self._call(execution, name, config, attempt=fence, item=None if item is NO_ITEM else item)
        outcome = _in_time(self._of[execution.id].outcome(spec, call), spec)
        self._add(execution, name, fence, outcome)

    def _add(self, execution: MemoryExecution, name: str, fence: int, outcome: Outcome, *, child: bool = False) -> None:
        ends_at = self.memory.now + timedelta(seconds=outcome.seconds)
        attempt = _Attempt(execution=execution, task=name, fence=fence, outcome=outcome, ends_at=ends_at, child=child)
        self._running.append(attempt)

    def _call(
        self, execution: MemoryExecution, name: str, config: Mapping[str, Any], *, attempt: int, item: Any
    ) -> Call:  # fmt: skip
        kind = execution.graph.steps[step_of(name)].kind
        return Call(
            step_id=name,
            kind=kind,
            config=config,
            attempt=attempt,
            item=item,
            inputs=execution.inputs,
            now=self.memory.now,
        )

    def _stuck(self, root: MemoryExecution) -> str:
        after = (self.memory.now - root.created_at).total_seconds()
        lines = [f"after {after:g} virtual seconds nothing happens any more, and {root.id} has not ended:"]
        for execution in self.memory.executions:
            if execution.ended:
                continue
            if execution.state.status is Status.PAUSED:
                lines.append(f"{execution.id} is paused: say when it goes on, .resume(at=…)")
            for name in execution.open:
                task = execution.all_tasks[name]
                if task.waiting_for == APPROVAL:
                    lines.append(f'`{name}` waits for an approval: .approve("{step_of(name)}") or .reject(…)')
                elif task.waiting_for.startswith(SIGNAL):
                    signal = task.waiting_for.removeprefix(SIGNAL)
                    lines.append(f'`{name}` waits for the signal `{signal}`: .signal("{signal}", …, at=…)')
        return "\n  ".join(lines)


def _moment(execution: MemoryExecution, action: Action) -> datetime | None:
    return None if action.at is None else execution.created_at + timedelta(seconds=action.at)


def _in_time(outcome: Outcome, spec: StepSpec) -> Outcome:
    """The outcome of an attempt, or that of one that is broken off at its `timeout_seconds`."""
    limit = spec.timeout_seconds
    if limit is None or outcome.seconds <= limit:
        return outcome
    message = f"it ran longer than its {limit:g} s"
    return Outcome(error={"type": "timeout", "message": message, "retryable": True}, seconds=limit)


def _ending(attempt: _Attempt) -> Happening:
    outcome, name, fence = attempt.outcome, attempt.task, attempt.fence
    if attempt.child:
        status = Status.COMPLETED if outcome.error is None else Status.FAILED
        return ChildEnded(step_id=name, status=status, outputs=outcome.outputs, error=outcome.error)
    if outcome.dead:
        return Lost(step_id=name, fence=fence)
    if outcome.error is not None:
        return Failed(step_id=name, fence=fence, error=outcome.error)
    try:
        return Completed(step_id=name, fence=fence, outputs=checked_outputs(dict(outcome.outputs), MAX_OUTPUT_BYTES))
    except Unrecordable as wrong:
        return Failed(
            step_id=name, fence=fence, error={"type": "output", "message": str(wrong), "retryable": False}
        )  # fmt: skip


def _depth(execution: MemoryExecution) -> int:
    depth, above = 1, execution.origin.parent
    while above is not None:
        depth, above = depth + 1, above.origin.parent
    return depth


def _refused(message: str) -> Mapping[str, Any]:
    return {"type": "workflow", "message": message[:1000], "retryable": False}


def _last(execution: MemoryExecution) -> str:
    lines = [f"{fact.type} {fact.step_id}".strip() for _, fact in execution.journal[-5:]]
    return f"; its journal ends with {', '.join(lines)}"
