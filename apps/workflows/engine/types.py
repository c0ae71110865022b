"""What `decide` reads and what it answers: frozen values, so a change is a new value."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from apps.workflows.engine.graph import Graph
from apps.workflows.engine.states import Status

# The owner of a tracker's steps while they are in progress: whoever reports from outside. Their "lease" is the
# tracker's staleness deadline, and the reaper of performers' leases leaves them alone.
TRACKER = "tracker"


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskState:
    """A task as its row tells it. `outputs` and `error` are None unless they were set by this decision."""

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
    started_at: datetime | None = None
    finished_at: datetime | None = None
    outputs: Mapping[str, Any] | None = None
    error: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutionState:
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """A neighbourhood: the execution, the task an event is about, and that task's direct dependants.

    `outputs` holds, by step, what `when` conditions and the execution's own outputs refer to.
    """

    graph: Graph
    execution: ExecutionState
    tasks: Mapping[str, TaskState]
    inputs: Mapping[str, Any] = field(default_factory=dict)
    outputs: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)


# --- what happens -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Claimed:
    """A performer takes a ready task."""

    step_id: str
    owner: str
    lease_expires_at: datetime


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
class StopRequested:
    """Nothing new may start. `status` is what the execution will end as: cancelled or timed_out."""

    status: Status
    by: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Closing:
    """No task is open any more: the execution ends."""


Happening = Claimed | Completed | Failed | Stopped | Released | Lost | Progressed | Settled | StopRequested | Closing


# --- what follows -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """A line of the journal, before it has its number. Without `step_id` it is about the execution itself."""

    type: str
    step_id: str = ""
    data: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Accept:
    """It happened: the new values, the journal's lines, and the steps whose dependants must be told next."""

    execution: ExecutionState
    tasks: tuple[TaskState, ...] = ()
    facts: tuple[Fact, ...] = ()
    settled: tuple[str, ...] = ()


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
