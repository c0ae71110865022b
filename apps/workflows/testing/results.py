"""What a test looks at when an execution has ended: its journal, its tasks, its outputs, in virtual seconds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from apps.workflows.definition.suggestions import Suggester
from apps.workflows.engine.states import Status
from apps.workflows.testing.memory import Memory, MemoryExecution
from apps.workflows.testing.mocks import HarnessError

if TYPE_CHECKING:
    from apps.workflows.testing.harness import Harness


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A line of a journal. `at` is in virtual seconds since the execution was created."""

    seq: int
    type: str
    step_id: str
    data: Mapping[str, Any]
    at: float


class Journal(tuple[Entry, ...]):
    """The lines of one execution in their order."""

    __slots__ = ()

    def of(self, task: str) -> list[str]:
        """The types of the lines about a task: `fetch`, or `load[3]`; with `""` about the execution itself."""
        return [entry.type for entry in self if entry.step_id == task]

    def entries(self, type: str, task: str | None = None) -> list[Entry]:  # noqa: A002 (the word of the journal)
        """The lines of this type, of all tasks or of one."""
        return [entry for entry in self if entry.type == type and task in (None, entry.step_id)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """A task as it ended. Times are in virtual seconds since the execution was created; None: it never did.

    `outputs` is None where it left none. `attempts` counts what performers began; a step that the engine sees to
    itself has none.
    """

    name: str
    status: Status
    attempts: int
    failures: int
    losses: int
    item: Any
    outputs: Any
    error: Mapping[str, Any] | None
    started: float | None
    finished: float | None


class Result:
    """An execution that has ended."""

    def __init__(self, harness: Harness, memory: Memory, execution: MemoryExecution) -> None:
        self._harness, self._memory, self._execution = harness, memory, execution
        state = execution.state
        self.id: str = execution.id
        self.status: Status = state.status
        self.inputs: Mapping[str, Any] = execution.inputs
        self.outputs: Mapping[str, Any] = execution.outputs_left
        self.error: Mapping[str, Any] | None = state.error
        self.percent: float = state.percent
        self.seconds: float = self._since(state.finished_at) or 0.0
        self.journal = Journal(
            Entry(seq=seq, type=fact.type, step_id=fact.step_id, data=fact.data, at=self._since(at) or 0.0)
            for seq, (at, fact) in enumerate(execution.journal, start=1)
        )
        self.tasks: Mapping[str, Task] = {name: self._task(name) for name in execution.all_tasks}
        self.children: Mapping[str, list[Result]] = self._children()

    def __repr__(self) -> str:
        told = f": {self.error.get('message')}" if self.error else ""
        return f"<{self.id} {self.status.value} after {self.seconds:g} s{told}>"

    def task(self, name: str) -> Task:
        """A task by its name: `fetch`, or `load[3]`. Raises `HarnessError` where there is none."""
        if name not in self.tasks:
            raise HarnessError(f"there is no task `{name}` in this execution{Suggester()(name, self.tasks)}")
        return self.tasks[name]

    # -- again -------------------------------------------------------------------------------------------------------

    def retry(self, harness: Harness | None = None) -> Result:
        """A new execution of the same that keeps the good results of this one; virtual time goes on.

        Mocks go on where they were; with a `harness` its mocks are taken, and what it says shall happen.
        Raises `HarnessError` for an execution that cannot be retried.
        """
        return (harness or self._harness).again(self._memory, self._execution, None)

    def fork(self, task: str, harness: Harness | None = None) -> Result:
        """A new execution of the same that does `task` (`load`, or `load[3]`) and all that rests on it again."""
        self.task(task)
        return (harness or self._harness).again(self._memory, self._execution, task)

    # -- reading -----------------------------------------------------------------------------------------------------

    def _since(self, moment: datetime | None) -> float | None:
        return None if moment is None else (moment - self._execution.created_at).total_seconds()

    def _task(self, name: str) -> Task:
        execution = self._execution
        task = execution.all_tasks[name]
        left = execution.left.get(name, {} if task.status is Status.COMPLETED else None)
        return Task(
            name=name,
            status=task.status,
            attempts=task.fence,
            failures=task.failures,
            losses=task.losses,
            item=execution.about.get(name),
            outputs=left,
            error=task.error,
            started=self._since(task.started_at),
            finished=self._since(task.finished_at),
        )

    def _children(self) -> dict[str, list[Result]]:
        found: dict[str, list[Result]] = {}
        for child in self._memory.children_of(self._execution):
            result = Result(self._harness, self._memory, child)
            found.setdefault(child.origin.parent_task, []).append(result)
        return found
