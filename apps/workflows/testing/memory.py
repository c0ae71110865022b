"""What a database would hold, in memory and under a virtual clock; each execution moves by the engine's own `Course`.

It does what the ledger's transactions do, one after the other. It never waits and knows no performer: what happens is
told to it.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from apps.workflows.engine.course import Course
from apps.workflows.engine.decide import begin
from apps.workflows.engine.expressions import Context, render
from apps.workflows.engine.graph import Graph, Rate
from apps.workflows.engine.ids import step_of
from apps.workflows.engine.moves import claimable
from apps.workflows.engine.states import OPEN, TERMINAL, Status
from apps.workflows.engine.types import (
    Accept,
    ChildEnded,
    Decision,
    Due,
    ExecutionState,
    Fact,
    Happening,
    ResumeRequested,
    Signalled,
    StopRequested,
    TaskState,
)

StartChild = Callable[["MemoryExecution", str, Mapping[str, Any]], Mapping[str, Any] | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where a new execution comes from: `parent` and its task `parent_task`, or what is `kept` of another one.

    `told` goes into the journal's first line.
    """

    parent: "MemoryExecution | None" = None
    parent_task: str = ""
    kept: Mapping[str, Any] | None = None
    told: Mapping[str, Any] | None = None


class MemoryExecution:
    """The rows of one execution (`engine.course.Store`), and its journal with the moment of each line."""

    def __init__(
        self,
        memory: "Memory",
        identity: str,
        *,
        workflow: str,
        graph: Graph,
        inputs: Mapping[str, Any],
        start_child: StartChild,
        origin: Origin,
    ) -> None:
        self.id = identity
        self.workflow = workflow
        self.graph = graph
        self.inputs = inputs
        self.origin = origin
        self.created_at = memory.now
        self.key = _concurrency_key(graph, inputs, memory.environment)
        deadline = memory.now + timedelta(seconds=graph.timeout_seconds) if graph.timeout_seconds else None
        self.state = ExecutionState(
            deadline_at=deadline, held=self.key is not None, owes_parent=origin.parent is not None
        )
        self.outputs_left: Mapping[str, Any] = {}
        self.all_tasks: dict[str, TaskState] = {}
        self.open: dict[str, None] = {}  # the tasks that have not ended, the oldest first
        self.left: dict[str, Any] = {}  # by task: its outputs
        self.about: dict[str, Any] = {}  # by task: its item; by opened step: its list
        self.came: dict[str, Any] = {}  # signals
        self.journal: list[tuple[datetime, Fact]] = []
        self._memory = memory
        self._start_child = start_child
        self._course: Course | None = None  # of the transaction under way

    @property
    def ended(self) -> bool:
        """Whether it is terminal."""
        return self.state.status in TERMINAL

    # -- what a course reads -----------------------------------------------------------------------------------------

    def tasks(self, names: Iterable[str]) -> Iterable[TaskState]:
        """Those of these tasks that exist."""
        return [self.all_tasks[name] for name in names if name in self.all_tasks]

    def outputs(self, names: Iterable[str]) -> Mapping[str, Any]:
        """What these tasks left behind."""
        return {name: self.left[name] for name in names if name in self.left}

    def items(self, names: Iterable[str]) -> Mapping[str, Any]:
        """What these tasks are about."""
        return {name: self.about[name] for name in names if name in self.about}

    def list_of(self, step: str) -> Sequence[Any]:
        """The list of an opened step."""
        found: Sequence[Any] = self.about[step]
        return found

    def signals(self) -> Mapping[str, Any]:
        """The signals that have come."""
        return dict(self.came)

    def result(self, digest: str) -> tuple[Any, str] | None:
        """A kept result of this workflow."""
        found = self._memory.results.get((self.workflow, digest))
        return None if found is None or found[2] <= self._memory.now else found[:2]

    def keep(self, digest: str, outputs: Any, ttl: float) -> None:
        """Keep a result."""
        until = self._memory.now + timedelta(seconds=ttl)
        self._memory.results[self.workflow, digest] = (outputs, self.id, until)

    def start_child(self, name: str, config: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """Start another workflow as this task."""
        return self._start_child(self, name, config)

    # -- transactions ------------------------------------------------------------------------------------------------

    @contextmanager
    def unit(self, *, claimed: bool = False) -> Iterator[Course]:
        """One transaction: its course is written when the block ends; after a claim the place in line is set anew."""
        memory = self._memory
        course = Course(
            self.graph, self.state, self, now=memory.now, inputs=lambda: self.inputs, environment=memory.environment
        )
        self._course = course
        yield course
        self._course = None
        self._write(course)
        if claimed:
            self._mend_the_line()

    def happen(self, happening: Happening) -> Decision:
        """One happening in a transaction of its own."""
        with self.unit() as course:
            if isinstance(happening, StopRequested | Signalled | ResumeRequested):
                course.known([self.all_tasks[name] for name in self.open])
            decision = course.happen(happening)
            if isinstance(happening, Signalled) and isinstance(decision, Accept):
                self.came[happening.name] = dict(happening.payload)
        return decision

    def begin(self) -> None:
        """Its first transaction."""
        with self.unit() as course:
            kept = self.origin.kept or {}
            course.kept = kept
            course.outputs.update(kept)
            course.begin(begin(course.snapshot(), self._memory.now, **(self.origin.told or {})))

    def told_parent(self) -> None:
        """The task that waited for it knows of its end."""
        self.state = self.state._replace(owes_parent=False)

    def _write(self, course: Course) -> None:
        for name in course.changed:
            task = course.tasks[name]
            # As in the rows: nothing of a step that left nothing; of an item its absence would mean that it failed.
            if task.outputs is not None and (task.outputs != {} or task.is_item):
                self.left[name] = task.outputs
            if name in course.items:
                self.about[name] = course.items[name]
            self.all_tasks[name] = task._replace(outputs=None)
            if task.status in OPEN:
                self.open.setdefault(name)
            else:
                self.open.pop(name, None)
        self.journal += [(course.now, fact) for fact in course.facts]
        self.outputs_left = course.state.outputs or self.outputs_left
        self.state = course.state._replace(outputs=None)

    def _mend_the_line(self) -> None:
        if self.state.ready_at is not None:
            moments = [moment for name in self.open if (moment := self.all_tasks[name].ready_at) is not None]
            self.state = self.state._replace(ready_at=max(min(moments), self._memory.now) if moments else None
            )  # fmt: skip

    def under_way(self, name: str) -> tuple[int, Any]:
        """Of a task in the transaction under way: its fencing number, and its item."""
        assert self._course is not None, "a task is under way inside a transaction"  # noqa: S101
        return self._course.tasks[name].fence, self._course.items.get(name)

    # -- looking -----------------------------------------------------------------------------------------------------

    def ready(self) -> list[str]:
        """The tasks that may be claimed now, in the order in which they are."""
        if self.state.ready_at is None or self.state.ready_at > self._memory.now:
            return []
        found = [
            (task.ready_at, task.ordinal, name)
            for name in self.open
            if (task := self.all_tasks[name]).ready_at is not None
            and task.ready_at <= self._memory.now
            and claimable(self.graph.steps[step_of(name)], task)
        ]
        return [name for _, _, name in sorted(found)]

    def moments(self) -> Iterator[datetime]:
        """When something of it is due, or to be claimed."""
        if self.ended:
            return
        for moment in (self.state.ready_at, self.state.deadline_at):
            if moment is not None:
                yield moment
        for name in self.open:
            if (due := self.all_tasks[name].due_at) is not None:
                yield due


class Memory:
    """Executions side by side, with what they share: the time, kept results and limits."""

    def __init__(self, *, start: datetime, environment: Mapping[str, str] | None = None) -> None:
        self.now = start
        self.environment = dict(environment or {})
        self.executions: list[MemoryExecution] = []
        self.results: dict[tuple[str, str], tuple[Any, str, datetime]] = {}
        self._free_at: dict[str, datetime] = {}

    def add(
        self,
        graph: Graph,
        *,
        workflow: str,
        inputs: Mapping[str, Any],
        start_child: StartChild,
        origin: Origin | None = None,
    ) -> MemoryExecution:
        """A new execution, begun; `inputs` are resolved. Raises `ExpressionError` for a limit's key without a value."""
        execution = MemoryExecution(
            self,
            f"execution-{len(self.executions) + 1}",
            workflow=workflow,
            graph=graph,
            inputs=inputs,
            start_child=start_child,
            origin=origin or Origin(),
        )
        self.executions.append(execution)
        execution.begin()
        return execution

    def children_of(self, parent: MemoryExecution) -> list[MemoryExecution]:
        """The executions that tasks of `parent` started."""
        return [execution for execution in self.executions if execution.origin.parent is parent]

    # -- what follows by itself --------------------------------------------------------------------------------------

    def follow(self) -> None:
        """What follows in other executions: parents are told, orphans stopped, those held back admitted."""
        moved = True
        while moved:
            moved = False
            for execution in self.executions:
                moved = self._tell_parent(execution) or self._stop_orphan(execution) or self._admit(execution) or moved

    def _tell_parent(self, child: MemoryExecution) -> bool:
        parent = child.origin.parent
        if parent is None or not child.ended or not child.state.owes_parent:
            return False
        error = None
        if child.state.status is not Status.COMPLETED:
            why = str((child.state.error or {}).get("message", "")) or f"it ended as {child.state.status}"
            error = {"type": "workflow", "message": why, "execution_id": child.id, "status": child.state.status.value}
        parent.happen(
            ChildEnded(
                step_id=child.origin.parent_task, status=child.state.status, outputs=child.outputs_left, error=error
            )
        )
        child.told_parent()
        return True

    def _stop_orphan(self, child: MemoryExecution) -> bool:
        parent = child.origin.parent
        if parent is None or child.ended or child.state.cancel_requested_at is not None:
            return False
        if parent.state.cancel_requested_at is None and child.origin.parent_task in parent.open:
            return False
        child.happen(StopRequested(status=Status.CANCELLED, by="its parent"))
        return True

    def _admit(self, execution: MemoryExecution) -> bool:
        if not execution.state.held or execution.ended:
            return False
        limit = execution.graph.concurrency
        same = (execution.workflow, execution.key)
        admitted = [other for other in self.executions if not other.ended and not other.state.held]
        alike = [other for other in admitted if (other.workflow, other.key) == same]
        if limit is not None and len(alike) >= limit.limit:
            return False
        execution.happen(ResumeRequested(admitted=True))
        return True

    def wake(self) -> int:
        """Act on the timers and limits on time whose moment has come; gives how many there were."""
        count = 0
        for execution in self.executions:
            deadline = execution.state.deadline_at
            if not execution.ended and deadline is not None and deadline <= self.now:
                execution.happen(StopRequested(status=Status.TIMED_OUT))
                count += 1
            due = sorted(
                (moment, task.ordinal, name)
                for name in execution.open
                if (moment := (task := execution.all_tasks[name]).due_at) is not None and moment <= self.now
            )
            if due:
                with execution.unit() as course:
                    for _, _, name in due:
                        course.happen(Due(step_id=name))
                count += len(due)
        return count

    def next_moment(self) -> datetime | None:
        """When, after now, something of any execution is due or to be claimed."""
        return min((m for execution in self.executions for m in execution.moments() if m > self.now), default=None)

    def take_token(self, rate: Rate) -> datetime | None:
        """Take a token of a shared limit; None when there was one, else when there will be (GCRA, ITU-T I.371)."""
        gap = timedelta(minutes=1) / rate.per_minute
        arrival = max(self._free_at.get(rate.name, self.now), self.now)
        earliest = arrival - gap * (rate.burst - 1)
        if earliest > self.now:
            return earliest
        self._free_at[rate.name] = arrival + gap
        return None


def _concurrency_key(graph: Graph, inputs: Mapping[str, Any], environment: Mapping[str, str]) -> str | None:
    if graph.concurrency is None:
        return None
    return str(render(graph.concurrency.key, Context(inputs=inputs, environment=environment)))
