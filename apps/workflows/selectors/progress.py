"""Progress as a caller reads it: what is meant by an id, a snapshot, the journal after a cursor."""

import uuid
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db.models import CharField, Count, F, QuerySet, Subquery, UUIDField, Value
from django.db.models.functions import Left, StrIndex

from apps.accounts.permissions import Permission
from apps.core.errors import NotFound
from apps.core.prepared import Parameter, Prepared
from apps.workflows.engine.states import TERMINAL, Status
from apps.workflows.models import Event, Execution, Task, Workflow
from apps.workflows.models.gate import sees_all
from apps.workflows.selectors.performers import unnamed
from apps.workflows.selectors.relations import last_whole_step, steps_until

_NOT_FOUND = "There is no such thing, or you may not know of it."


def target(user: Any, workflow_id: str, permission: Permission = Permission.PROGRESS_READ) -> Execution:
    """What `workflow_id` means to `user`: the execution of that id, or the newest of the workflow of that slug.

    Raises `NotFound`, with one answer for what does not exist and for what the caller may not know of.
    """
    key, slug = execution_key(workflow_id), _slug(workflow_id)
    if sees_all(user, permission):
        found = _BY_KEY.first(key=key) if key is not None else None
        if found := found or _NEWEST.first(slug=slug):
            told = [found.workflow_id, found.slug]  # type: ignore[attr-defined]  # annotated
            found.workflow = Workflow.from_db(found._state.db, ["id", "slug"], told)
            return found
    else:
        visible = Execution.objects.visible_to(user, permission).select_related("workflow")
        if key is not None and (found := visible.filter(pk=key).first()):
            return found
        if found := _newest(visible, slug).first():
            return found
    if Workflow.objects.visible_to(user, permission).filter(slug=slug).exists():
        raise NotFound("This workflow was never executed: there is no progress yet.", code="never_executed")
    raise NotFound(_NOT_FOUND)


def _newest(rows: QuerySet[Execution], slug: Any) -> QuerySet[Execution]:
    """The newest execution of a workflow, where it is among `rows`.

    The slug alone leads to the workflow's executions by index; a join that was sorted would read all of them first.
    """
    newest = Execution.objects.filter(workflow__slug=slug).order_by("-id").values("pk")[:1]
    return rows.filter(pk=Subquery(newest)).order_by()


def _with_slug() -> QuerySet[Execution]:
    return Execution.objects.annotate(slug=F("workflow__slug"))


_BY_KEY = Prepared(lambda: _with_slug().filter(pk=Parameter("key", UUIDField())))
_NEWEST = Prepared(lambda: _newest(_with_slug(), Parameter("slug", CharField())))
_STEPS = Prepared(
    lambda: steps_until(Parameter("execution", UUIDField()), Parameter("last", UUIDField())).only(
        "step_id", "status", "percent", "message", "fence", "started_at", "finished_at", "error", "items", "met",
        "waiting_on", "waiting_for",
    )
)  # fmt: skip


def execution_key(text: str) -> UUID | None:
    """`text` as an execution's id, where it is one in its usual form (36 characters) or in 32 digits."""
    if len(text) not in (32, 36):
        return None
    try:
        return uuid.UUID(text)
    except ValueError:
        return None


def _slug(text: str) -> str:
    """No slug is longer than its column or holds NUL, which PostgreSQL would answer with an error."""
    return "" if len(text) > 100 or "\0" in text else text


def snapshot(execution: Execution, *, just_read: bool = False) -> dict[str, Any]:
    """The state of an execution and of its steps, in the order of the definition.

    A step with `for_each` is one step, with `items`: how many there are and where they are. Each of them is told of
    by events, and by `/executions/{id}/tasks?step_id=`.

    The execution's row, and with it `seq`, is read before the tasks. So the content may already hold what an event
    after `seq` tells; that is harmless, because an event carries absolute values: told again, it changes nothing.
    The other way round (an event at or before `seq` that the content lacks) cannot be. `just_read`: the row need not be
    read again.
    """
    row = execution if just_read else _now(execution)
    tasks = _STEPS.all(execution=row.pk, last=last_whole_step(row.pk))
    steps = {task.step_id: _step(task) for task in tasks}
    counts = items_of(row, tasks)
    for step, count in counts.items():
        steps[step]["items"] = count
    return {**summary(row), "steps": steps, **_counts(step["status"] for step in steps.values())}


def _now(execution: Execution) -> Execution:
    """The row as it is now. Raises `NotFound` where it was deleted meanwhile."""
    row = Execution.objects.select_related("workflow").filter(pk=execution.pk).first()
    if row is None:
        raise NotFound(_NOT_FOUND)
    return row


def summary(row: Execution) -> dict[str, Any]:
    """The execution itself, without its steps."""
    return {
        "workflow_id": row.workflow.slug,
        "execution_id": str(row.pk),
        "status": row.status,
        "percent_complete": row.percent,
        "message": row.message,
        **({"error": row.error} if row.error else {}),
        "created_at": _time(row.created_at),
        "started_at": _time(row.started_at),
        "updated_at": _time(row.updated_at),
        "finished_at": _time(row.finished_at),
        "seq": row.seq,
    }


def _step(task: Task) -> dict[str, Any]:
    return {
        "status": task.status,
        "percent_complete": 100.0 if task.status == Status.COMPLETED else task.percent,
        "message": task.message,
        "attempt": task.fence,
        "started_at": _time(task.started_at),
        "finished_at": _time(task.finished_at),
        **({"error": task.error} if task.error else {}),
    }


def items_of(row: Execution, tasks: Iterable[Task]) -> dict[str, dict[str, int]]:
    """By step with `for_each` how many items it has and where they are; `tasks` are those of whole steps.

    What a step's own task counts is not counted again, unless a stop broke its count off.
    """
    many = [task for task in tasks if task.items or task.waiting_for == "items"]
    if not many:
        return {}
    items = Task.objects.filter(execution=row, pk__gt=last_whole_step(row.pk))
    step = Left("step_id", StrIndex("step_id", Value("[")) - 1)
    # Few are under a lease at once; an index has them.
    leased = items.filter(lease_expires_at__isnull=False).order_by()
    running = dict(leased.annotate(step=step).values_list("step").annotate(Count("pk")))
    bad: dict[str, int] = {}
    if row.cancel_requested_at is not None:
        failed = items.filter(status__in=[Status.FAILED, Status.TIMED_OUT]).order_by()
        bad = dict(failed.annotate(step=step).values_list("step").annotate(Count("pk")))
    return {
        task.step_id: {
            "total": task.items,
            "completed": task.met,
            "failed": bad.get(task.step_id, 0)
            if row.cancel_requested_at is not None
            else task.items - task.waiting_on - task.met,
            "in_progress": running.get(task.step_id, 0),
        }
        for task in many
    }


def _counts(statuses: Iterable[str]) -> dict[str, int]:
    """How many steps are where; `total_steps` is the sum of the rest."""
    count = Counter(statuses)
    return {
        "total_steps": count.total(),
        "completed_steps": count[Status.COMPLETED],
        "in_progress_steps": count[Status.IN_PROGRESS],
        "failed_steps": count[Status.FAILED] + count[Status.TIMED_OUT],
        "pending_steps": count[Status.PENDING] + count[Status.WAITING] + count[Status.PAUSED],
        "skipped_steps": count[Status.SKIPPED],
        "cancelled_steps": count[Status.CANCELLED],
    }


def events_after(execution_id: UUID, seq: int, limit: int) -> list[dict[str, Any]]:
    """At most `limit` events of the journal after `seq`, in order, as every watcher is told them.

    One text for all who watch: of whoever performs a step it has the kind alone, which each of them may know, and of
    parents and children nothing.
    """
    rows = Event.objects.filter(execution_id=execution_id, seq__gt=seq).order_by("seq")[:limit]
    return [
        {
            **unnamed(row.data),
            "execution_id": str(row.execution_id),
            "seq": row.seq,
            "type": row.type,
            "step_id": row.step_id or None,
            "at": _time(row.at),
        }
        for row in rows
    ]


def _time(value: datetime | None) -> str | None:
    return None if value is None else value.isoformat().replace("+00:00", "Z")


# --- what sockets watch -----------------------------------------------------------------------------------------------


def positions(executions: Iterable[UUID]) -> dict[UUID, int]:
    """The last event's number of each of these executions that still exists."""
    return dict(Execution.objects.filter(pk__in=list(executions)).values_list("pk", "seq"))


def open_executions(user: Any, limit: int) -> list[Execution]:
    """The newest executions that have not ended and that `user` may watch."""
    visible = Execution.objects.visible_to(user, Permission.PROGRESS_READ)
    return list(visible.exclude(status__in=sorted(TERMINAL)).select_related("workflow").order_by("-id")[:limit])


def visible_among(user: Any, executions: Iterable[UUID]) -> dict[UUID, Execution]:
    """Those of these executions that `user` may watch now."""
    visible = Execution.objects.visible_to(user, Permission.PROGRESS_READ)
    return {row.pk: row for row in visible.filter(pk__in=list(executions)).select_related("workflow")}


def visible_to_each(users: Collection[UUID], executions: Iterable[UUID]) -> dict[UUID, set[UUID]]:
    """`visible_among` for many accounts at once, of which no role reads progress."""
    return Execution.objects.filter(pk__in=list(executions)).visible_to_each(users, Permission.PROGRESS_READ)


def newer_executions(workflows: Mapping[UUID, UUID]) -> list[Execution]:
    """Executions of these workflows (id → an execution of it) that are newer than the one given, oldest first."""
    if not workflows:
        return []
    rows = Execution.objects.filter(workflow_id__in=list(workflows), pk__gt=min(workflows.values()))
    return [
        row
        for row in rows.select_related("workflow").order_by("id")
        if row.workflow_id is not None and row.pk > workflows[row.workflow_id]
    ]


def created_since(moment: datetime, *, limit: int) -> list[UUID]:
    """The newest ids of executions begun after `moment`: an id tells the millisecond in which it was made."""
    first = UUID(int=int(moment.timestamp() * 1000) << 80)
    return list(Execution.objects.filter(pk__gte=first).order_by("-id").values_list("pk", flat=True)[:limit])
