"""What goes on, at one glance: counts, what runs, what ended last; each caller's own view. Reads only."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db.models import Case, Count, IntegerField, Q, QuerySet, Value, When

from apps.accounts.permissions import Permission
from apps.workflows.engine.states import EXECUTION_MOVES, TERMINAL, Status
from apps.workflows.models import Event, Execution, Task, Workflow

LOOK_BACK = timedelta(hours=24)
OPEN_STATUSES = sorted(status for status, moves in EXECUTION_MOVES.items() if moves)
_RUNNING = sorted({Status.IN_PROGRESS, Status.WAITING})
_FAILED = sorted({Status.FAILED, Status.TIMED_OUT})
_TELLING = sorted({Status.IN_PROGRESS, Status.WAITING, Status.FAILED, Status.TIMED_OUT})


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """Executions now (`running`, `in_line`) and those that ended within `LOOK_BACK` (`completed`, `failed`)."""

    running: int
    in_line: int
    completed: int
    failed: int


def executions_of(user: Any) -> QuerySet[Execution]:
    """The executions that `user` may read, with their workflow and version, newest first (ids rise with time)."""
    visible = Execution.objects.visible_to(user, Permission.WORKFLOW_READ)
    return visible.select_related("workflow", "version").order_by("-id")


def workflows_of(user: Any) -> QuerySet[Workflow]:
    """The workflows that `user` may read, the last changed first."""
    return Workflow.objects.visible_to(user, Permission.WORKFLOW_READ).order_by("-updated_at", "-id")


def counts(user: Any, now: datetime) -> Counts:
    """How many of the executions that `user` may read are where, in one query; `failed` counts time-outs too."""
    lately = Q(finished_at__gte=now - LOOK_BACK)
    found = Execution.objects.visible_to(user, Permission.WORKFLOW_READ).aggregate(
        running=Count("pk", filter=Q(status__in=_RUNNING)),
        in_line=Count("pk", filter=Q(status=Status.PENDING)),
        completed=Count("pk", filter=lately & Q(status=Status.COMPLETED)),
        failed=Count("pk", filter=lately & Q(status__in=_FAILED)),
    )
    return Counts(**found)


def open_ones(user: Any, limit: int) -> list[Execution]:
    """The newest executions that have not ended."""
    return list(executions_of(user).filter(status__in=OPEN_STATUSES)[:limit])


def ended(user: Any, limit: int) -> list[Execution]:
    """The newest executions that have ended."""
    return list(executions_of(user).filter(status__in=sorted(TERMINAL))[:limit])


def steps(user: Any, execution: Execution, limit: int) -> list[Task]:
    """At most `limit` of its tasks, in the order of the definition.

    Where there are more, those come first that somebody would look for: in progress, waiting or failed.
    """
    rows = Task.objects.visible_to(user, Permission.TASK_READ).filter(execution=execution)
    if execution.tasks_total <= limit:
        return list(rows.order_by("id"))
    weight = Case(When(status__in=_TELLING, then=Value(0)), default=Value(1), output_field=IntegerField())
    return sorted(rows.order_by(weight, "id")[:limit], key=lambda task: task.pk)


def last_events(user: Any, execution: Execution, limit: int) -> list[Event]:
    """The newest lines of its journal that tell more than a percentage, newest first."""
    rows = Event.objects.visible_to(user, Permission.WORKFLOW_READ).filter(execution=execution)
    return list(rows.exclude(type="task.progress").order_by("-seq")[:limit])
