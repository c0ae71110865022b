"""Executions: started and cancelled. Reports come through `ledger`."""

import uuid
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from apps.accounts.models import User
from apps.core.errors import Conflict, NotFound
from apps.workflows import signals
from apps.workflows.definition.inputs import resolve_inputs
from apps.workflows.engine.decide import begin
from apps.workflows.engine.ids import new_execution_id
from apps.workflows.engine.states import TERMINAL, Status, allowed_actions
from apps.workflows.engine.types import ExecutionState, Reject, Snapshot, StopRequested
from apps.workflows.models import Execution, Schedule, Trigger, Workflow, WorkflowVersion
from apps.workflows.selectors.environment import allowed_environment
from apps.workflows.selectors.graphs import graph_of
from apps.workflows.services.ledger import sql, unit_of
from apps.workflows.services.ledger.turn import closed
from apps.workflows.services.ledger.unit import lease_until
from apps.workflows.services.stopping import request_stop


def start(
    workflow: Workflow,
    *,
    by: User | None,
    inputs: Mapping[str, Any] | None = None,
    priority: int | None = None,
    trace_id: str = "",
    trigger: Trigger = Trigger.CALLER,
    schedule: Schedule | None = None,
    scheduled_for: datetime | None = None,
    version: WorkflowVersion | None = None,
) -> Execution:
    """Create an execution of `version`, by default the newest; when this returns it is durable and its first tasks are in line.

    Raises `Invalid` for inputs that the definition does not allow.
    """
    if workflow.kind == Workflow.Kind.TRACKER:
        raise Conflict("a tracker is not executed: its progress is reported from outside", code="tracker")
    version = version or workflow.versions.get(number=workflow.version_number)
    given = resolve_inputs(version.definition.get("inputs") or {}, inputs or {})
    graph = graph_of(version.pk)
    with unit_of([]) as unit:
        now = unit.now
        blank = ExecutionState(deadline_at=lease_until(now, graph.timeout_seconds) if graph.timeout_seconds else None)
        row = sql.ExecutionRow(
            id=new_execution_id(),
            workflow_id=workflow.pk,
            version_id=version.pk,
            seq=0,
            priority=int(version.definition.get("priority") or 0) if priority is None else priority,
            inputs=sql.json_in(given) or "{}",
            trace_id=trace_id or uuid.uuid4().hex,
            state=blank,
        )
        first = begin(
            Snapshot(graph=graph, execution=blank, tasks={}, inputs=given, environment=allowed_environment()), now
        )
        Execution.objects.create(
            id=row.id,
            workflow=workflow,
            version=version,
            priority=row.priority,
            inputs=given,
            trace_id=row.trace_id,
            trigger=trigger,
            schedule=schedule,
            scheduled_for=scheduled_for,
            requested_by=by,
            tasks_total=first.execution.tasks_total,
            open_tasks=first.execution.tasks_total,
            created_at=now,
            updated_at=now,
        )
        unit.hold([row])
        unit.accept(row.id, first)
        unit.follow(row.id, first.settled)
        unit.flush()
        ended = (closed(row),) if row.state.status in TERMINAL else ()
        signals.announce(executions=[row.id], closed=ended, ready=row.state.ready_at is not None)
    return Execution.objects.select_related("workflow", "version").get(pk=row.id)


def cancel(execution: Execution, *, by: User | None) -> None:
    """Ask an execution to stop: from here on nothing new starts, what runs is told to stop. Asking again is fine.

    Raises `Conflict` ("invalid_transition") when it has ended.
    """
    who = by.get_username() if by else ""
    decision = request_stop(execution.pk, StopRequested(status=Status.CANCELLED, by=who))
    if decision is None:
        raise NotFound("there is no such execution")
    if isinstance(decision, Reject):
        execution.refresh_from_db()
        raise Conflict(
            f"{decision.reason}: it cannot be cancelled",
            code=decision.code,
            allowed_actions=allowed_actions(Status(execution.status)),
        )
