"""I2 to I7, as the rows of one execution and of its tasks show them, alone and beside what its journal folds to."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence, Set
from datetime import datetime
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
_ASKED = ("leave", "approval")
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

    @property
    def open(self) -> bool:
        """Whether it has not ended."""
        return self.status not in TERMINAL


def check_rows(row: Execution, tasks: Sequence[TaskRow], children: Set[UUID]) -> Iterator[Violation]:
    """What does not hold of the rows; `children` are the tasks that will hear of a sub-workflow."""

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
    if not tracker:
        yield from (wrong("I6", what) for what in _miscounted(row, tasks, graph))
    if row.status in TERMINAL:
        return
    soonest = min((task.ready_at for task in tasks if task.ready_at is not None), default=None)
    let = not (row.cancel_requested_at or row.held or row.status == Status.PAUSED)
    place = row.ready_at
    if soonest and let and place is None:
        yield wrong("I2", "it has a ready task and no place in line")
    elif soonest and let and place and place > max(soonest, row.updated_at):
        yield wrong("I2", f"a task is ready at {soonest:%H:%M:%S}, its place in line comes at {place:%H:%M:%S}")
    if tracker:
        return
    by_name = {task.step_id: task for task in tasks}
    items = Counter(step_of(task.step_id) for task in tasks if task.open and task.step_id.endswith("]"))
    for task in tasks:
        if task.open and (why := _stuck(task, by_name, items, graph, children)):
            yield wrong("I2", f"{task.step_id} is {task.status} and {why}")


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


def _stuck(
    task: TaskRow, by_name: Mapping[str, TaskRow], items: Mapping[str, int], graph: Graph, children: Set[UUID]
) -> str:
    """Why nothing will ever move it; empty where something will."""
    why = ""
    if task.status == Status.IN_PROGRESS:
        why = "" if task.lease_owner and task.lease_expires_at else "nobody holds its lease"
    elif task.ready_at is not None or task.waiting_for in _ASKED or task.waiting_for.startswith("signal:"):
        pass
    elif task.waiting_for in _TIMED:
        why = "" if task.due_at else f"waits for a {task.waiting_for} that has no time"
    elif task.waiting_for == "execution":
        why = "" if task.id in children else "waits for an execution that will not tell it"
    elif task.waiting_for == "items":
        left = task.items - task.next_item + items[task.step_id]
        if task.waiting_on != left or not items[task.step_id]:
            why = f"waits for {task.waiting_on} items; {items[task.step_id]} are open and {left} have not ended"
    else:
        spec = graph.steps.get(task.step_id)
        before = [by_name.get(name) for name in spec.depends_on] if spec else []
        left = sum(1 for one in before if one is None or one.open)
        if task.waiting_on != left or not left:
            why = f"waits for {task.waiting_on} steps; {left} of those it depends on have not ended"
    return why


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
    for task in tasks:
        folded = (journal.statuses.get(task.step_id, Status.PENDING.value), journal.attempts.get(task.step_id, 0))
        if (task.status, task.fence) != folded:
            said = (
                f"the row of {task.step_id} says {task.status}, attempt {task.fence}; its journal says %s, attempt %s"
            )
            yield wrong("I6", said % folded)
    if strangers := journal.statuses.keys() - {task.step_id for task in tasks}:
        yield wrong("I6", f"its journal tells of {', '.join(sorted(strangers)[:5])}, which have no row")
