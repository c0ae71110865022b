"""The priority of an execution that has not ended: a point is worth a minute in the line of its workflow."""

from apps.accounts.models import User
from apps.core.errors import Conflict, NotFound
from apps.workflows.engine.moves import about
from apps.workflows.engine.states import TERMINAL
from apps.workflows.engine.types import Fact
from apps.workflows.models import Execution
from apps.workflows.selectors.relations import actions_of
from apps.workflows.services.ledger import unit_of
from apps.workflows.services.stopping import write_all


def change(execution: Execution, priority: int, *, by: User) -> None:
    """Give it another priority and with it another place in line. The same again changes nothing.

    Sub-workflows that it has started keep theirs. Raises `Conflict` ("invalid_transition") when it has ended.
    """
    with unit_of([execution.pk]) as unit:
        held = unit.held.get(execution.pk)
        if held is None:
            raise NotFound("there is no such execution")
        ended = held.state.status in TERMINAL
        if not ended and held.row.priority != priority:
            data = {"priority": priority, "before": held.row.priority, "by": by.get_username()}
            held.facts.append(Fact(type="execution.priority_changed", data={**about(held.state), **data}))
            held.row.priority = priority
            held.dirty = True  # its rank is written with it
            Execution.objects.filter(pk=execution.pk).update(priority=priority)
            write_all(unit)
    execution.refresh_from_db()
    if ended:
        raise Conflict(
            f"the execution is {execution.status}: its priority has no effect any more",
            code="invalid_transition",
            allowed_actions=actions_of(execution),
        )
