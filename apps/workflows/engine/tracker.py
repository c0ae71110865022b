"""What follows from a report about work done elsewhere: pure, as `decide` is, for executions of trackers.

A tracker's execution has no definition: its steps are those that were told of, its status is what was said last, and
only the law of `states` and the promise that progress never falls limit what may be said.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from apps.workflows.engine.moves import MOST_BEFORE_THE_END
from apps.workflows.engine.states import EXECUTION_MOVES, TASK_MOVES, TERMINAL, Status
from apps.workflows.engine.types import (
    TRACKER,
    Accept,
    Decision,
    ExecutionState,
    Fact,
    Ignore,
    Reject,
    Snapshot,
    TaskState,
)

STALE_AFTER = timedelta(hours=24)  # without a report for so long, a tracker's execution is ended as timed out
MAX_STEPS = 10_000

# `points` of an execution whose own percentage was reported: its steps' sum counts no more. Far below zero, so that
# no sum of percentages brings it back.
_TOLD = -1e9


@dataclass(frozen=True, slots=True, kw_only=True)
class Reported:
    """Somebody outside says how far the work is (percent 0 to 100). Without `step_id` it is about the whole.

    `message` None leaves the last one; `data` (a timestamp, metadata) is kept in the journal as it came.
    """

    status: Status
    percent: float
    step_id: str = ""
    message: str | None = None
    data: Mapping[str, Any] = field(default_factory=dict)


def report(snapshot: Snapshot, reported: Reported, now: datetime) -> Decision:
    """The consequences of a report. For a terminal one about the whole the snapshot must hold every open step."""
    return _of_step(snapshot, reported, now) if reported.step_id else _of_whole(snapshot, reported, now)


def _of_whole(snapshot: Snapshot, reported: Reported, now: datetime) -> Decision:
    before, to = snapshot.execution, reported.status
    message = before.message if reported.message is None else reported.message
    if before.status in TERMINAL:
        if _repeats(before, reported):
            return Ignore(reason="it was reported before")
        return Reject(code="terminal", reason=f"it has ended as {before.status.value}")
    if not _lawful(EXECUTION_MOVES, before.status, to):
        return Reject(code="invalid_transition", reason=f"it is {before.status.value} and cannot become {to.value}")
    execution = before._replace(
        status=to,
        message=message,
        percent=_percent(before.percent, reported.percent, to),
        points=_TOLD if reported.percent > 0 else before.points,
        deadline_at=now + STALE_AFTER,
        started_at=before.started_at or (None if to is Status.PENDING else now),
    )
    facts = _begun(before, execution)
    if to in TERMINAL:
        return _end(snapshot, execution, facts, reported, now)
    unchanged = (to, message, execution.percent) == (before.status, before.message, before.percent)
    if facts and to is Status.IN_PROGRESS:
        facts = [_about(execution, "execution.started", reported.data)]
    elif not unchanged or reported.data:
        facts.append(_about(execution, "execution.progress", reported.data))
    # Without a fact it was only heard of: not stale, and nothing for the journal.
    return Accept(execution=execution, facts=tuple(facts))


def _begun(before: ExecutionState, after: ExecutionState) -> list[Fact]:
    """The line that tells of the beginning, where this is it; what it begins with is told by the next line."""
    if before.started_at is not None or after.started_at is None:
        return []
    return [_about(before._replace(status=Status.IN_PROGRESS), "execution.started", {})]


def _end(snapshot: Snapshot, execution: ExecutionState, facts: list[Fact], reported: Reported, now: datetime) -> Accept:
    """The whole has ended, and so has every step of which nothing more will be heard.

    When the whole completed, steps in progress completed with it and steps that were never begun were skipped;
    otherwise both are cancelled.
    """
    well = execution.status is Status.COMPLETED
    tasks: list[TaskState] = []
    for task in snapshot.tasks.values():
        if task.status in TERMINAL:
            continue
        begun = task.status is Status.IN_PROGRESS
        to = (Status.COMPLETED if begun else Status.SKIPPED) if well else Status.CANCELLED
        ended = task._replace(
            status=to,
            percent=_percent(task.percent, task.percent, to),
            finished_at=now,
            lease_owner="",
            lease_expires_at=None,
        )
        execution = execution._replace(open_tasks=execution.open_tasks - 1)
        tasks.append(ended)
        # The whole is at 100 when it is told as completed, not a line earlier (I7).
        facts.append(_of(f"task.{to.value}", ended, snapshot.execution, {"ended_with": "execution"}))
    error = None if well or execution.status is Status.CANCELLED else _error(execution.status, execution.message)
    execution = execution._replace(error=error, deadline_at=None, finished_at=now)
    about = {**reported.data, **({"error": error} if error else {})}
    facts.append(_about(execution, f"execution.{execution.status.value}", about))
    return Accept(execution=execution, tasks=tuple(tasks), facts=tuple(facts))


def _of_step(snapshot: Snapshot, reported: Reported, now: datetime) -> Decision:
    execution, to = snapshot.execution, reported.status
    known = snapshot.tasks.get(reported.step_id)
    before = known or TaskState(ordinal=execution.tasks_total + 1, step_id=reported.step_id)
    if refused := _unlawful(execution, before, reported, known=known is not None):
        return refused
    after = _moved(before, reported, now)
    started = execution
    if execution.status is Status.PENDING and to is not Status.PENDING:
        started = execution._replace(status=Status.IN_PROGRESS, started_at=now)
    facts = _begun(execution, started)
    execution = _weighed(started, known, after)._replace(deadline_at=now + STALE_AFTER)
    begins = after.fence > before.fence
    if begins and to is not Status.IN_PROGRESS:
        # Who reports left the beginning out; in the journal every move is one that the law knows.
        facts.append(_of("task.started", before._replace(status=Status.IN_PROGRESS, fence=after.fence), started, {}))
    unchanged = known is not None and (to, after.message, after.percent) == (known.status, known.message, known.percent)
    if not unchanged or reported.data:
        ended = f"task.{to.value}" if to in TERMINAL else "task.progress"
        data = {**reported.data, **({"error": after.error} if after.error else {})}
        kind = "task.started" if begins and to is Status.IN_PROGRESS else ended
        facts.append(_of(kind, after, execution, data))
    return Accept(execution=execution, tasks=(after,), facts=tuple(facts))


def _unlawful(
    execution: ExecutionState, before: TaskState, reported: Reported, *, known: bool
) -> Reject | Ignore | None:
    """Why a report about a step changes nothing, if so."""
    name, to = before.step_id, reported.status
    if before.status in TERMINAL:
        if _repeats(before, reported):
            return Ignore(reason="it was reported before")
        return Reject(code="terminal", reason=f"the step {name} has ended as {before.status.value}")
    if execution.status in TERMINAL:
        return Reject(code="terminal", reason=f"it has ended as {execution.status.value}")
    if not known and execution.tasks_total >= MAX_STEPS:
        return Reject(code="too_many_steps", reason=f"it has {MAX_STEPS:,} steps already")
    if not _lawful(TASK_MOVES, before.status, to):
        reason = f"the step {name} is {before.status.value} and cannot become {to.value}"
        return Reject(code="invalid_transition", reason=reason)
    return None


def _repeats(before: TaskState | ExecutionState, reported: Reported) -> bool:
    """Whether a report about what has ended says what is known already."""
    if reported.status is not before.status or reported.message not in (None, before.message):
        return False
    return reported.status is Status.COMPLETED or reported.percent <= before.percent


def _moved(before: TaskState, reported: Reported, now: datetime) -> TaskState:
    """The step as reported. Its "lease", which is held while it is in progress, is the tracker's own."""
    to = reported.status
    message = before.message if reported.message is None else reported.message
    works = to in (Status.IN_PROGRESS, Status.WAITING, Status.COMPLETED, Status.FAILED, Status.TIMED_OUT)
    begins = works and (before.status is Status.PENDING or (to is Status.IN_PROGRESS and before.status is not to))
    return before._replace(
        status=to,
        percent=_percent(before.percent, reported.percent, to),
        message=message,
        fence=before.fence + 1 if begins else before.fence,
        started_at=now if begins else before.started_at,
        finished_at=now if to in TERMINAL else None,
        lease_owner=TRACKER if to is Status.IN_PROGRESS else "",
        lease_expires_at=now + STALE_AFTER if to is Status.IN_PROGRESS else None,
        error=_error(to, message) if to in (Status.FAILED, Status.TIMED_OUT) else before.error,
    )


def _weighed(execution: ExecutionState, before: TaskState | None, after: TaskState) -> ExecutionState:
    """The counts, and the mean of the steps' percentages unless the whole's own was ever reported (above zero)."""
    total = execution.tasks_total + (before is None)
    opened = execution.open_tasks + (before is None) - (after.status in TERMINAL)
    failed = execution.failed_tasks + (after.status in (Status.FAILED, Status.TIMED_OUT))
    points = execution.points + after.percent - (before.percent if before else 0.0)
    percent = execution.percent
    if points >= 0:
        percent = max(percent, min(MOST_BEFORE_THE_END, round(points / total, 2)))
    return execution._replace(tasks_total=total, open_tasks=opened, failed_tasks=failed, points=points, percent=percent)


def _lawful(moves: Mapping[Status, frozenset[Status]], before: Status, to: Status) -> bool:
    """Whether one move leads there, or from `pending` two: who reports may have left the beginning out."""
    if before is to or to in moves[before]:
        return True
    return before is Status.PENDING and to in moves[Status.IN_PROGRESS]


def _percent(before: float, told: float, status: Status) -> float:
    """Never less than before; 100 at success and only then (I7), and of a step that was skipped: it is settled."""
    if status in (Status.COMPLETED, Status.SKIPPED):
        return 100.0
    return max(before, min(told, MOST_BEFORE_THE_END))


def _error(status: Status, message: str) -> dict[str, Any]:
    word = "timeout" if status is Status.TIMED_OUT else "reported"
    return {"type": word, "message": message or f"reported as {status.value}"}


def _about(execution: ExecutionState, kind: str, data: Mapping[str, Any]) -> Fact:
    return Fact(
        type=kind,
        data={
            **data,
            "status": execution.status.value,
            "percent_complete": execution.percent,
            "overall_percent": execution.percent,
            "message": execution.message,
        },
    )


def _of(kind: str, task: TaskState, execution: ExecutionState, data: Mapping[str, Any]) -> Fact:
    return Fact(
        type=kind,
        step_id=task.step_id,
        data={
            **data,
            "status": task.status.value,
            "attempt": task.fence,
            "percent_complete": task.percent,
            "overall_percent": execution.percent,
            "message": task.message,
        },
    )
