"""What follows in other executions when one has ended, or is being stopped: parents, children, those held back.

Each is done after the commit that made it due, and found again by the sweep where that was cut short.
"""

from collections.abc import Sequence
from uuid import UUID

from django.db import transaction
from django.db.models import F, Q, QuerySet

from apps.workflows.engine.ids import execution_of
from apps.workflows.engine.states import OPEN, Status
from apps.workflows.engine.types import ChildEnded, ResumeRequested, StopRequested
from apps.workflows.models import Execution, Task, Workflow
from apps.workflows.selectors.graphs import graph_of, unreadable
from apps.workflows.services.apart import each_apart
from apps.workflows.services.ledger import sql, unit_of
from apps.workflows.services.stopping import request_stop, write_all

AT_ONCE = 100
_OPEN = sorted(status.value for status in OPEN)


def after(ended: Sequence[sql.ExecutionRow]) -> None:
    """Right after these executions ended."""
    for row in ended:
        if row.state.owes_parent and row.parent_task is not None:
            tell_parent(row.id, row.parent_task)
        if row.concurrency_key:
            admit(row.workflow_id, row.concurrency_key)
        stop_orphans(Execution.objects.filter(parent_task__execution_id=row.id))


def sweep() -> None:
    """Whatever was left undone by a process that died in between."""
    rows = Execution.objects.exclude(version__in=unreadable())
    owing = rows.filter(owes_parent=True, finished_at__isnull=False, parent_task__isnull=False)
    owing = owing.exclude(parent_task__execution__version__in=unreadable())
    each_apart(lambda one: tell_parent(*one), list(owing.order_by("pk").values_list("pk", "parent_task_id")[:AT_ONCE]))
    stop_orphans(rows.filter(parent_task__isnull=False))
    held = rows.filter(held=True).order_by("workflow_id", "concurrency_key")
    each_apart(lambda one: admit(*one), list(held.values_list("workflow_id", "concurrency_key").distinct()))


def tell_parent(child: UUID, task: UUID) -> None:
    """Tell the task that waits for an execution how that ended; once, in one transaction."""
    parent = execution_of(task)
    name = Task.objects.filter(pk=task).values_list("step_id", flat=True).first()
    with unit_of({child, parent}) as unit:
        ended, waiting = unit.held.get(child), unit.held.get(parent)
        if ended is None or not ended.state.owes_parent:
            return
        if name is not None and waiting is not None:
            row = Execution.objects.only("outputs", "error", "status").get(pk=child)
            error = None
            if row.status != Status.COMPLETED:
                why = str((row.error or {}).get("message", "")) or f"it ended as {row.status}"
                error = {"type": "workflow", "message": why[:900], "execution_id": str(child), "status": row.status}
            told = ChildEnded(step_id=name, status=Status(row.status), outputs=row.outputs or {}, error=error)
            unit.happen(parent, told)
        ended.told_parent()
        write_all(unit)


def stop_orphans(children: QuerySet[Execution]) -> None:
    """Have executions stopped whose parent is being stopped, or no longer waits for them."""
    orphans = (
        children.filter(finished_at__isnull=True, cancel_requested_at__isnull=True)
        .filter(Q(parent_task__execution__cancel_requested_at__isnull=False) | ~Q(parent_task__status__in=_OPEN))
        .order_by("pk")
        .values_list("pk", flat=True)[:AT_ONCE]
    )
    each_apart(
        lambda child: request_stop(child, StopRequested(status=Status.CANCELLED, by="its parent")), list(orphans)
    )


def admit(workflow: UUID, key: str) -> None:
    """Let as many executions that are held back begin as the limit of this key has room for, the first first."""
    with transaction.atomic():
        # Under the workflow's lock nobody else counts; who only refers to the workflow does not wait for it.
        if not Workflow.objects.select_for_update(no_key=True).filter(pk=workflow).exists():
            return
        alike = Execution.objects.filter(workflow_id=workflow, concurrency_key=key, finished_at__isnull=True)
        waiting = alike.filter(held=True).order_by(F("priority").desc(), "pk")
        first = waiting.values_list("pk", "version_id").first()
        if first is None:
            return
        limit = graph_of(first[1]).concurrency
        room = (limit.limit if limit else 1) - alike.filter(held=False).count()
        if room <= 0:
            return
        with unit_of(waiting.values_list("pk", flat=True)[:room]) as unit:
            for identity, held in list(unit.held.items()):
                unit.take(sql.open_tasks(unit.cursor, identity))
                held.happen(ResumeRequested(admitted=True))
            write_all(unit)
