"""What goes on, at one glance: counts, what runs, what ended last; each caller's own view. Reads only."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db.models import Case, Count, IntegerField, Q, QuerySet, Value, When

from apps.accounts.permissions import Permission
from apps.workflows.engine.ids import item_ordinal, ordinal_of, step_of, task_id
from apps.workflows.engine.states import EXECUTION_MOVES, TERMINAL, Status
from apps.workflows.models import Event, Execution, Task, Workflow
from apps.workflows.selectors.performers import Names
from apps.workflows.selectors.relations import last_whole_step

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


def steps(user: Any, execution: Execution, limit: int, *, total: int) -> list[Task]:
    """At most `limit` of the tasks of its `total` whole steps, in the order of the definition; items are not there.

    Where there are more, those come first that somebody would look for: in progress, waiting or failed.
    """
    rows = Task.objects.visible_to(user, Permission.TASK_READ).filter(
        execution=execution, pk__lte=last_whole_step(execution.pk)
    )
    if total <= limit:
        return list(rows.order_by("id"))
    weight = Case(When(status__in=_TELLING, then=Value(0)), default=Value(1), output_field=IntegerField())
    return sorted(rows.order_by(weight, "id")[:limit], key=lambda task: task.pk)


def items(execution: Execution, many: Sequence[Task], first: int, failed: int) -> dict[str, list[Task]]:
    """By step the first items of these steps with `for_each`, and `failed` of those that failed, in their order."""
    if not many:
        return {}
    wanted = [
        task_id(execution.pk, item_ordinal(ordinal_of(whole.pk), number))
        for whole in many
        for number in range(min(first, whole.items))
    ]
    bad = Task.objects.filter(execution=execution, pk__gt=last_whole_step(execution.pk), status__in=_FAILED)
    rows = {row.pk: row for row in [*Task.objects.filter(pk__in=wanted), *bad.order_by("pk")[:failed]]}
    found: dict[str, list[Task]] = {whole.step_id: [] for whole in many}
    for row in sorted(rows.values(), key=lambda row: row.pk):
        if (step := step_of(row.step_id)) in found:
            found[step].append(row)
    return found


def last_events(user: Any, execution: Execution, limit: int) -> list[Event]:
    """The newest lines of its journal that tell more than a percentage, newest first, as `user` is told them."""
    rows = Event.objects.visible_to(user, Permission.WORKFLOW_READ).filter(execution=execution)
    found, names = list(rows.exclude(type="task.progress").order_by("-seq")[:limit]), Names(user)
    for event in found:
        event.data = dict(names.told(event.data))
    return found
