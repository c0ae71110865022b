"""I2 to I8 and I12, as the rows of one execution and of its tasks show them, alone and beside its journal's fold."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple
from uuid import UUID

from apps.workflows.engine.graph import Graph
from apps.workflows.engine.ids import step_of
from apps.workflows.engine.states import TERMINAL, Status
from apps.workflows.models import Execution, Workflow
from apps.workflows.selectors.graphs import graph_of
from apps.workflows.selectors.invariants.journal import Journal
from apps.workflows.selectors.invariants.violation import Violation

_TIMED = ("timer", "retry")
_SIGNAL = "signal:"
_OWN = (*_TIMED, "leave", "approval", "execution", "items")
_LAST_TO_STOP = ("execution", "items")  # they end when what they wait for has ended, which is being stopped
_LONGEST_LEASE = timedelta(hours=2)  # twice what `LEASE_SECONDS` may be
_NEARLY = 0.01  # percentage points for each task: sums of floats


class TaskRow(NamedTuple):
    """The columns of a task that are looked at."""

    id: UUID
    execution_id: UUID
    step_id: str
    status: str
    waiting_on: int
    fence: int
    ready_at: datetime | None
    waiting_for: str
    due_at: datetime | None
    items: int
    next_item: int
    lease_owner: str
    lease_expires_at: datetime | None
    percent: float
    lane: str

    @property
    def open(self) -> bool:
        """Whether it has not ended."""
        return self.status not in TERMINAL


@dataclass(frozen=True, slots=True, kw_only=True)
class Around:
    """What the database says besides the rows of one execution.

    `children` are the tasks that will hear of a sub-workflow, `lanes` those that performers claim from, `now` is the
    database's time.
    """

    children: Set[UUID]
    lanes: Set[str]
    now: datetime


def check_rows(row: Execution, tasks: Sequence[TaskRow], around: Around) -> Iterator[Violation]:
    """What does not hold of the rows."""

    def wrong(invariant: str, what: str) -> Violation:
        return Violation(invariant=invariant, execution_id=str(row.pk), what=what)

    opened = sum(task.open for task in tasks)
    if (opened, len(tasks)) != (row.open_tasks, row.tasks_total):
        counted = f"it counts {row.open_tasks} open of {row.tasks_total} tasks; {opened} of {len(tasks)} are"
        yield wrong("I2", counted)
    if (row.status == Status.COMPLETED) != (row.percent == 100):
        yield wrong("I7", f"it is {row.status} at {row.percent} %")
    tracker = row.workflow.kind == Workflow.Kind.TRACKER
    graph = graph_of(row.version_id)
    by_name = {task.step_id: task for task in tasks}
    if not tracker:
        yield from (wrong("I6", what) for what in _miscounted(row, tasks, graph))
        if lacking := sorted(graph.steps.keys() - by_name.keys()):
            yield wrong("I2", f"it has no task for {', '.join(lacking[:5])}")
        if row.status == Status.COMPLETED and row.failed_tasks:
            yield wrong("I7", f"it is completed with {row.failed_tasks} failed tasks")
    if row.status in TERMINAL:
        return
    yield from (wrong("I2", what) for what in _no_place(row, tasks))
    if not tracker:
        if not opened:
            yield wrong("I2", "none of its tasks is open, and it has not ended")
        for invariant, what in _of_open_tasks(row, by_name, graph, around):
            yield wrong(invariant, what)


def _of_open_tasks(
    row: Execution, by_name: Mapping[str, TaskRow], graph: Graph, around: Around
) -> Iterator[tuple[str, str]]:
    """(invariant, what does not hold) of the tasks that have not ended."""
    tasks = [task for task in by_name.values() if task.open]
    items = Counter(step_of(task.step_id) for task in tasks if task.step_id.endswith("]"))
    for task in tasks:
        if why := _stuck(task, row, items, around) if _opened(task) else _never_opened(task, by_name, graph):
            yield "I2", f"{task.step_id} is {task.status} and {why}"
        if early := _too_early(task, by_name, graph):
            yield "I8", f"{task.step_id} may begin before {', '.join(early)} ended"
        if row.cancel_requested_at and task.status != Status.IN_PROGRESS and task.waiting_for not in _LAST_TO_STOP:
            yield "I12", f"{task.step_id} is {task.status}, and nobody will end it though it was cancelled"


def _no_place(row: Execution, tasks: Sequence[TaskRow]) -> Iterator[str]:
    """Why no performer will look at it though it has something to claim."""
    soonest = min((task.ready_at for task in tasks if task.ready_at is not None), default=None)
    if soonest is None or row.cancel_requested_at or row.held or row.status == Status.PAUSED:
        return
    if row.ready_at is None:
        yield "it has a ready task and no place in line"
    elif row.rank is None:
        yield "it stands in line without a rank"
    elif row.ready_at > max(soonest, row.updated_at):
        yield f"a task is ready at {soonest:%H:%M:%S}, its place in line comes at {row.ready_at:%H:%M:%S}"


def _miscounted(row: Execution, tasks: Sequence[TaskRow], graph: Graph) -> Iterator[str]:
    whole = [task for task in tasks if not task.step_id.endswith("]")]
    failed = sum(
        task.status in (Status.FAILED, Status.TIMED_OUT) and not graph.steps[task.step_id].allow_failure
        for task in whole
        if task.step_id in graph.steps
    )
    if failed != row.failed_tasks:
        yield f"it counts {row.failed_tasks} failed tasks; {failed} are"
    points = sum(task.percent for task in whole)
    if abs(points - row.points) > _NEARLY * max(1, len(tasks)):
        yield f"it counts {row.points:g} points; its tasks have {points:g}"


def _opened(task: TaskRow) -> bool:
    """Whether it no longer waits for the steps it depends on, but for a performer or for something of its own."""
    ready = task.status == Status.IN_PROGRESS or task.ready_at is not None
    return ready or task.waiting_for in _OWN or task.waiting_for.startswith(_SIGNAL)


def _stuck(task: TaskRow, row: Execution, items: Mapping[str, int], around: Around) -> str:
    """Why nothing will ever move one that was opened; empty where something will."""
    why = ""
    if task.status == Status.IN_PROGRESS:
        if not (task.lease_owner and task.lease_expires_at):
            why = "nobody holds its lease"
        elif task.lease_expires_at > around.now + _LONGEST_LEASE:
            why = f"would be kept by a dead performer until {task.lease_expires_at:%Y-%m-%d %H:%M}"
    elif task.ready_at is not None:
        why = "" if task.lane in around.lanes else f"stands in the lane {task.lane}, which there is not"
    elif task.waiting_for == "leave":
        why = "" if row.held or row.status == Status.PAUSED else "waits for leave, and nothing holds its execution back"
    elif task.waiting_for.startswith(_SIGNAL):
        name = task.waiting_for.removeprefix(_SIGNAL)
        why = f"waits for the signal `{name}`, which has come" if name in row.signals else ""
    elif task.waiting_for in _TIMED:
        why = "" if task.due_at else f"waits for a {task.waiting_for} that has no time"
    elif task.waiting_for == "execution":
        why = "" if task.id in around.children else "waits for an execution that will not tell it"
    elif task.waiting_for == "items":
        left = task.items - task.next_item + items[task.step_id]
        if task.waiting_on != left or not items[task.step_id]:
            why = f"waits for {task.waiting_on} items; {items[task.step_id]} are open and {left} have not ended"
    return why


def _never_opened(task: TaskRow, by_name: Mapping[str, TaskRow], graph: Graph) -> str:
    """Why one that was not opened never will be; empty where it will."""
    spec = graph.steps.get(task.step_id)
    before = [by_name.get(name) for name in spec.depends_on] if spec else []
    left = sum(1 for one in before if one is None or one.open)
    if task.waiting_on == left and left and not task.waiting_for:
        return ""
    what = f"`{task.waiting_for}`" if task.waiting_for else f"{task.waiting_on} steps"
    return f"waits for {what}; {left} of those it depends on have not ended"


def _too_early(task: TaskRow, by_name: Mapping[str, TaskRow], graph: Graph) -> list[str]:
    """The dependencies that have not ended though it has begun or may."""
    spec = graph.steps.get(step_of(task.step_id))
    if spec is None or (task.status == Status.PENDING and task.ready_at is None):
        return []
    return [name for name in spec.depends_on if (before := by_name.get(name)) and before.open]


def check_with_journal(row: Execution, tasks: Sequence[TaskRow], journal: Journal) -> Iterator[Violation]:
    """I4, I6 and I7: the rows are what the journal folds to."""

    def wrong(invariant: str, what: str) -> Violation:
        return Violation(invariant=invariant, execution_id=str(row.pk), what=what)

    ended = journal.ended.get("")
    if (row.status in TERMINAL) != bool(ended) or (ended or row.status) != row.status:
        yield wrong("I6", f"the row says {row.status}, its journal {ended or 'that it is open'}")
    if journal.percent > row.percent:
        yield wrong("I7", f"its journal tells of {journal.percent} %, the row of {row.percent} %")
    if journal.lines != row.seq:
        return  # a journal that lacks lines is told of as such
    if not ended and journal.standing != row.status:
        yield wrong("I6", f"the row says {row.status}, its journal {journal.standing or 'nothing'}")
    if journal.percent < row.percent:
        yield wrong("I6", f"the row says {row.percent} %, its journal {journal.percent} %")
    if row.cancel_requested_at and not journal.stopping:
        yield wrong("I6", "the row says that it was cancelled, its journal does not")
    elif journal.stopping and not row.cancel_requested_at:
        yield wrong("I12", "its journal says that it was cancelled, the row does not")
    for task in tasks:
        folded = (journal.statuses.get(task.step_id, Status.PENDING.value), journal.attempts.get(task.step_id, 0))
        if (task.status, task.fence) != folded:
            said = (
                f"the row of {task.step_id} says {task.status}, attempt {task.fence}; its journal says %s, attempt %s"
            )
            yield wrong("I6", said % folded)
    if strangers := journal.statuses.keys() - {task.step_id for task in tasks}:
        yield wrong("I6", f"its journal tells of {', '.join(sorted(strangers)[:5])}, which have no row")
