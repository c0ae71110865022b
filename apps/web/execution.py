"""What the page of one execution shows. Reads only; every row comes through a gate of permissions."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from django.conf import settings

from apps.accounts.models import User
from apps.accounts.permissions import Permission, holds
from apps.core.clock import database_now
from apps.core.errors import NotFound
from apps.web import ansi
from apps.web.forms import Field, fields_of
from apps.web.graph import Drawing, draw
from apps.workflows.engine.ids import step_of
from apps.workflows.engine.states import TERMINAL, Status
from apps.workflows.models import Artifact, Execution, Task, Workflow
from apps.workflows.selectors import estimates, logs, overview, progress
from apps.workflows.selectors.approvals import WAITING_FOR, asked_of, is_asked, requested_by
from apps.workflows.selectors.graphs import graph_of
from apps.workflows.selectors.performers import Names
from apps.workflows.selectors.relations import actions_of, children, with_parents
from apps.workflows.selectors.why import reasons_of

MAX_STEPS = 300
MAX_EXPLAINED = 100  # open steps beside which it stands why
MAX_MANY = 20  # steps with `for_each` whose items are listed
MAX_ITEMS = 50  # of each of them; and as many of those that failed
MAX_EVENTS = 60
MAX_LOG = 200  # pieces of log
MAX_ARTIFACTS = 50
MAX_APPROVALS = 20
MAX_DRAWN = 80  # a larger graph is no picture any more

NOT_FOUND = "There is no such thing, or you may not know of it."
_ASKED = {
    "cancel": Permission.TASK_DELETE,
    "pause": Permission.WORKFLOW_EXECUTE,
    "resume": Permission.WORKFLOW_EXECUTE,
    "retry": Permission.WORKFLOW_EXECUTE,
    "fork": Permission.WORKFLOW_EXECUTE,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A step in the table: its task, the name beside its id, who performs it, why it does not run, its items."""

    task: Task
    name: str = ""
    reasons: Sequence[dict[str, Any]] = ()
    count: dict[str, int] | None = None
    performer: str = ""
    items: Sequence[Task] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Approval:
    """A task that the reader may approve or reject, the name of its step, and the fields of its form."""

    task: Task
    name: str = ""
    fields: Sequence[Field] = field(default_factory=tuple)


def execution(user: Any, execution_id: UUID) -> dict[str, Any]:
    """The page of one execution. Raises `NotFound`, with one answer for what is not there and what is not shown."""
    rows = overview.executions_of(user).select_related("requested_by", "origin")
    row = with_parents(rows, user).filter(pk=execution_id).first()
    if row is None:
        raise NotFound(NOT_FOUND)
    tracked = row.workflow.kind == Workflow.Kind.TRACKER
    total = row.tasks_total if tracked else len(graph_of(row.version_id).steps)
    tasks = overview.steps(user, row, MAX_STEPS, total=total)
    for task in tasks:
        task.execution = row
    may_watch_it = _may(user, row, Permission.PROGRESS_READ)
    actions = _actions(user, row)
    return {
        "now": database_now(),
        "execution": row,
        "ended": row.status in TERMINAL,
        "steps": _rows(user, row, tasks),
        "steps_total": total,
        "steps_hidden": total - len(tasks),
        "drawing": _drawing(row, tasks),
        "events": overview.last_events(user, row, MAX_EVENTS),
        "may_watch": may_watch_it,
        "estimate": estimates.answer(user, row).body if may_watch_it and row.status not in TERMINAL else None,
        "actions": actions,
        "approvals": _approvals(user, row),
        "children": children(user, row),
        "log": _log(row) if _may(user, row, Permission.TASK_READ) else None,
        "artifacts": Artifact.objects.filter(execution=row).select_related("task").order_by("-id")[:MAX_ARTIFACTS],
    }


def _log(row: Execution) -> list[dict[str, Any]]:
    """The last that its steps wrote, a group for each run of pieces of one attempt."""
    groups: list[dict[str, Any]] = []
    chunks, left = logs.newest(row, MAX_LOG), ansi.MOST_LETTERS
    for chunk in reversed(chunks):  # the newest are shown where there is no room for all
        left -= len(chunk.text)
        if left < 0:
            break
        key = (chunk.task_id, chunk.fence)
        if not groups or groups[0]["key"] != key:
            groups.insert(0, {"key": key, "step_id": chunk.task.step_id, "attempt": chunk.fence, "text": ""})
        groups[0]["text"] = chunk.text + groups[0]["text"]
    for group in groups:
        group["pieces"] = list(ansi.pieces(group["text"]))
    return groups


def _rows(user: Any, row: Execution, tasks: list[Task]) -> list[Row]:
    silent = [task for task in tasks if task.status not in TERMINAL and task.status != Status.IN_PROGRESS]
    reasons = reasons_of(user, row, silent[:MAX_EXPLAINED]) if silent else {}
    many = [task for task in tasks if task.items][:MAX_MANY]
    counts = progress.items_of(row, tasks)
    items = overview.items(row, many, MAX_ITEMS, MAX_ITEMS)
    names = Names(user)
    return [
        Row(
            task=task,
            name=_name(row, task),
            performer=names.of(task.lease_owner),
            reasons=reasons.get(task.pk, ()),
            count=counts.get(task.step_id),
            items=items.get(task.step_id, ()),
        )
        for task in tasks
    ]


def _name(row: Execution, task: Task) -> str:
    """What the definition calls the task's step, where it does."""
    spec = graph_of(row.version_id).steps.get(step_of(task.step_id))
    return "" if spec is None or spec.name == spec.id else spec.name


def _drawing(row: Execution, tasks: list[Task]) -> Drawing | None:
    """The graph with the status of each step, where it is small enough to be read."""
    statuses = {task.step_id: task.status for task in tasks}
    graph = graph_of(row.version_id)
    if not 1 < len(graph.steps) <= MAX_DRAWN or not statuses.keys() >= graph.steps.keys():
        return None
    return draw({step.id: step.depends_on for step in graph.steps.values()}, statuses)


def _may(user: Any, row: Execution, permission: Permission) -> bool:
    return holds(user, permission) or Execution.objects.visible_to(user, permission).filter(pk=row.pk).exists()


def _asks(user: Any) -> bool:
    """Whether buttons are shown at all: the API decides again, and only where sessions open it."""
    return settings.ENV.BROWSABLE_API and bool(user.is_authenticated)


def _actions(user: Any, row: Execution) -> frozenset[str]:
    """What is lawful now and the reader may ask for."""
    lawful = [action for action in actions_of(row) if action in _ASKED] if _asks(user) else []
    may = {permission: _may(user, row, permission) for permission in {_ASKED[action] for action in lawful}}
    return frozenset(action for action in lawful if may[_ASKED[action]])


def _approvals(user: Any, row: Execution) -> list[Approval]:
    """The first approvals that the reader may give."""
    graph = graph_of(row.version_id)
    if not isinstance(user, User) or not _asks(user) or all(one.kind != "approval" for one in graph.steps.values()):
        return []
    waiting = Task.objects.visible_to(user, Permission.TASK_READ).filter(execution=row, waiting_for=WAITING_FOR)
    found = []
    for task in waiting.order_by("pk")[:MAX_APPROVALS]:
        task.execution = row
        asked = asked_of(task)
        if asked is None or not is_asked(asked, user) or (not asked.allow_requester and requested_by(task, user)):
            continue
        found.append(Approval(task=task, name=_name(row, task), fields=fields_of(asked.form)))
    return found if found and _may(user, row, Permission.TASK_EXECUTE) else []
