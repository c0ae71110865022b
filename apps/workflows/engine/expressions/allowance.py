"""Comparing and measuring JSON data at a bounded cost, whatever its size and depth."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from apps.workflows.engine.expressions.syntax import VALUE_DEPTH, ExpressionError

WORK = 150_000  # values that one `render` or `condition` compares, counts and measures: more than `ids.MAX_ITEMS`
TEXT = 2**20  # characters of data that one `render` passes on by whole references

_CONTAINER_UNITS = 4  # a list or object by itself
_CHARACTERS_A_UNIT = 256  # text is compared and searched by the interpreter's C code
_SHORT = frozenset((int, float, bool, type(None)))
_FLAT = _SHORT | {str}
_NAMES: tuple[tuple[type | tuple[type, ...], str], ...] = (
    (str, "text"),
    (bool, "a boolean"),
    ((int, float), "a number"),
    (type(None), "null"),
    ((dict, Mapping), "an object"),
    ((list, Sequence), "a list"),
)


def type_name(value: Any) -> str:
    """What a value is called in messages."""
    for types, name in _NAMES:
        if isinstance(value, types):
            return name
    return f"a value that is no JSON ({type(value).__name__})"


class Allowance:
    """How much one `render` may still look at. Every method raises `ExpressionError` when it is used up."""

    def __init__(self) -> None:
        self.work = WORK
        self.text = TEXT

    def spend(self, units: int) -> None:
        """Takes `units` from the work that is left."""
        self.work -= units
        if self.work < 0:
            raise ExpressionError(f"the data is too large to work on: at most {WORK:,} values are looked at")

    def equal(self, left: Any, right: Any) -> bool:
        """Equality of JSON: a boolean equals no number, a number equals a number whatever its form."""
        self.spend(1)
        pending = [(left, right, 0)]
        while pending:
            one, other, depth = pending.pop()
            if depth > VALUE_DEPTH:
                raise ExpressionError(f"values nested more than {VALUE_DEPTH} deep cannot be compared")
            if type_name(one) != type_name(other):
                return False
            if not isinstance(one, Mapping | Sequence) or isinstance(one, str):
                if one != other:
                    return False
                continue
            if len(one) != len(other):
                return False
            self.spend(_CONTAINER_UNITS + len(one))
            if isinstance(one, Mapping):
                if any(key not in other for key in one):
                    return False
                pairs = [(value, other[key]) for key, value in one.items()]
            else:
                pairs = list(zip(one, other, strict=True))
            for value, counterpart in pairs:
                kind = type(value)
                if kind not in _FLAT or kind is not type(counterpart):
                    pending.append((value, counterpart, depth + 1))
                elif value != counterpart:
                    return False
        return True

    def contains(self, container: Any, wanted: Any, *, position: int) -> bool:
        """Whether text is in text, a value in a list, or a key in an object."""
        if isinstance(container, str | Mapping) and not isinstance(wanted, str):
            raise ExpressionError(
                f"only text can be `in` {type_name(container)}, not {type_name(wanted)}", position=position
            )
        if isinstance(container, str):
            self.spend((len(container) + len(wanted)) // _CHARACTERS_A_UNIT)
            return wanted in container
        if isinstance(container, Mapping):
            return wanted in container
        if isinstance(container, Sequence):
            if isinstance(wanted, str):  # text equals only text: the C loop is right, and fast
                self.spend(len(container) // 16)
                return wanted in container
            if isinstance(wanted, Mapping | Sequence):
                return any(self.equal(wanted, each) for each in container)
            self.spend(len(container))
            is_boolean = isinstance(wanted, bool)
            return any(each == wanted and isinstance(each, bool) is is_boolean for each in container)
        raise ExpressionError(
            f"`in` needs text, a list or an object on its right, not {type_name(container)}", position=position
        )

    def pass_on(self, value: Any) -> None:
        """Counts the data of a whole reference against the text one `render` may hand on."""
        self.text -= self.size(value, limit=self.text)
        if self.text < 0:
            raise ExpressionError(
                f"the data that is referred to is too large: at most {TEXT:,} characters are passed to a step"
            )

    def size(self, value: Any, *, limit: int) -> int:
        """About how many characters the JSON of `value` has, never more than it really has; stops beyond `limit`."""
        self.spend(1)
        total = 0
        pending = [(value, 0)]
        while pending and total <= limit:
            current, depth = pending.pop()
            if depth > VALUE_DEPTH:
                raise ExpressionError(f"the data is nested more than {VALUE_DEPTH} deep")
            total += 1
            if isinstance(current, str):
                total += len(current)
                continue
            if isinstance(current, Mapping):
                self.spend(_CONTAINER_UNITS + len(current))
                total += sum(map(len, current))
                inside: Iterable[Any] = current.values()
            elif isinstance(current, Sequence):
                self.spend(_CONTAINER_UNITS + len(current))
                inside = current
            else:
                continue
            for inner in inside:
                if type(inner) in _SHORT:
                    total += 1
                else:
                    pending.append((inner, depth + 1))
        return total
