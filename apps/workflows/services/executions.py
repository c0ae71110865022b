"""Executions as callers ask for them: started, stopped, paused, resumed, signalled, done again. Reports: `ledger`."""

import uuid
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from django.db import DEFAULT_DB_ALIAS, transaction

from apps.accounts.models import User
from apps.core.errors import Conflict, Invalid, NotFound, Problem
from apps.workflows import signals
from apps.workflows.definition.inputs import resolve_inputs
from apps.workflows.engine.again import kept_for_fork, kept_for_retry
from apps.workflows.engine.ids import item_name, item_of, step_of
from apps.workflows.engine.states import TERMINAL, Status
from apps.workflows.engine.types import (
    Accept,
    Decision,
    PauseRequested,
    Reject,
    ResumeRequested,
    Signalled,
    StopRequested,
)
from apps.workflows.models import Execution, Schedule, Task, Trigger, Workflow, WorkflowVersion
from apps.workflows.selectors.graphs import graph_of, version_of
from apps.workflows.selectors.relations import actions_of
from apps.workflows.services import artifacts, follow
from apps.workflows.services.ledger import sql, unit_of
from apps.workflows.services.ledger.children import Origin, concurrency_key, new_execution
from apps.workflows.services.ledger.turn import ended_of
from apps.workflows.services.stopping import request_pause, request_stop, write

MAX_SIGNALS = 100


def start(
    workflow: Workflow,
    *,
    by: User | None,
    inputs: Mapping[str, Any] | None = None,
    priority: int | None = None,
    trace_id: str = "",
    trace_parent: str = "",
    version: WorkflowVersion | None = None,
    trigger: Trigger = Trigger.CALLER,
    schedule: Schedule | None = None,
    scheduled_for: datetime | None = None,
) -> Execution:
    """Create an execution of `version` (None: the newest); when this returns it is durable, its first tasks in line.

    Raises `Invalid` for inputs that the definition does not allow, `Conflict` ("concurrency_limit") where its limit
    on executions says `reject` and is reached, `NotFound` or IntegrityError where the workflow is deleted meanwhile.
    """
    if workflow.kind == Workflow.Kind.TRACKER:
        raise Conflict("a tracker is not executed: its progress is reported from outside", code="tracker")
    try:
        version = version or version_of(workflow.pk, workflow.version_number)
    except WorkflowVersion.DoesNotExist:
        raise NotFound(f"the workflow `{workflow.slug}` was deleted meanwhile") from None
    given = resolve_inputs(version.definition.get("inputs") or {}, inputs or {})
    origin = Origin(
        trigger=trigger,
        by=by,
        trace_id=trace_id or uuid.uuid4().hex,
        trace_parent=trace_parent,
        schedule=schedule,
        scheduled_for=scheduled_for,
    )
    default = int(version.definition.get("priority") or 0)
    return _begin(workflow, version, given, origin, priority=default if priority is None else priority)


def _begin(
    workflow: Workflow, version: WorkflowVersion, inputs: Mapping[str, Any], origin: Origin, *, priority: int
) -> Execution:
    graph = graph_of(version.pk)
    limit, key = graph.concurrency, concurrency_key(graph, inputs)
    if limit is None:
        return _made(workflow, version, inputs, origin, priority=priority)
    with transaction.atomic():
        others = _alike(version.workflow_id, key)
        if limit.on_conflict == "reject" and len(others) >= limit.limit:
            raise Conflict(
                f"{len(others)} executions with the key `{key[1:100]}` run, and the limit is {limit.limit}; "
                "try again when one has ended",
                code="concurrency_limit",
            )
        execution = _made(workflow, version, inputs, origin, priority=priority)
        if limit.on_conflict == "cancel_running":
            for other in others[: max(0, len(others) - limit.limit + 1)]:
                request_stop(other, StopRequested(status=Status.CANCELLED, by="a newer execution"))
        follow.admit(version.workflow_id, key)
    execution.refresh_from_db()
    return execution


def _made(
    workflow: Workflow, version: WorkflowVersion, inputs: Mapping[str, Any], origin: Origin, *, priority: int
) -> Execution:
    """The new execution as its row is now; it is not read back."""
    with unit_of([]) as unit:
        held = new_execution(unit, version, inputs, origin, priority=priority)
        unit.flush()
        signals.announce(executions=list(unit.held), closed=ended_of(unit), ready=held.state.ready_at is not None)
    columns = sql.execution_columns(held.row, unit.now)
    names = [column.attname for column in Execution._meta.concrete_fields]
    execution = Execution.from_db(DEFAULT_DB_ALIAS, names, [columns[name] for name in names])
    execution.workflow, execution.version = workflow, version
    return execution


def _alike(workflow: uuid.UUID, key: str) -> list[uuid.UUID]:
    """The open executions with this key, the oldest first; the workflow's lock keeps others from joining them."""
    Workflow.objects.select_for_update(no_key=True).get(pk=workflow)
    alike = Execution.objects.filter(workflow_id=workflow, concurrency_key=key, finished_at__isnull=True)
    return list(alike.order_by("pk").values_list("pk", flat=True))


# --- asked of one that is there ---------------------------------------------------------------------------------------


def cancel(execution: Execution, *, by: User | None) -> None:
    """Ask an execution to stop: from here on nothing new starts, what runs is told to stop. Asking again is fine.

    Raises `Conflict` ("invalid_transition") when it has ended.
    """
    request = StopRequested(status=Status.CANCELLED, by=_name(by))
    _answer(execution, request_stop(execution.pk, request), "cancelled")
    # Sub-workflows are stopped with it; the sweep finds those that are not stopped here.
    follow.stop_orphans(Execution.objects.filter(parent_task__execution_id=execution.pk))


def pause(execution: Execution, *, by: User | None) -> None:
    """Start nothing new of it until it is resumed; what runs goes on, times and limits on time run on.

    Raises `Conflict` ("invalid_transition") when it has ended or is being stopped.
    """
    _refuse_trackers(execution)
    _answer(execution, request_pause(execution.pk, PauseRequested(by=_name(by))), "paused")


def resume(execution: Execution, *, by: User | None) -> None:
    """Go on with it. Raises `Conflict` ("invalid_transition") when it is not paused."""
    _refuse_trackers(execution)
    _answer(execution, request_pause(execution.pk, ResumeRequested(by=_name(by))), "resumed")


def signal(execution: Execution, name: str, payload: Mapping[str, Any], *, by: User | None) -> None:
    """Give it a named signal: steps that wait for it go on, and those that will wait find it there.

    The first payload of a name stands; giving it again is fine. Raises `Conflict` when it has ended.
    """
    _refuse_trackers(execution)
    with unit_of([execution.pk]) as unit:
        held = unit.held.get(execution.pk)
        if held is None:
            raise NotFound("there is no such execution")
        unit.take(sql.open_tasks(unit.cursor, execution.pk))
        decision = held.happen(Signalled(name=name, payload=payload, by=_name(by)))
        if isinstance(decision, Accept):
            known = sql.signals(unit.cursor, execution.pk)
            if len(known) >= MAX_SIGNALS:
                raise Conflict(f"an execution takes at most {MAX_SIGNALS} different signals", code="too_many_signals")
            Execution.objects.filter(pk=execution.pk).update(signals={**known, name: dict(payload)})
        write(unit, decision)
    _answer(execution, decision, "signalled")


def _answer(execution: Execution, decision: Decision | None, done: str) -> None:
    if decision is None:
        raise NotFound("there is no such execution")
    execution.refresh_from_db()
    if isinstance(decision, Reject):
        why = f"{decision.reason}: it cannot be {done}"
        raise Conflict(why, code=decision.code, allowed_actions=actions_of(execution))


def _refuse_trackers(execution: Execution) -> None:
    if execution.workflow.kind == Workflow.Kind.TRACKER:
        raise Conflict(
            "a tracker is not executed: its progress is reported from outside",
            code="tracker",
            allowed_actions=actions_of(execution),
        )


def _name(user: User | None) -> str:
    return user.get_username() if user else ""


# --- again ------------------------------------------------------------------------------------------------------------


def retry(execution: Execution, *, by: User | None) -> Execution:
    """A new execution of the same version and inputs that keeps the good results of this one.

    Raises `Conflict` ("invalid_transition") unless it ended other than well.
    """
    _refuse_trackers(execution)
    execution.refresh_from_db()
    if execution.status not in TERMINAL or execution.status == Status.COMPLETED:
        _refuse(execution, "retried: only one that failed, timed out or was cancelled can be")
    statuses = _statuses(execution)
    kept = kept_for_retry(graph_of(execution.version_id), statuses)
    return _again(execution, kept, trigger=Trigger.RETRY, by=by, told={"retry_of": str(execution.pk)})


def fork(execution: Execution, step: str, *, by: User | None) -> Execution:
    """A new execution of the same version and inputs that does `step`, and all that rests on it, again.

    `step` may be one item of a step with `for_each`: `load[7]`. Raises `Invalid` where there is no such step,
    `Conflict` ("invalid_transition") while it runs.
    """
    _refuse_trackers(execution)
    execution.refresh_from_db()
    if execution.status not in TERMINAL:
        _refuse(execution, "forked: it still runs")
    statuses = _statuses(execution)
    whole = _kept_whole(execution, step) if step not in statuses else {}
    statuses |= dict.fromkeys(whole, Status.COMPLETED)
    if step not in statuses:
        message = "there is no such step in this execution"
        raise Invalid(
            f"step_id: {message}", problems=[Problem(pointer="/step_id", code="unknown_step", message=message)]
        )
    kept = kept_for_fork(graph_of(execution.version_id), statuses, step)
    told = {"fork_of": str(execution.pk), "from_step_id": step}
    return _again(execution, kept, trigger=Trigger.FORK, by=by, told=told, whole=whole)


def _kept_whole(execution: Execution, name: str) -> Mapping[str, Any]:
    """The results of the items of a step that was itself kept from another execution, as a whole, by name."""
    item, step = item_of(name), step_of(name)
    if item is None or item_name(step, item) != name:
        return {}
    kept = Task.objects.filter(execution=execution, step_id=step, status=Status.COMPLETED).values_list(
        "outputs", flat=True
    )
    spec = graph_of(execution.version_id).steps.get(step)
    outputs = kept.first()
    if spec is None or spec.for_each is None or not isinstance(outputs, list) or item >= len(outputs):
        return {}
    return {item_name(step, number): value for number, value in enumerate(outputs)}


def _statuses(execution: Execution) -> dict[str, Status]:
    rows = Task.objects.filter(execution=execution).values_list("step_id", "status")
    return {name: Status(status) for name, status in rows}


def _refuse(execution: Execution, what: str) -> None:
    why = f"the execution is {execution.status}: it cannot be {what}"
    raise Conflict(why, code="invalid_transition", allowed_actions=actions_of(execution))


def _again(
    execution: Execution,
    kept: frozenset[str],
    *,
    trigger: Trigger,
    by: User | None,
    told: Mapping[str, Any],
    whole: Mapping[str, Any] | None = None,
) -> Execution:
    rows = Task.objects.filter(execution=execution, status=Status.COMPLETED).values_list("step_id", "outputs")
    results = {name: value for name, value in (whole or {}).items() if name in kept}
    results |= {name: {} if outputs is None else outputs for name, outputs in rows.iterator() if name in kept}
    origin = Origin(
        trigger=trigger, by=by, trace_id=uuid.uuid4().hex, of=execution, kept=results, told={**told, "kept": len(kept)}
    )
    made = _begin(execution.workflow, execution.version, execution.inputs, origin, priority=execution.priority)
    artifacts.inherit(execution, made)
    return made
