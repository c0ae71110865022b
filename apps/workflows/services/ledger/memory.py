"""What a performer remembers of the executions that it wrote last, so that it need not read them again.

An execution's revision tells whether that still holds. Each thread has a memory of its own.
"""

import threading
from collections import OrderedDict
from collections.abc import Iterable
from uuid import UUID

from apps.workflows.engine.states import TERMINAL
from apps.workflows.services.ledger.unit import Held

MOST = 256  # executions
MOST_TASKS = 4096  # of one of them


class _Memory(threading.local):
    def __init__(self) -> None:
        self._known: OrderedDict[UUID, Held] = OrderedDict()

    def take(self, executions: Iterable[UUID]) -> dict[UUID, Held]:
        """What is known of these, to be given back by `keep`: a transaction that fails leaves nothing known."""
        known = self._known
        return {identity: known.pop(identity) for identity in executions if identity in known}

    def keep(self, committed: Iterable[Held]) -> None:
        """Remember executions as a transaction that is committed has left them."""
        for held in committed:
            if held.state.status not in TERMINAL and len(held.tasks) <= MOST_TASKS:
                held.settle()
                self._known[held.row.id] = held
        while len(self._known) > MOST:
            self._known.popitem(last=False)

    def forget(self) -> None:
        """Forget everything: after a lost connection another server may answer, with a past of its own."""
        self._known.clear()


memory = _Memory()
