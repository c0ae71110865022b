"""How executions are related, as a caller may know of it: parents, children; and what may still be asked of one."""

from collections.abc import Iterable
from typing import Any, TypedDict
from uuid import UUID

from django.db.models import Exists, OuterRef, Prefetch, Q, QuerySet, Subquery, UUIDField
from django.db.models.functions import Substr

from apps.accounts.permissions import Permission
from apps.workflows.engine.ids import ORDINAL_BITS, STEP_BITS
from apps.workflows.engine.states import Status, allowed_actions
from apps.workflows.models import Execution, Task, Workflow, WorkflowVersion

MAX_CHILDREN = 100
MOST = 1000
FEW = 5000  # tasks that are found and sorted in a moment
# Of a tracker's execution: the platform has nothing that it could hold back, signal or do again.
_OF_A_TRACKER = frozenset({"cancel"})


class Child(TypedDict):
    """An execution that is a step of another one."""

    execution_id: UUID
    workflow_id: str
    step_id: str
    status: str


def actions_of(execution: Execution) -> tuple[str, ...]:
    """What may still be asked of an execution, whoever asks."""
    stopping = execution.cancel_requested_at is not None
    lawful = allowed_actions(Status(execution.status), cancel_requested=stopping)
    if execution.workflow.kind == Workflow.Kind.TRACKER:
        return tuple(action for action in lawful if action in _OF_A_TRACKER)
    return lawful


def for_a_page(rows: QuerySet[Execution]) -> QuerySet[Execution]:
    """With what a list tells beside the rows, read once the page is known.

    Joined, a database that finds the small tables cheaper begins with those and sorts all executions; and each row
    would bring its whole definition along.
    """
    version = Prefetch("version", WorkflowVersion.objects.only("number"))
    return rows.prefetch_related("workflow", version, "requested_by")


def with_parents(rows: QuerySet[Execution], user: Any) -> QuerySet[Execution]:
    """With `parent_execution_id` and `parent_step_id`, where `user` may read the workflow of the parent; else None."""
    readable = Task.objects.visible_to(user, Permission.WORKFLOW_READ).filter(pk=OuterRef("parent_task_id"))
    return rows.annotate(
        parent_execution_id=Subquery(readable.values("execution_id")[:1], output_field=UUIDField()),
        parent_step_id=Subquery(readable.values("step_id")[:1]),
    )


def of_parent(execution: UUID) -> Q:
    """Executions that are steps of this one: the ids of an execution's tasks lie side by side."""
    return Q(parent_task__gte=execution, parent_task__lte=UUID(int=execution.int | (1 << ORDINAL_BITS) - 1))


def children(user: Any, execution: Execution) -> list[Child]:
    """The first executions that are steps of this one and that `user` may read."""
    return _children(user, of_parent(execution.pk))[:MAX_CHILDREN]


def children_of_tasks(user: Any, tasks: Iterable[UUID]) -> dict[str, Child]:
    """By step the newest execution that is this step and that `user` may read: one may have been tried again."""
    return {child["step_id"]: child for child in _children(user, Q(parent_task__in=list(tasks)))}


def _children(user: Any, which: Q) -> list[Child]:
    rows = Execution.objects.visible_to(user, Permission.WORKFLOW_READ).filter(which).order_by("pk")
    found = rows.values_list("pk", "workflow__slug", "parent_task__step_id", "status")[:MOST]
    return [
        Child(execution_id=key, workflow_id=slug, step_id=step or "", status=status)
        for key, slug, step, status in found
    ]


def last_whole_step(execution: UUID) -> UUID:
    """The last id that the task of a whole step of an execution can have; those of items come behind."""
    return UUID(int=execution.int | (1 << STEP_BITS) - 1)


def key_of(slug: str) -> Subquery:
    """The key of the workflow with this id, for a query: an index then has its rows in the order of a list."""
    return Subquery(Workflow.objects.filter(slug=slug).values("pk")[:1])


def of_workflow(rows: QuerySet[Task], slug: str) -> QuerySet[Task]:
    """Those tasks that are of this workflow, whose newest stand first in a list.

    Few are found by its executions and sorted. Of many a list wants the newest alone: in its order each task is
    asked for its workflow, from the newest execution on.
    """
    executions = Execution.objects.filter(workflow=key_of(slug))
    newest = list(executions.order_by("-pk").values_list("pk", "tasks_total")[: MOST + 1])
    if len(newest) <= MOST and sum(count for _, count in newest) <= FEW:
        return rows.filter(execution__in=[key for key, _ in newest])
    last = UUID(int=newest[0][0].int | (1 << ORDINAL_BITS) - 1)
    return rows.filter(Exists(executions.filter(pk=OuterRef("execution_id"))), pk__lte=last)


def whole_steps(execution: UUID) -> QuerySet[Task]:
    """The tasks of an execution's steps without those of their items, in the order of the definition."""
    return steps_until(execution, last_whole_step(execution))


def steps_until(execution: Any, last: Any) -> QuerySet[Task]:
    """As `whole_steps`, of an execution and its `last_whole_step`; either may be a `Parameter`."""
    return Task.objects.filter(execution=execution, pk__lte=last).order_by("pk")


def item_number(ordinal: int) -> int | None:
    """The number of the item, from 0, that the task with this ordinal is about; None for that of a whole step.

    Not by its name: a tracker's steps are called as somebody likes.
    """
    number = ordinal >> STEP_BITS
    return number - 1 if number else None


def of_step(rows: QuerySet[Task], step: str) -> QuerySet[Task]:
    """Those tasks that are of one step, its items' among them; or, for `load[7]`, the one of that item."""
    items = f"{step}["
    # Not `startswith`: SQLite's LIKE takes `Load[` for `load[`.
    begun = rows.annotate(begins=Substr("step_id", 1, len(items)))
    return begun.filter(Q(step_id=step) | Q(begins=items))
