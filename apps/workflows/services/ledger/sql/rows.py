"""Rows as a transaction holds them, between the database and the engine."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from apps.workflows.engine.types import ExecutionState, Fact, TaskState

A_POINT = timedelta(minutes=1)


class FencedError(Exception):
    """A row was not as it was read, although its execution was locked: the transaction must not be committed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Birth:
    """What an execution is made with and never changes."""

    inputs: Mapping[str, Any]
    trigger: str
    origin: UUID | None = None
    schedule: UUID | None = None
    scheduled_for: datetime | None = None
    requested_by: UUID | None = None


@dataclass(slots=True)
class ExecutionRow:
    """An execution as read under its lock, or as it was written last; with its `birth`, one that is to be inserted.

    `revision` is the one that it was read with; `was` its state then, which is to be overwritten.
    """

    id: UUID
    workflow_id: UUID
    version_id: UUID
    seq: int
    revision: int
    priority: int
    trace_id: str
    state: ExecutionState
    parent_task: UUID | None = None
    concurrency_key: str = ""
    birth: Birth | None = None
    was: ExecutionState | None = None
    trace_parent: str = ""

    @property
    def rank(self) -> datetime | None:
        """Its place in the line of its workflow: a point of priority is worth a minute of waiting."""
        moment = self.state.ready_at
        return moment - self.priority * A_POINT if moment and self.priority else moment


@dataclass(slots=True)
class TaskRow:
    """A task as read under its execution's lock."""

    id: UUID
    execution_id: UUID
    state: TaskState


@dataclass(frozen=True, slots=True)
class Change:
    """A task to be written. `before` is how it was read, None for a new one.

    `item` is what a new task of a step with `for_each` is about, or the list of the step itself; None leaves it as it
    is.
    """

    id: UUID
    execution_id: UUID
    state: TaskState
    before: TaskState | None
    item: Any = None

    @property
    def left(self) -> Any:
        """The outputs to be written. Of a step that left nothing none are; of an item that would mean that it failed.

        None leaves them as they are.
        """
        outputs = self.state.outputs
        return None if outputs == {} and not self.state.is_item and self.before is not None else outputs


@dataclass(slots=True, kw_only=True)
class Batch:
    """All that a transaction writes: journal lines are (execution, seq, fact), log lines (task, fence, number, stream,
    text)."""

    at: datetime
    executions: list[ExecutionRow] = field(default_factory=list)
    tasks: list[Change] = field(default_factory=list)
    events: list[tuple[UUID, int, Fact]] = field(default_factory=list)
    logs: list[tuple[UUID, int, int, str, str]] = field(default_factory=list)
