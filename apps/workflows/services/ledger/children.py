"""Executions within a transaction: a new one's first rows, sub-workflows, and what is owed when one has ended."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

from django.db import transaction

from apps.accounts.models import User
from apps.accounts.permissions import Permission
from apps.core.errors import Invalid
from apps.workflows.definition.inputs import resolve_inputs
from apps.workflows.engine.decide import begin
from apps.workflows.engine.expressions import Context, ExpressionError, render
from apps.workflows.engine.graph import Graph
from apps.workflows.engine.ids import execution_of, new_execution_id
from apps.workflows.engine.types import ExecutionState, Fact
from apps.workflows.models import Execution, Schedule, Trigger, Workflow, WorkflowVersion
from apps.workflows.selectors.environment import allowed_environment
from apps.workflows.selectors.graphs import graph_of
from apps.workflows.services import notifications
from apps.workflows.services.ledger import sql

if TYPE_CHECKING:
    from apps.workflows.services.ledger.unit import Held, Unit

logger = logging.getLogger(__name__)

MOST_DEEP = 20  # sub-workflows within each other


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Why there is a new execution, and what it is given besides its inputs.

    `kept` are the good results, by task, of the execution `of` that it is made from.
    """

    trigger: Trigger = Trigger.CALLER
    by: User | None = None
    trace_id: str = ""
    trace_parent: str = ""
    parent_task: UUID | None = None
    schedule: Schedule | None = None
    scheduled_for: datetime | None = None
    of: Execution | None = None
    kept: Mapping[str, Any] = field(default_factory=dict)
    told: Mapping[str, Any] = field(default_factory=dict)  # for the journal's first line


def new_execution(
    unit: Unit, version: WorkflowVersion, inputs: Mapping[str, Any], origin: Origin, *, priority: int
) -> Held:
    """The rows of a new execution, with its first tasks opened; `inputs` are resolved.

    With a limit on executions it is held back until it is admitted. Raises `Invalid` where the limit's key cannot be
    evaluated.
    """
    graph, now = graph_of(version.pk), unit.now
    key = concurrency_key(graph, inputs)
    deadline = now + timedelta(seconds=graph.timeout_seconds) if graph.timeout_seconds else None
    state = ExecutionState(deadline_at=deadline, held=bool(key), owes_parent=origin.parent_task is not None)
    row = sql.ExecutionRow(
        id=new_execution_id(),
        workflow_id=version.workflow_id,
        version_id=version.pk,
        seq=0,
        revision=0,
        priority=priority,
        trace_id=origin.trace_id,
        trace_parent=origin.trace_parent,
        state=state,
        parent_task=origin.parent_task,
        concurrency_key=key,
        birth=sql.Birth(
            inputs=inputs,
            trigger=str(origin.trigger),
            origin=origin.of.pk if origin.of else None,
            schedule=origin.schedule.pk if origin.schedule else None,
            scheduled_for=origin.scheduled_for,
            requested_by=origin.by.pk if origin.by else None,
        ),
    )
    unit.hold([row])
    held = unit.held[row.id]
    held.kept = origin.kept
    held.outputs.update(origin.kept)
    waits = {"waiting_for": "concurrency"} if key else {}
    held.begin(begin(held.snapshot(), now, trigger=str(origin.trigger), **waits, **origin.told))
    return held


def concurrency_key(graph: Graph, inputs: Mapping[str, Any]) -> str:
    """With which executions of its workflow one is counted together; empty where there is no limit.

    Raises `Invalid` where it cannot be evaluated.
    """
    if graph.concurrency is None:
        return ""
    try:
        key = render(graph.concurrency.key, Context(inputs=inputs, environment=allowed_environment()))
    except ExpressionError as wrong:
        raise Invalid(f"concurrency.key: {wrong}", code="invalid_inputs") from None
    return f"={key}"[:1000]


# --- sub-workflows ----------------------------------------------------------------------------------------------------


def start_child(unit: Unit, parent: Held, name: str, config: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Start another workflow as the task `name` of `parent`; gives the error where it cannot be started."""
    slug = str(config.get("id"))
    workflow = Workflow.objects.filter(slug=slug, kind=Workflow.Kind.WORKFLOW).first()
    by = _on_behalf_of(parent)
    if workflow is None or not _may(by, Permission.WORKFLOW_EXECUTE, workflow):
        if workflow is not None and _may(by, Permission.WORKFLOW_READ, workflow):
            return _refused(f"who started this may not execute the workflow `{slug}`")
        return _refused(f"there is no workflow `{slug[:100]}`, or who started this may not know of it")
    if circle := _circle(unit, parent.row, workflow.pk):
        return _refused(circle)
    number = config.get("version") or workflow.version_number
    version = workflow.versions.filter(number=number).first()
    if version is None:
        return _refused(f"the workflow `{slug}` has no version {number}")
    origin = Origin(
        trigger=Trigger.WORKFLOW, by=by, trace_id=parent.row.trace_id, parent_task=parent.task_id(name),
        told={"parent_execution_id": str(parent.row.id), "parent_step_id": name},
    )  # fmt: skip
    try:
        inputs = resolve_inputs(version.definition.get("inputs") or {}, config.get("inputs") or {})
        child = new_execution(unit, version, inputs, origin, priority=parent.row.priority)
    except Invalid as wrong:
        return _refused("; ".join([str(wrong), *(f"{p.pointer}: {p.message}" for p in wrong.problems)])[:1000])
    task = parent.tasks[name]
    told = {
        "status": task.status.value,
        "attempt": task.fence,
        "percent_complete": task.percent,
        "overall_percent": parent.state.percent,
        "child_execution_id": str(child.row.id),
        "child_workflow_id": slug,
    }
    parent.facts.append(Fact(type="task.child_started", step_id=name, data=told))
    return None


def _refused(message: str) -> Mapping[str, Any]:
    return {"type": "workflow", "message": message, "retryable": False}


def _on_behalf_of(parent: Held) -> User | None:
    if parent.row.birth:  # it has no row yet
        who = parent.row.birth.requested_by
        by = User.objects.filter(pk=who).first() if who else None
        return by or Workflow.objects.select_related("owner").get(pk=parent.row.workflow_id).owner
    found = Execution.objects.select_related("requested_by", "workflow__owner").get(pk=parent.row.id)
    return found.requested_by or found.workflow.owner


def _may(by: User | None, permission: Permission, workflow: Workflow) -> bool:
    return by is not None and Workflow.objects.visible_to(by, permission).filter(pk=workflow.pk).exists()


def _circle(unit: Unit, row: sql.ExecutionRow, workflow: UUID) -> str:
    """Why a sub-workflow would go round in a circle; empty where it does not."""
    above, parent = row.workflow_id, row.parent_task
    for _ in range(MOST_DEEP):
        if above == workflow:
            return "a workflow cannot be a step of itself, not by way of others either"
        if parent is None:
            return ""
        held = unit.held.get(execution_of(parent))
        if held:
            above, parent = held.row.workflow_id, held.row.parent_task
        else:
            above, parent = Execution.objects.values_list("workflow_id", "parent_task_id").get(pk=execution_of(parent))
    return f"sub-workflows stand at most {MOST_DEEP} deep in each other"


# --- what is owed at the end ------------------------------------------------------------------------------------------


def follow_up(ended: Iterable[Held]) -> None:
    """In the transaction in which executions end: have those told who want to be; after it, those who waited."""
    owed = []
    for held in ended:
        notifications.insert(held.row.id, held.graph.notify.get(held.state.status.value, ()), held.now)
        if held.state.owes_parent or held.row.concurrency_key or held.graph.has_children:
            owed.append(held.row)
    if owed:
        from apps.workflows.services import follow

        transaction.on_commit(lambda: follow.after(owed), robust=True)
