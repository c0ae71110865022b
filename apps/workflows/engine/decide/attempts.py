"""What performers do: they take tasks and report what became of their attempts."""

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any

from apps.workflows.engine.breaker import WAITS
from apps.workflows.engine.decide.opening import digest_of
from apps.workflows.engine.expressions import ExpressionError
from apps.workflows.engine.moves import MOST_BEFORE_THE_END, Changes, stale, start
from apps.workflows.engine.retry import asked_delay, may_retry, retry_delay
from apps.workflows.engine.states import CLAIMABLE, TERMINAL, Status
from apps.workflows.engine.types import (
    Claimed,
    Completed,
    Decision,
    Deferred,
    Failed,
    Found,
    Ignore,
    Keep,
    Lost,
    Progressed,
    Reject,
    Released,
    Snapshot,
    Stopped,
    TaskState,
    Unperformed,
)


def _claimed(snapshot: Snapshot, event: Claimed, now: datetime) -> Decision:
    execution, task = snapshot.execution, snapshot.tasks[event.step_id]
    if execution.cancel_requested_at or execution.status in TERMINAL:
        return Reject(code="execution_stopping", reason="the execution starts nothing new")
    if execution.held or execution.status is Status.PAUSED:
        return Reject(code="execution_held", reason="the execution starts nothing at present")
    if task.status not in CLAIMABLE or task.ready_at is None or task.ready_at > now:
        return Reject(code="not_ready", reason=f"{task.step_id} is not ready")
    changes = Changes(snapshot, now)
    changes.begin_execution()
    total = snapshot.spec(task.step_id).total_timeout_seconds
    expires = task.expires_at or (now + timedelta(seconds=total) if total is not None else None)
    started = start(
        task,
        fence=task.fence + 1,
        ready_at=None,
        waiting_for="",
        due_at=expires,
        expires_at=expires,
        lease_owner=event.owner,
        lease_expires_at=event.lease_expires_at,
        percent=0.0,
        message="",
        queued_at=task.ready_at,
        started_at=now,
    )
    changes.put(task, started)
    probe = {"probe_of": list(event.probes)} if event.probes else {}
    changes.tell("task.started", started, performer=event.owner, **probe)
    return changes.accept()


def _deferred(snapshot: Snapshot, event: Deferred, now: datetime) -> Decision:
    task = snapshot.tasks[event.step_id]
    if task.status not in CLAIMABLE or task.ready_at is None:
        return Reject(code="not_ready", reason=f"{task.step_id} is not in line")
    changes = Changes(snapshot, now)
    later = task._replace(ready_at=event.until, waiting_for=event.waiting_for)
    changes.put(task, later)
    # A breaker may be open for hours, so the journal says so, once each time; a rate is a matter of seconds.
    if event.waiting_for.startswith(WAITS) and event.waiting_for != task.waiting_for:
        changes.tell("task.held_back", later, breaker=event.waiting_for.removeprefix(WAITS))
    return changes.accept()


def _completed(snapshot: Snapshot, event: Completed, now: datetime) -> Decision:
    task, spec = snapshot.tasks[event.step_id], snapshot.spec(event.step_id)
    if refusal := stale(task, event.fence):
        return refusal
    changes = Changes(snapshot, now)
    changes.complete(task, event.outputs)
    if spec.cache is not None:
        try:
            digest = digest_of(snapshot, spec.cache, event.step_id)
        except ExpressionError:
            return changes.accept()  # what its key rests on is gone (it was read when the task was opened)
        changes.commands.append(Keep(step_id=task.step_id, digest=digest, ttl=spec.cache.ttl))
    return changes.accept()


def _found(snapshot: Snapshot, event: Found, now: datetime) -> Decision:
    task = snapshot.tasks[event.step_id]
    if task.status is not Status.PENDING or task.ready_at is None:
        return Ignore(reason=f"{task.step_id} is not about to begin")
    changes = Changes(snapshot, now)
    changes.complete(task, event.outputs, cached=True, origin=event.origin)
    return changes.accept()


def _failed(snapshot: Snapshot, event: Failed, now: datetime) -> Decision:
    task, spec = snapshot.tasks[event.step_id], snapshot.spec(event.step_id)
    if refusal := stale(task, event.fence):
        return refusal
    changes = Changes(snapshot, now)
    failures = task.failures + 1
    if changes.stopping:
        changes.stop(task)
    elif may_retry(spec.retry, failures=failures, error=event.error):
        delay = retry_delay(spec.retry, retry=failures, seed=f"{task.ordinal}:{task.fence}:{task.started_at}")
        delay = max(delay, asked_delay(event.error))
        at = now + timedelta(seconds=delay)
        again = changes.ready(
            task, Status.WAITING, at, waiting_for="retry", failures=failures, percent=0.0, error=event.error
        )
        changes.tell(
            "task.retrying", again, error=event.error, delay_seconds=round(delay, 3), failures=failures
        )  # fmt: skip
    else:
        to = Status.TIMED_OUT if event.error.get("type") == "timeout" else Status.FAILED
        changes.fail(task, to, event.error, failures=failures)
    return changes.accept()


def _given_back(snapshot: Snapshot, event: Stopped | Released, now: datetime) -> Decision:
    task = snapshot.tasks[event.step_id]
    if refusal := stale(task, event.fence):
        return refusal
    changes = Changes(snapshot, now)
    if changes.stopping:
        changes.stop(task)
    else:
        _again(changes, task, "task.released")
    return changes.accept()


def _unperformed(snapshot: Snapshot, event: Unperformed, now: datetime) -> Decision:
    task = snapshot.tasks[event.step_id]
    if refusal := stale(task, event.fence):
        return refusal
    changes = Changes(snapshot, now)
    if changes.stopping:
        changes.stop(task)
    else:
        again = changes.ready(
            task, Status.PENDING, event.until, waiting_for=event.waiting_for, percent=0.0, error=event.error
        )
        changes.tell("task.held_back", again, error=event.error, breaker=event.waiting_for.removeprefix(WAITS))
    return changes.accept()


def _again(changes: Changes, task: TaskState, kind: str, **values: Any) -> None:
    """Back into the line at once."""
    again = changes.ready(task, Status.PENDING, changes.now, percent=0.0, **values)
    changes.tell(kind, again, performer=task.lease_owner)


def _lost(snapshot: Snapshot, event: Lost, now: datetime) -> Decision:
    task, spec = snapshot.tasks[event.step_id], snapshot.spec(event.step_id)
    if refusal := stale(task, event.fence):
        return refusal
    changes = Changes(snapshot, now)
    losses = task.losses + 1
    if changes.stopping:
        changes.stop(task)
    elif losses <= spec.retry.lost:
        _again(changes, task, "task.lost", losses=losses)
    else:
        error = {
            "type": "lost",
            "message": f"quarantined: its performer died {losses} times while it ran (retry.lost is {spec.retry.lost})",
            "retryable": False,
        }
        changes.fail(task, Status.FAILED, error, losses=losses)
    return changes.accept()


def _progressed(snapshot: Snapshot, event: Progressed, now: datetime) -> Decision:
    task = snapshot.tasks[event.step_id]
    if refusal := stale(task, event.fence):
        return refusal
    percent = max(task.percent, min(event.percent, MOST_BEFORE_THE_END))
    if percent == task.percent and event.message == task.message:
        return Ignore(reason="nothing new")
    changes = Changes(snapshot, now)
    further = task._replace(percent=percent, message=event.message)
    changes.put(task, further)
    changes.tell("task.progress", further, message=event.message)
    return changes.accept()


RULES: Mapping[type, Callable[[Snapshot, Any, datetime], Decision]] = {
    Claimed: _claimed,
    Deferred: _deferred,
    Completed: _completed,
    Found: _found,
    Failed: _failed,
    Stopped: _given_back,
    Released: _given_back,
    Unperformed: _unperformed,
    Lost: _lost,
    Progressed: _progressed,
}
