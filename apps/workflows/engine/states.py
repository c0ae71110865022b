"""The law on one screen: what a task or an execution can be, and which moves are lawful.

The database's check constraints, the API's `allowed_actions`, the admin's buttons and the diagram in the docs are
derived from these tables. A terminal status has no moves: a retry or a fork is a new execution.
"""

from collections.abc import Mapping
from enum import StrEnum


class Status(StrEnum):
    """The words on the wire, in the database and in metrics, for executions and tasks alike."""

    PENDING = "pending"  # not begun: it waits for its dependencies, or for a performer
    IN_PROGRESS = "in_progress"  # a performer holds its lease
    WAITING = "waiting"  # it waits for a named timer or event
    PAUSED = "paused"
    COMPLETED = "completed"
    FAILED = "failed"
    TIMED_OUT = "timed_out"
    CANCELLED = "cancelled"
    SKIPPED = "skipped"


_S = Status

TASK_MOVES: Mapping[Status, frozenset[Status]] = {
    _S.PENDING: frozenset(
        {_S.IN_PROGRESS, _S.WAITING, _S.COMPLETED, _S.SKIPPED, _S.CANCELLED, _S.FAILED, _S.TIMED_OUT}
    ),
    _S.IN_PROGRESS: frozenset({_S.COMPLETED, _S.FAILED, _S.TIMED_OUT, _S.CANCELLED, _S.WAITING, _S.PENDING}),
    _S.WAITING: frozenset({_S.IN_PROGRESS, _S.CANCELLED, _S.COMPLETED, _S.FAILED, _S.TIMED_OUT, _S.SKIPPED}),
    _S.COMPLETED: frozenset(),
    _S.FAILED: frozenset(),
    _S.TIMED_OUT: frozenset(),
    _S.CANCELLED: frozenset(),
    _S.SKIPPED: frozenset(),
}

EXECUTION_MOVES: Mapping[Status, frozenset[Status]] = {
    _S.PENDING: frozenset({_S.IN_PROGRESS, _S.PAUSED, _S.COMPLETED, _S.FAILED, _S.TIMED_OUT, _S.CANCELLED}),
    _S.IN_PROGRESS: frozenset({_S.WAITING, _S.PAUSED, _S.COMPLETED, _S.FAILED, _S.TIMED_OUT, _S.CANCELLED}),
    _S.WAITING: frozenset({_S.IN_PROGRESS, _S.PAUSED, _S.COMPLETED, _S.FAILED, _S.TIMED_OUT, _S.CANCELLED}),
    _S.PAUSED: frozenset({_S.PENDING, _S.IN_PROGRESS, _S.COMPLETED, _S.FAILED, _S.TIMED_OUT, _S.CANCELLED}),
    _S.COMPLETED: frozenset(),
    _S.FAILED: frozenset(),
    _S.TIMED_OUT: frozenset(),
    _S.CANCELLED: frozenset(),
}

TERMINAL: frozenset[Status] = frozenset(status for status, moves in TASK_MOVES.items() if not moves)
OPEN: frozenset[Status] = frozenset(status for status, moves in TASK_MOVES.items() if moves)
CLAIMABLE: frozenset[Status] = frozenset({_S.PENDING, _S.WAITING})


def allowed_actions(status: Status, *, cancel_requested: bool = False) -> tuple[str, ...]:
    """What a caller may still ask of an execution in `status`."""
    if status is Status.COMPLETED:
        return ("fork",)
    if status in TERMINAL:
        return ("retry", "fork")
    if cancel_requested:
        return ()
    if status is Status.PAUSED:
        return ("cancel", "resume", "signal")
    return ("cancel", "pause", "signal")
