"""What never changes of an execution once it is written, remembered by the process that read it.

The lists of steps with `for_each` are asked for at each of their items, inputs by every template.
"""

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from threading import Lock
from typing import Any, Generic, TypeVar
from uuid import UUID

from apps.workflows.services.ledger import sql

Value = TypeVar("Value")


class Kept(Generic[Value]):
    """The last `most` values that were asked for; what was forgotten is read again."""

    def __init__(self, most: int) -> None:
        self._most, self._values, self._lock = most, OrderedDict[UUID, Value](), Lock()

    def get(self, key: UUID, read: Callable[[], Value]) -> Value:
        """The value of a key, by `read` where it is not known."""
        known = self.known(key)
        return known if known is not None else self.put(key, read())

    def known(self, key: UUID) -> Value | None:
        """The value of a key; None where it was not asked for lately."""
        with self._lock:
            if key not in self._values:
                return None
            self._values.move_to_end(key)
            return self._values[key]

    def put(self, key: UUID, value: Value) -> Value:
        """Remember it."""
        with self._lock:
            self._values[key] = value
            self._values.move_to_end(key)
            if len(self._values) > self._most:
                self._values.popitem(last=False)
        return value

    def forget(self) -> None:
        """Forget everything."""
        with self._lock:
            self._values.clear()


_lists = Kept[Sequence[Any]](16)
_inputs = Kept[Mapping[str, Any]](16)


def list_of(cursor: sql.Cursor, task: UUID) -> Sequence[Any]:
    """The list of an opened step, by the id of its task."""
    return _lists.get(task, lambda: sql.items(cursor, [task]).get(task) or [])


def inputs_of(cursor: sql.Cursor, execution: UUID) -> Mapping[str, Any]:
    """The inputs of an execution."""
    return _inputs.get(execution, lambda: sql.inputs(cursor, execution))
