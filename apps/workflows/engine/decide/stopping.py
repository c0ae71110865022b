"""What concerns a whole execution: it is paused, resumed, stopped, and it ends."""

from collections import Counter
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from apps.workflows.engine.decide.opening import CHILD, ITEMS, LEAVE, enter
from apps.workflows.engine.expressions import NO_ITEM, ExpressionError, render
from apps.workflows.engine.ids import step_of
from apps.workflows.engine.moves import Changes, context_of
from apps.workflows.engine.states import CLAIMABLE, EXECUTION_MOVES, TERMINAL, Status
from apps.workflows.engine.types import (
    Closing,
    Decision,
    Ignore,
    PauseRequested,
    Reject,
    ResumeRequested,
    Snapshot,
    StopRequested,
)


def _paused(snapshot: Snapshot, event: PauseRequested, now: datetime) -> Decision:
    execution = snapshot.execution
    if execution.status is Status.PAUSED:
        return Ignore(reason="it is paused already")
    if Status.PAUSED not in EXECUTION_MOVES[execution.status] or execution.cancel_requested_at:
        return Reject(code="invalid_transition", reason=_how(snapshot))
    changes = Changes(snapshot, now)
    changes.have(status=Status.PAUSED, ready_at=None)
    changes.say("execution.paused", by=event.by)
    return changes.accept()


def _resumed(snapshot: Snapshot, event: ResumeRequested, now: datetime) -> Decision:
    """The snapshot holds every open task: sub-workflows that were kept from starting start now."""
    execution = snapshot.execution
    changes = Changes(snapshot, now)
    if event.admitted:
        if not execution.held or execution.status in TERMINAL:
            return Ignore(reason="it is not held back")
        changes.have(held=False)
    else:
        if execution.status is not Status.PAUSED:
            return Reject(code="invalid_transition", reason=_how(snapshot))
        changes.have(status=Status.IN_PROGRESS if execution.started_at else Status.PENDING)
    # A place in line that is too early costs one look.
    changes.line_up(now)
    by = {"by": event.by} if event.by else {}
    changes.say("execution.admitted" if event.admitted else "execution.resumed", **by)
    for task in snapshot.tasks.values():
        if task.waiting_for == LEAVE:
            enter(changes, snapshot.spec(task.step_id), task, snapshot.items.get(task.step_id, NO_ITEM))
    return changes.accept()


def _how(snapshot: Snapshot) -> str:
    execution = snapshot.execution
    stopping = execution.cancel_requested_at and execution.status not in TERMINAL
    return "the execution is being stopped" if stopping else f"the execution is {execution.status.value}"


def _stop_requested(snapshot: Snapshot, event: StopRequested, now: datetime) -> Decision:
    """The snapshot holds every open task. What nobody works at ends now; what runs ends when its performer says so."""
    execution = snapshot.execution
    if Status.CANCELLED not in EXECUTION_MOVES[execution.status]:
        return Reject(code="invalid_transition", reason=_how(snapshot))
    if execution.cancel_requested_at:
        return Ignore(reason="it is being stopped already")
    changes = Changes(snapshot, now)
    timed_out = event.status is Status.TIMED_OUT
    error = {"type": "timeout", "message": "the execution's timeout_seconds passed"} if timed_out else execution.error
    status = execution.status
    if status is Status.PAUSED:
        status = Status.IN_PROGRESS if execution.started_at else Status.PENDING
    changes.have(status=status, cancel_requested_at=now, ready_at=None, deadline_at=None, error=error)
    changes.say(
        "execution.timeout" if timed_out else "execution.cancel_requested", **({"by": event.by} if event.by else {})
    )
    wholes, running = [], Counter[str]()
    for task in snapshot.tasks.values():
        if task.status in TERMINAL:
            continue
        if task.waiting_for == ITEMS:
            wholes.append(task)
        elif task.status in CLAIMABLE and task.waiting_for != CHILD:
            changes.stop(task)
        elif task.is_item:
            running[step_of(task.step_id)] += 1
    for whole in wholes:
        # Items that have no task yet will have none.
        now_open = changes.task(whole.step_id)
        left = now_open._replace(waiting_on=running[whole.step_id], next_item=whole.items)
        changes.put(now_open, left)
        if not left.waiting_on:
            changes.stop(left)
    # What ended here was everybody who waited: there is nobody left to be told.
    changes.settled.clear()
    return changes.accept()


def _closing(snapshot: Snapshot, _event: Closing, now: datetime) -> Decision:
    execution = snapshot.execution
    assert not execution.open_tasks, "an execution closes when none of its tasks is open"  # noqa: S101
    outputs: dict[str, Any] = {}
    error = execution.error
    if execution.cancel_requested_at:
        to = Status.TIMED_OUT if (error or {}).get("type") == "timeout" else Status.CANCELLED
    elif execution.failed_tasks:
        to = Status.FAILED
    else:
        to, error = Status.COMPLETED, None
    if to is Status.COMPLETED:
        for name, template in snapshot.graph.outputs:
            try:
                outputs[name] = render(template, context_of(snapshot))
            except ExpressionError as wrong:
                to, error = Status.FAILED, {"type": "invalid", "message": f"outputs.{name}: {wrong}"}
                break
    changes = Changes(snapshot, now)
    changes.have(
        status=to,
        percent=100.0 if to is Status.COMPLETED else execution.percent,
        outputs=outputs if to is Status.COMPLETED else None,
        error=error,
        held=False,
        ready_at=None,
        deadline_at=None,
        finished_at=now,
    )
    changes.say(f"execution.{to.value}", **({"error": error} if error else {}))
    return changes.accept()


RULES: Mapping[type, Callable[[Snapshot, Any, datetime], Decision]] = {
    PauseRequested: _paused,
    ResumeRequested: _resumed,
    StopRequested: _stop_requested,
    Closing: _closing,
}
