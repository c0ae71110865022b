"""Stopping an execution: nothing new starts, what runs is told to stop, and when nothing is open it ends."""

from uuid import UUID

from apps.workflows import signals
from apps.workflows.engine.states import TERMINAL, Status
from apps.workflows.engine.types import TRACKER, Accept, Decision, Stopped, StopRequested
from apps.workflows.services.ledger import sql, unit_of
from apps.workflows.services.ledger.turn import closed


def request_stop(execution: UUID, request: StopRequested) -> Decision | None:
    """Carry the request out; None when there is no such execution."""
    with unit_of([execution]) as unit:
        held = unit.held.get(execution)
        if held is None:
            return None
        unit.take(sql.open_tasks(unit.cursor, execution))
        decision = unit.happen(execution, request)
        for task in list(held.tasks.values()):
            # A tracker's work has no performer that could be told: it ends here.
            if task.status is Status.IN_PROGRESS and task.lease_owner == TRACKER:
                unit.happen(execution, Stopped(step_id=task.step_id, fence=task.fence))
        if isinstance(decision, Accept):
            unit.flush()
            ended = (closed(held.row),) if held.row.state.status in TERMINAL else ()
            signals.announce(executions=[execution], closed=ended, stop=True)
        return decision
