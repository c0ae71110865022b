"""What tasks wait for has come: a time, a limit on time, a person's word, a signal, another execution's end."""

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any

from apps.workflows.engine.decide.opening import APPROVAL, CHILD, RETRY, SIGNAL, TIMER, enter
from apps.workflows.engine.expressions import NO_ITEM
from apps.workflows.engine.moves import Changes, claimable
from apps.workflows.engine.retry import may_retry, retry_delay
from apps.workflows.engine.states import TERMINAL, Status
from apps.workflows.engine.types import (
    ChildEnded,
    Decided,
    Decision,
    Due,
    Ignore,
    Reject,
    Signalled,
    Snapshot,
    TaskState,
)


def _due(snapshot: Snapshot, event: Due, now: datetime) -> Decision:
    task, spec = snapshot.tasks[event.step_id], snapshot.spec(event.step_id)
    if task.due_at is None or task.due_at > now:
        return Ignore(reason=f"nothing is due for {task.step_id}")
    changes = Changes(snapshot, now)
    if changes.stopping:
        changes.stop(task)
    elif task.expires_at is not None and task.expires_at <= now:
        changes.fail(task, Status.TIMED_OUT, _late(f"its attempts took longer than {spec.total_timeout_seconds:g} s"))
    elif claimable(spec, task):
        changes.fail(task, Status.TIMED_OUT, _late(f"nobody took it for {spec.queue_timeout_seconds:g} s"))
    elif task.waiting_for == TIMER:
        changes.complete(task, {"until": task.due_at.isoformat()})
    elif task.waiting_for == RETRY:
        enter(changes, spec, task, snapshot.items.get(task.step_id, NO_ITEM))
    elif task.waiting_for == APPROVAL:
        _unanswered(changes, task, str(spec.config.get("on_timeout", "fail")))
    elif task.waiting_for == CHILD:
        changes.fail(task, Status.TIMED_OUT, _late("the execution it waits for took too long; it is being cancelled"))
    else:
        name = task.waiting_for.removeprefix(SIGNAL)
        changes.fail(task, Status.TIMED_OUT, _late(f"the signal `{name}` did not come in time"))
    return changes.accept()


def _late(message: str) -> dict[str, Any]:
    return {"type": "timeout", "message": message, "retryable": False}


def _unanswered(changes: Changes, task: TaskState, on_timeout: str) -> None:
    if on_timeout == "approve":
        changes.complete(task, {"approved": True, "by": None, "reason": "nobody answered in time", "form": {}})
    elif on_timeout == "reject":
        error = {"type": "rejected", "message": "nobody answered in time, which rejects it", "retryable": False}
        changes.fail(task, Status.FAILED, error)
    else:
        changes.fail(task, Status.TIMED_OUT, _late("nobody approved or rejected it in time"))


def _decided(snapshot: Snapshot, event: Decided, now: datetime) -> Decision:
    task = snapshot.tasks[event.step_id]
    if task.status is not Status.WAITING or task.waiting_for != APPROVAL:
        return Reject(code="not_waiting", reason=f"{task.step_id} does not wait for an approval; it is {task.status}")
    changes = Changes(snapshot, now)
    if event.approved:
        outputs = {"approved": True, "by": event.by, "reason": event.reason, "form": dict(event.data)}
        changes.complete(task, outputs, by=event.by)
    else:
        message = f"rejected by {event.by}" + (f": {event.reason}" if event.reason else "")
        error = {"type": "rejected", "message": message, "retryable": False, "by": event.by}
        changes.fail(task, Status.FAILED, error)
    return changes.accept()


def _signalled(snapshot: Snapshot, event: Signalled, now: datetime) -> Decision:
    if snapshot.execution.status in TERMINAL or snapshot.execution.cancel_requested_at:
        return Reject(code="invalid_transition", reason=f"the execution is {snapshot.execution.status.value}")
    if event.name in snapshot.signals:
        return Ignore(reason=f"the signal `{event.name}` came before, and its first payload stands")
    changes = Changes(snapshot, now)
    changes.say("execution.signalled", name=event.name, by=event.by)
    for task in snapshot.tasks.values():
        if task.status is Status.WAITING and task.waiting_for == f"{SIGNAL}{event.name}":
            changes.complete(task, dict(event.payload))
    return changes.accept()


def _child_ended(snapshot: Snapshot, event: ChildEnded, now: datetime) -> Decision:
    task, spec = snapshot.tasks[event.step_id], snapshot.spec(event.step_id)
    if task.status is not Status.WAITING or task.waiting_for != CHILD:
        return Ignore(reason=f"{task.step_id} waits for no execution")
    changes = Changes(snapshot, now)
    failures = task.failures + 1
    error = event.error or {"type": "workflow", "message": f"the execution ended as {event.status.value}"}
    if changes.stopping:
        changes.stop(task)
    elif event.status is Status.COMPLETED:
        changes.complete(task, event.outputs)
    elif may_retry(spec.retry, failures=failures, error=error):
        delay = retry_delay(spec.retry, retry=failures, seed=f"{task.ordinal}:{failures}:{task.started_at}")
        again = changes.wait(
            task._replace(failures=failures, error=error, percent=0.0), RETRY, now + timedelta(seconds=delay)
        )
        changes.tell("task.retrying", again, error=error, delay_seconds=round(delay, 3), failures=failures)
    else:
        changes.fail(task, Status.FAILED, error, failures=failures)
    return changes.accept()


RULES: Mapping[type, Callable[[Snapshot, Any, datetime], Decision]] = {
    Due: _due,
    Decided: _decided,
    Signalled: _signalled,
    ChildEnded: _child_ended,
}
