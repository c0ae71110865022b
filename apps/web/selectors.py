"""What each page shows, as its template's context. Reads only; every row comes through a gate of permissions."""

from typing import Any
from uuid import UUID

import yaml
from django.conf import settings

from apps.accounts.permissions import Permission, holds
from apps.core.clock import database_now
from apps.core.errors import NotFound
from apps.progress.credentials import may_watch
from apps.web.graph import Drawing, draw
from apps.workflows.engine.states import TERMINAL, Status, allowed_actions
from apps.workflows.models import Execution, Task, Workflow
from apps.workflows.selectors import overview, progress, statistics
from apps.workflows.selectors.graphs import graph_of

MAX_OPEN = 20
MAX_ENDED = 12
MAX_WORKFLOWS = 8
MAX_STEPS = 300
MAX_EVENTS = 60
MAX_DRAWN = 80  # a larger graph is no picture any more

_NOT_FOUND = "There is no such thing, or you may not know of it."


def start(user: Any, *, base: str) -> dict[str, Any]:
    """The start page. `base` is the address of this server, for the commands it shows."""
    now = database_now()
    return {
        "now": now,
        "base": base,
        "counts": overview.counts(user, now),
        "open_executions": overview.open_ones(user, MAX_OPEN),
        "ended_executions": overview.ended(user, MAX_ENDED),
        "workflows": list(overview.workflows_of(user).exclude(kind=Workflow.Kind.TASKS)[:MAX_WORKFLOWS]),
        "performers": _performers(user),
        "may_watch": may_watch(user),
        "may_create": holds(user, Permission.WORKFLOW_CREATE),
    }


def execution(user: Any, execution_id: UUID) -> dict[str, Any]:
    """The page of one execution. Raises `NotFound`, with one answer for what is not there and what is not shown."""
    row = overview.executions_of(user).select_related("requested_by").filter(pk=execution_id).first()
    if row is None:
        raise NotFound(_NOT_FOUND)
    tasks = overview.steps(user, row, MAX_STEPS)
    may_watch_it = Execution.objects.visible_to(user, Permission.PROGRESS_READ).filter(pk=row.pk).exists()
    return {
        "now": database_now(),
        "execution": row,
        "ended": row.status in TERMINAL,
        "steps": tasks,
        "steps_hidden": row.tasks_total - len(tasks),
        "drawing": _drawing(row, tasks),
        "events": overview.last_events(user, row, MAX_EVENTS),
        "may_watch": may_watch_it,
        "estimate": progress.estimate(row) if may_watch_it and row.status not in TERMINAL else None,
        "may_cancel": _may_cancel(user, row),
    }


def workflow(user: Any, slug: str, *, base: str) -> dict[str, Any]:
    """The page of one workflow. Raises `NotFound`."""
    row = overview.workflows_of(user).select_related("owner").filter(slug=slug).first()
    if row is None:
        raise NotFound(_NOT_FOUND)
    version = row.versions.select_related("created_by").get(number=row.version_number)
    return {
        "now": database_now(),
        "base": base,
        "workflow": row,
        "version": version,
        "definition": yaml.safe_dump(version.definition, sort_keys=False, allow_unicode=True, width=100),
        "step_count": len(version.definition.get("steps") or ()),
        "executions": list(overview.executions_of(user).filter(workflow=row)[:MAX_ENDED]),
        "may_watch": Workflow.objects.visible_to(user, Permission.PROGRESS_READ).filter(pk=row.pk).exists(),
    }


def _performers(user: Any) -> dict[str, Any] | None:
    """Workers by state, the steps they perform and those that nobody has taken yet; for those who may monitor."""
    if not holds(user, Permission.MONITORING_READ):
        return None
    now = database_now()
    backlogs = statistics.backlogs(now).values()
    return {
        **statistics.workers(now, lease_seconds=settings.ENV.LEASE_SECONDS),
        "performed": statistics.steps_performed(),
        "ready": sum(backlog.depth for backlog in backlogs),
        "oldest_seconds": max((backlog.oldest_seconds for backlog in backlogs), default=0.0),
    }


def _drawing(row: Execution, tasks: list[Task]) -> Drawing | None:
    """The graph with the status of each step, where it is small enough to be read."""
    statuses = {task.step_id: task.status for task in tasks}
    graph = graph_of(row.version_id)
    if not 1 < len(graph.steps) <= MAX_DRAWN or not statuses.keys() >= graph.steps.keys():
        return None
    return draw({step.id: step.depends_on for step in graph.steps.values()}, statuses)


def _may_cancel(user: Any, row: Execution) -> bool:
    """Whether the button is shown: the API decides again, and only where sessions open it."""
    lawful = "cancel" in allowed_actions(Status(row.status), cancel_requested=row.cancel_requested_at is not None)
    may = Execution.objects.visible_to(user, Permission.TASK_DELETE).filter(pk=row.pk)
    return lawful and settings.ENV.BROWSABLE_API and bool(user.is_authenticated) and may.exists()
