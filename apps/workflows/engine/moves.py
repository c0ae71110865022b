"""How tasks change, and with them their execution's counts: the building blocks of `decide`."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from apps.workflows.engine.expressions import NO_ITEM, Context
from apps.workflows.engine.graph import StepSpec
from apps.workflows.engine.ids import step_of
from apps.workflows.engine.states import CLAIMABLE, TASK_MOVES, TERMINAL, Status
from apps.workflows.engine.types import (
    Accept,
    Command,
    ExecutionState,
    Fact,
    Ignore,
    Reject,
    Snapshot,
    TaskState,
)

# Until it is terminal an execution is never told as finished, whatever its tasks report.
MOST_BEFORE_THE_END = 99.0


class Changes:
    """What follows from one happening, put together piece by piece, each on what those before it left."""

    def __init__(self, snapshot: Snapshot, now: datetime) -> None:
        self.snapshot = snapshot
        self.now = now
        self.execution = snapshot.execution
        self.settled: list[str] = []
        self.commands: list[Command] = []
        self.lists: dict[str, Sequence[Any]] = {}
        self._tasks: dict[str, TaskState] = {}
        self._facts: list[Fact] = []

    def accept(self) -> Accept:
        """All of it as a decision."""
        return Accept(
            execution=self.execution,
            tasks=tuple(self._tasks.values()),
            facts=tuple(self._facts),
            settled=tuple(self.settled),
            commands=tuple(self.commands),
            lists=self.lists,
        )

    # -- reading -----------------------------------------------------------------------------------------------------

    def task(self, name: str) -> TaskState:
        """A task as it is by now."""
        return self._tasks.get(name) or self.snapshot.tasks[name]

    @property
    def stopping(self) -> bool:
        """Whether the execution is being stopped."""
        return self.execution.cancel_requested_at is not None

    # -- the execution -----------------------------------------------------------------------------------------------

    def have(self, **values: Any) -> None:
        """Change the execution itself."""
        self.execution = self.execution._replace(**values)

    def say(self, kind: str, **data: Any) -> None:
        """A line of the journal about the execution."""
        self._facts.append(Fact(type=kind, data={**about(self.execution), **data}))

    def begin_execution(self) -> None:
        """The execution has begun, where it had not: something of it is done or waited for."""
        if self.execution.status is Status.PENDING and not self.execution.held:
            self.have(status=Status.IN_PROGRESS, started_at=self.now)
            self.say("execution.started")

    def line_up(self, at: datetime) -> None:
        """Give the execution a place in line that is not later than `at`, unless it may not stand there."""
        execution = self.execution
        if execution.held or execution.status is Status.PAUSED or self.stopping:
            return
        if execution.ready_at is None or execution.ready_at > at:
            self.execution = execution._replace(ready_at=at)

    # -- tasks -------------------------------------------------------------------------------------------------------

    def add(self, task: TaskState) -> None:
        """A new task."""
        self._tasks[task.step_id] = task
        self.have(tasks_total=self.execution.tasks_total + 1, open_tasks=self.execution.open_tasks + 1)

    def put(self, before: TaskState, after: TaskState) -> None:
        """A task that changed. The percentage of an execution never falls (I7); that of a step is its items' mean.

        Steps count for what they are expected to cost, where that is known.
        """
        self._tasks[after.step_id] = after
        if before.status not in TERMINAL and after.status in TERMINAL:
            self.have(open_tasks=self.execution.open_tasks - 1)
        delta = after.percent - before.percent
        if not delta:
            return
        if after.is_item:
            whole = self.task(step_of(after.step_id))
            if whole.items and whole.status not in TERMINAL:
                percent = min(MOST_BEFORE_THE_END, max(0.0, whole.percent + delta / whole.items))
                self.put(whole, whole._replace(percent=percent))
            return
        weights = self.snapshot.weights
        counts, total = (
            (1.0, len(self.snapshot.graph.steps))
            if weights is None
            else (weights.by_step[after.step_id], weights.total)
        )
        points = self.execution.points + delta * counts
        percent = min(MOST_BEFORE_THE_END, round(points / max(1.0, total), 2))
        self.have(points=points, percent=max(self.execution.percent, percent))

    def tell(self, kind: str, task: TaskState, **data: Any) -> None:
        """A line of the journal about a task: absolute values, so that hearing it twice harms nobody."""
        self._facts.append(
            Fact(
                type=kind,
                step_id=task.step_id,
                data={
                    "status": task.status.value,
                    "attempt": task.fence,
                    "percent_complete": 100.0 if task.status is Status.COMPLETED else task.percent,
                    "overall_percent": self.execution.percent,
                    **data,
                },
            )
        )

    def end(self, task: TaskState, to: Status, *, data: Mapping[str, Any] | None = None, **values: Any) -> None:
        """A task in a terminal status, and who waits for it is to be told."""
        ended = _move(
            task, to, finished_at=self.now, ready_at=None, due_at=None, waiting_for="", lease_owner="",
            lease_expires_at=None, **values,
        )  # fmt: skip
        self.put(task, ended)
        self.tell(f"task.{to.value}", ended, **(data or {}))
        self.settled.append(task.step_id)

    def complete(self, task: TaskState, outputs: Any, **data: Any) -> None:
        """A task that ended well."""
        # A fold of the journal must end where the row does: what was said on the way no longer holds.
        data = {**({"message": ""} if task.message else {}), **data}
        self.end(task, Status.COMPLETED, percent=100.0, message="", error=None, outputs=outputs, data=data)

    def fail(self, task: TaskState, to: Status, error: Mapping[str, Any], **values: Any) -> None:
        """A task that ended badly. Of an item its step tells; of a step its execution, unless that is allowed."""
        spec = self.snapshot.spec(task.step_id)
        if not spec.allow_failure and not task.is_item:
            told = self.execution.error or {**error, "step_id": spec.id}
            self.have(failed_tasks=self.execution.failed_tasks + 1, error=told)
        self.end(task, to, error=error, data={"error": error}, **values)

    def stop(self, task: TaskState) -> None:
        """A task that ends because its execution is being stopped."""
        self.end(task, Status.CANCELLED)

    def ready(self, task: TaskState, to: Status, at: datetime, **values: Any) -> TaskState:
        """A task in line, to be claimed from `at` on."""
        spec = self.snapshot.spec(task.step_id)
        limits = [task.expires_at] if task.expires_at else []
        if spec.queue_timeout_seconds is not None:
            limits.append(at + timedelta(seconds=spec.queue_timeout_seconds))
        fresh = {"waiting_for": "", **values, "lease_owner": "", "lease_expires_at": None}
        after = _move(task, to, ready_at=at, due_at=min(limits, default=None), **fresh)
        self.put(task, after)
        self.line_up(at)
        return after

    def wait(self, task: TaskState, waiting_for: str, due_at: datetime | None, **values: Any) -> TaskState:
        """A task that waits for something that the engine itself will hear of."""
        waiting = _move(task, Status.WAITING, waiting_for=waiting_for, due_at=due_at, ready_at=None, **values)
        self.put(task, waiting)
        return waiting


def _move(task: TaskState, to: Status, **values: Any) -> TaskState:
    """The task in another status. The only place where one changes; the engine proposes lawful moves only."""
    lawful = task.status is to or to in TASK_MOVES[task.status]
    assert lawful, f"{task.step_id}: {task.status} → {to} is no lawful move"  # noqa: S101
    return task._replace(status=to, **values)


def start(task: TaskState, **values: Any) -> TaskState:
    """The task under a lease."""
    return _move(task, Status.IN_PROGRESS, **values)


def about(execution: ExecutionState) -> dict[str, Any]:
    """What every line about an execution says."""
    return {
        "status": execution.status.value,
        "percent_complete": execution.percent,
        "overall_percent": execution.percent,
    }


def context_of(snapshot: Snapshot, item: Any = NO_ITEM) -> Context:
    """What templates of this execution may refer to."""
    return Context(inputs=snapshot.read_inputs(), steps=snapshot.outputs, environment=snapshot.environment, item=item)


def stale(task: TaskState, fence: int) -> Reject | Ignore | None:
    """None when `fence` names the task's present lease."""
    if task.fence == fence and task.status is Status.IN_PROGRESS:
        return None
    if task.fence == fence and task.status in TERMINAL:
        return Ignore(reason=f"{task.step_id} has ended already")
    return Reject(code="stale_attempt", reason=f"attempt {fence} of {task.step_id} no longer holds its lease")


def invalid(where: str, wrong: Exception) -> dict[str, Any]:
    """The error of a step whose templates cannot be evaluated."""
    return {"type": "invalid", "message": f"{where}: {wrong}" if where else str(wrong), "retryable": False}


def claimable(spec: StepSpec, task: TaskState) -> bool:
    """Whether a performer may take it, now or later."""
    return not spec.own and task.status in CLAIMABLE and task.ready_at is not None
