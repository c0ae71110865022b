"""What is asked of a whole execution: to pause, to resume, to stop, to hear a signal."""

from uuid import UUID

from apps.workflows import signals
from apps.workflows.engine.states import Status
from apps.workflows.engine.types import (
    TRACKER,
    Accept,
    Decision,
    PauseRequested,
    ResumeRequested,
    Stopped,
    StopRequested,
)
from apps.workflows.services.ledger import Unit, sql, unit_of
from apps.workflows.services.ledger.turn import ended_of


def request_stop(execution: UUID, request: StopRequested) -> Decision | None:
    """Nothing new starts, what runs is told to stop, and when nothing is open it ends.

    None when there is no such execution.
    """
    with unit_of([execution]) as unit:
        held = unit.held.get(execution)
        if held is None:
            return None
        unit.take(sql.open_tasks(unit.cursor, execution))
        decision = held.happen(request)
        for task in list(held.tasks.values()):
            # A tracker's work has no performer that could be told: it ends here.
            if task.status is Status.IN_PROGRESS and task.lease_owner == TRACKER:
                held.happen(Stopped(step_id=task.step_id, fence=task.fence))
        return write(unit, decision, stop=True)


def request_pause(execution: UUID, request: PauseRequested | ResumeRequested) -> Decision | None:
    """Nothing new starts until it is resumed; what runs goes on. None when there is no such execution."""
    with unit_of([execution]) as unit:
        if execution not in unit.held:
            return None
        unit.take(sql.open_tasks(unit.cursor, execution))
        return write(unit, unit.happen(execution, request))


def write(unit: Unit, decision: Decision, *, stop: bool = False) -> Decision:
    """Write what was accepted, and have it told once it is committed."""
    if isinstance(decision, Accept):
        write_all(unit, stop=stop)
    return decision


def write_all(unit: Unit, *, stop: bool = False) -> None:
    """Write all that a unit has taken in, and have it told once it is committed."""
    unit.flush()
    ready = any(held.state.ready_at is not None for held in unit.held.values())
    signals.announce(executions=list(unit.held), closed=ended_of(unit), ready=ready, stop=stop)
