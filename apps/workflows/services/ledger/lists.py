"""The lists of steps with `for_each`: written once when a step is opened, asked for at each of its items."""

from collections import OrderedDict
from collections.abc import Sequence
from threading import Lock
from typing import Any
from uuid import UUID

from apps.workflows.services.ledger import sql

MOST = 16  # lists that a process remembers; each is read again where it was forgotten

_remembered: OrderedDict[UUID, Sequence[Any]] = OrderedDict()
_lock = Lock()


def list_of(cursor: sql.Cursor, task: UUID) -> Sequence[Any]:
    """The list of an opened step, by the id of its task. It never changes."""
    with _lock:
        if task in _remembered:
            _remembered.move_to_end(task)
            return _remembered[task]
    found: Sequence[Any] = sql.items(cursor, [task]).get(task) or []
    with _lock:
        _remembered[task] = found
        while len(_remembered) > MOST:
            _remembered.popitem(last=False)
    return found
