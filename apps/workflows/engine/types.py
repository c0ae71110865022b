"""What `decide` reads and what it answers: frozen values, so a change is a new value.

States are named tuples: a copy with some fields changed (`_replace`) costs a sixth of what a data class takes for it,
and a step makes eight.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

from apps.workflows.engine.graph import Graph, StepSpec, Weights
from apps.workflows.engine.ids import step_of
from apps.workflows.engine.states import Status

# The owner of a tracker's steps while they are in progress: whoever reports from outside. Their "lease" is the
# tracker's staleness deadline, and the reaper of performers' leases leaves them alone.
TRACKER = "tracker"


class TaskState(NamedTuple):
    """A task as its row tells it. `outputs` is None unless it was set by this decision.

    `step_id` is its name: the step's id, with the number of its item where it is one of many (`load[7]`).
    """

    ordinal: int
    step_id: str
    status: Status = Status.PENDING
    queue: str = "default"
    lane: str = "default"
    waiting_on: int = 0
    met: int = 0
    fence: int = 0
    failures: int = 0
    losses: int = 0
    ready_at: datetime | None = None
    waiting_for: str = ""
    due_at: datetime | None = None
    expires_at: datetime | None = None
    items: int = 0
    next_item: int = 0
    lease_owner: str = ""
    lease_expires_at: datetime | None = None
    percent: float = 0.0
    message: str = ""
    queued_at: datetime | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    outputs: Mapping[str, Any] | Sequence[Any] | None = None
    error: Mapping[str, Any] | None = None

    @property
    def is_item(self) -> bool:
        """Whether it is one of the many of a step with `for_each`."""
        return self.step_id.endswith("]")


class ExecutionState(NamedTuple):
    """An execution as its row tells it."""

    status: Status = Status.PENDING
    tasks_total: int = 0
    open_tasks: int = 0
    failed_tasks: int = 0
    points: float = 0.0
    percent: float = 0.0
    message: str = ""
    ready_at: datetime | None = None
    held: bool = False
    deadline_at: datetime | None = None
    owes_parent: bool = False
    cancel_requested_at: datetime | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    outputs: Mapping[str, Any] | None = None
    error: Mapping[str, Any] | None = None


@dataclass(slots=True, kw_only=True)
class Snapshot:
    """A neighbourhood: the execution, the task an event is about, that task's direct dependants, or its whole step.

    `read_inputs` gives the execution's inputs, for which most decisions do not ask. `outputs` holds, by step, what
    templates refer to; `items`, by task, the item it is about; `signals` those that have come, with their payloads;
    `kept`, in a new execution, the good results of the one it was made from; `weights` what its steps count for, None
    where they all count the same.
    """

    graph: Graph
    execution: ExecutionState
    tasks: Mapping[str, TaskState]
    read_inputs: Callable[[], Mapping[str, Any]] = dict
    outputs: Mapping[str, Any] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    items: Mapping[str, Any] = field(default_factory=dict)
    signals: Mapping[str, Any] = field(default_factory=dict)
    kept: Mapping[str, Any] = field(default_factory=dict)
    weights: Weights | None = None

    def spec(self, task: str) -> StepSpec:
        """The rules of a task's step."""
        return self.graph.steps[step_of(task)]


# --- what happens -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Claimed:
    """A performer takes a ready task; `probes` are the breakers that this attempt is the probe of."""

    step_id: str
    owner: str
    lease_expires_at: datetime
    probes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Completed:
    """An attempt ended well."""

    step_id: str
    fence: int
    outputs: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """An attempt ended badly: `error` has `type`, `message`, `retryable` and perhaps `exit_code`."""

    step_id: str
    fence: int
    error: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stopped:
    """A performer confirms that an attempt was stopped because the execution is being cancelled."""

    step_id: str
    fence: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Released:
    """A performer gives a task back untouched or broken off (it drains): no budget pays for it."""

    step_id: str
    fence: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Unperformed:
    """An attempt was not even tried, because what it needs is not there: a breaker opens, no budget pays for it.

    It is back in line from `until` on; `waiting_for` names the breaker.
    """

    step_id: str
    fence: int
    error: Mapping[str, Any]
    until: datetime
    waiting_for: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Lost:
    """The lease ran out, or its owner is known to be dead."""

    step_id: str
    fence: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Progressed:
    """A running attempt says how far it is, 0 to 100."""

    step_id: str
    fence: int
    percent: float
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """A task became terminal: its direct dependants are to be told."""

    step_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemsMade:
    """Items of a step with `for_each`, by number, that are to have tasks now; `next_item` is the first without one."""

    step_id: str
    items: Mapping[int, Any]
    next_item: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Gathered:
    """The outputs of all items of a step, in order, None for those that left none; None where they are too many."""

    step_id: str
    outputs: Sequence[Any] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A result of the same step with the same key was kept by the execution `origin`: it need not be done again."""

    step_id: str
    outputs: Any
    origin: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Deferred:
    """A limit lets it start from `until` on; `waiting_for` names the limit."""

    step_id: str
    until: datetime
    waiting_for: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Due:
    """The time of a timer, or of a limit on time, has come."""

    step_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Decided:
    """A person said yes or no. `data` is what the form asked for."""

    step_id: str
    approved: bool
    by: str
    data: Mapping[str, Any] = field(default_factory=dict)
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Signalled:
    """A named signal came; the snapshot holds the tasks that wait for it."""

    name: str
    payload: Mapping[str, Any]
    by: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildEnded:
    """The execution that a task waits for has ended, or (status failed) could not be started."""

    step_id: str
    status: Status
    outputs: Mapping[str, Any]
    error: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PauseRequested:
    """Nothing new may start until somebody resumes it; what runs goes on."""

    by: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ResumeRequested:
    """It may go on; or (`admitted`) the limit that held it back lets it begin."""

    by: str = ""
    admitted: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class StopRequested:
    """Nothing new may start. `status` is what the execution will end as: cancelled or timed_out."""

    status: Status
    by: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Closing:
    """No task is open any more: the execution ends."""


Happening = (
    Claimed | Completed | Failed | Stopped | Released | Unperformed | Lost | Progressed | Settled
    | ItemsMade | Gathered | Found | Deferred | Due | Decided | Signalled | ChildEnded
    | PauseRequested | ResumeRequested | StopRequested | Closing
)  # fmt: skip


# --- what follows -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """A line of the journal, before it has its number. Without `step_id` it is about the execution itself."""

    type: str
    step_id: str = ""
    data: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class MakeItems:
    """Give `count` more items of a step their tasks."""

    step_id: str
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Gather:
    """Put the outputs of a step's items together: all of them have ended."""

    step_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LookUp:
    """See whether the result of a task that became ready is known: `digest` names it."""

    step_id: str
    digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Keep:
    """Keep the outputs of a task to be used again for `ttl` seconds."""

    step_id: str
    digest: str
    ttl: float


@dataclass(frozen=True, slots=True, kw_only=True)
class StartChild:
    """Start a workflow as this task: `id`, `inputs` and perhaps `version`."""

    step_id: str
    config: Mapping[str, Any]


Command = MakeItems | Gather | LookUp | Keep | StartChild


@dataclass(frozen=True, slots=True, kw_only=True)
class Accept:
    """It happened: the new values, the journal's lines, whose dependants must be told next, and what is to be done.

    `lists` are the lists of steps with `for_each` that were opened.
    """

    execution: ExecutionState
    tasks: tuple[TaskState, ...] = ()
    facts: tuple[Fact, ...] = ()
    settled: tuple[str, ...] = ()
    commands: tuple[Command, ...] = ()
    lists: Mapping[str, Sequence[Any]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reject:
    """It is not lawful; nothing changes. `code` is what the caller is told."""

    code: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Ignore:
    """It happened before; nothing changes and the caller is told so kindly."""

    reason: str


Decision = Accept | Reject | Ignore
