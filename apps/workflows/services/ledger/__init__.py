"""The hot path: reports and claims, gathered into one transaction.

`sql` speaks to the two databases, `unit` holds what one transaction has read and will write, `turn` is the transaction.
"""

from apps.workflows.services.ledger.claim import ClaimedTask, Wanted
from apps.workflows.services.ledger.turn import LogLine, Report, Turn, turn
from apps.workflows.services.ledger.unit import Unit, unit_of

__all__ = ["ClaimedTask", "LogLine", "Report", "Turn", "Unit", "Wanted", "turn", "unit_of"]
