"""Labels: what performers say of themselves, and the grammar of what steps require of them.

A label has a name and a value: text, a number, or true or false. A requirement is one comparison; there is no `and`,
several requirements are several entries of a list:

    gpu >= 1        region in [eu, us]        region not in [eu]        kind == reviewer        zone != a        ssd

A bare name asks for a label that is there and not false. Numbers compare as numbers where both sides are numbers, text
only for equality; values of different types are never equal, and `<` is false between them. A label that is missing
meets `!=` and `not in` and nothing else. A text that is no plain word, or would be a number, is put in quotes:
`python == "3.10"`.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, NoReturn, cast

REQUIREMENT_CHARACTERS = 200  # as written, and in its normal form
NAME_CHARACTERS = 63
LABELS = 100
LABELS_CHARACTERS = 4000  # a worker's option

Value = str | int | float | bool
Operator = Literal["has", "==", "!=", "<", "<=", ">", ">=", "in", "not in"]

_SPACE = re.compile(r"[ \t]*")
_NAME = re.compile(r"[A-Za-z_](?:[A-Za-z0-9_./-]*[A-Za-z0-9_])?")
_OPERATOR = re.compile(r"==|!=|<=|>=|<|>|not[ \t]+in(?![\w./-])|in(?![\w./-])")
_WORD = re.compile(r"[A-Za-z0-9_.:/@+-]+")
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
_QUOTED = re.compile(r"'[^']*'|\"[^\"]*\"")
_RESERVED = frozenset({"in", "not", "and", "or", "true", "false"})
_ORDERINGS = ("<", "<=", ">", ">=")
_WHOLE = range(-(2**63), 2**63)
_HINTS = {
    "=": "write `==` to compare",
    "!": "write `!=` to compare",
    "&": "write a second requirement as an entry of its own",
    "|": "write `NAME in [a, b]` for a choice",
    "$": "a requirement is written out; `${…}` is not replaced in it",
    "'": "the text in quotes is not closed",
    '"': "the text in quotes is not closed",
    "and": "write a second requirement as an entry of its own",
    "or": "write `NAME in [a, b]` for a choice",
}


class LabelError(ValueError):
    """A requirement, or a list of labels, that cannot be read. `position` counts its characters from 0."""

    def __init__(self, message: str, position: int) -> None:
        super().__init__(message)
        self.message = message
        self.position = position


@dataclass(frozen=True, slots=True, kw_only=True)
class Requirement:
    """What one label of a performer must be; `text` is its normal form."""

    name: str
    operator: Operator
    values: tuple[Value, ...]
    text: str

    def __str__(self) -> str:
        """Its normal form."""
        return self.text

    def holds(self, labels: Mapping[str, Value]) -> bool:
        """Whether a performer with `labels` meets it."""
        if self.name not in labels:
            return self.operator in ("!=", "not in")
        value = labels[self.name]
        if self.operator == "has":
            return value is not False
        if self.operator in ("==", "in"):
            return any(_equal(value, each) for each in self.values)
        if self.operator in ("!=", "not in"):
            return not any(_equal(value, each) for each in self.values)
        return _ordered(self.operator, value, self.values[0])


@lru_cache(maxsize=1024)
def parse(text: str) -> Requirement:
    """The requirement in `text`. Raises `LabelError`."""
    if len(text) > REQUIREMENT_CHARACTERS:
        raise LabelError(f"a requirement may have {REQUIREMENT_CHARACTERS} characters", REQUIREMENT_CHARACTERS)
    reader = _Reader(text)
    name = reader.name()
    operator = cast(Operator, " ".join((reader.take(_OPERATOR) or "has").split()))
    values: tuple[Value, ...] = ()
    if operator in ("in", "not in"):
        values = reader.values()
    elif operator != "has":
        begin = reader.position()
        values = (reader.value(),)
        if operator in _ORDERINGS and not _is_number(values[0]):
            raise LabelError(f"`{operator}` compares numbers: put a number behind it, or use `==`", begin)
    reader.end("`==`, `!=`, `<`, `<=`, `>`, `>=`, `in` or `not in`" if operator == "has" else "nothing more")
    normal = _written(name, operator, values)
    if len(normal) > REQUIREMENT_CHARACTERS:
        message = f"a requirement may have {REQUIREMENT_CHARACTERS} characters, with a space behind each comma"
        raise LabelError(message, len(text))
    return Requirement(name=name, operator=operator, values=values, text=normal)


def canonical(requirements: Iterable[str]) -> tuple[str, ...]:
    """The same requirements in their normal form, sorted, each once. Raises `LabelError`."""
    return tuple(sorted({parse(each).text for each in requirements}))


def parse_labels(text: str) -> dict[str, Value]:
    """The labels in `gpu=2,region=eu,ssd`: numbers are numbers, a bare name is true. Raises `LabelError`."""
    if len(text) > LABELS_CHARACTERS:
        raise LabelError(f"labels may have {LABELS_CHARACTERS:,} characters together", LABELS_CHARACTERS)
    reader = _Reader(text)
    found: dict[str, Value] = {}
    while reader.left() or found:
        begin = reader.position()
        name = reader.name()
        if name in found:
            raise LabelError(f"the label `{name}` is given twice", begin)
        if len(found) == LABELS:
            raise LabelError(f"a performer may have {LABELS} labels", begin)
        found[name] = reader.value() if reader.sign("=") else True
        if not reader.sign(","):
            reader.end("`,` or `=`" if found[name] is True else "`,`")
            break
    return found


class _Reader:
    """Reads a text from left to right."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0

    def position(self) -> int:
        self.at = cast(re.Match[str], _SPACE.match(self.text, self.at)).end()
        return self.at

    def left(self) -> bool:
        return self.position() < len(self.text)

    def take(self, pattern: re.Pattern[str]) -> str | None:
        match = pattern.match(self.text, self.position())
        if match is None:
            return None
        self.at = match.end()
        return match.group()

    def sign(self, sign: str) -> bool:
        if self.text.startswith(sign, self.position()):
            self.at += len(sign)
            return True
        return False

    def name(self) -> str:
        begin = self.position()
        name = self.take(_NAME)
        if name is None:
            self.fail("the name of a label: letters, digits and `_./-`, a letter first")
        if name in _RESERVED:
            raise LabelError(f"`{name}` cannot be the name of a label", begin)
        if len(name) > NAME_CHARACTERS:
            raise LabelError(f"the name of a label may have {NAME_CHARACTERS} characters", begin)
        return name

    def value(self) -> Value:
        begin = self.position()
        if (quoted := self.take(_QUOTED)) is not None:
            if not quoted.isprintable():
                raise LabelError("a text may hold printable characters only", begin)
            return quoted[1:-1]
        word = self.take(_WORD)
        if word is None:
            self.fail("a value: a number, true, false, a word, or a text in quotes")
        if word in ("true", "false"):
            return word == "true"
        return _number(word, begin) if _NUMBER.fullmatch(word) else word

    def values(self) -> tuple[Value, ...]:
        if not self.sign("["):
            self.fail("a list: `[eu, us]`")
        found: dict[str, Value] = {}
        while True:
            value = self.value()
            found[_shown(value)] = value
            if self.sign("]"):
                return tuple(found[shown] for shown in sorted(found))
            if not self.sign(","):
                self.fail("`,` or `]`")

    def end(self, expected: str) -> None:
        if self.left():
            self.fail(expected)

    def fail(self, expected: str) -> NoReturn:
        rest = self.text[self.position() :]
        word = _WORD.match(rest)
        found = word.group()[:30] if word else rest[:1]
        shown = f"`{found}`" if found.isprintable() else "a character that cannot be shown"
        hint = _HINTS.get(found)
        message = f"expected {expected}, not {shown}" if found else f"expected {expected} here, at its end"
        raise LabelError(f"{message}: {hint}" if hint else message, self.at)


def _number(word: str, position: int) -> int | float:
    if word.lstrip("-").isdigit():
        number: int | float = int(word) if len(word) <= 20 else _WHOLE.stop
        if number not in _WHOLE:
            raise LabelError("a whole number must fit in 64 bits", position)
        return number
    number = float(word)
    if number in (float("inf"), float("-inf")):
        raise LabelError("this number is too large", position)
    # `1.0` and `1` are one requirement; beyond 2**53 a float has no exact neighbours any more.
    return int(number) if number.is_integer() and abs(number) < 2**53 else number


def _is_number(value: Value) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _equal(left: Value, right: Value) -> bool:
    if _is_number(left) or _is_number(right):
        return _is_number(left) and _is_number(right) and left == right
    return type(left) is type(right) and left == right


def _ordered(operator: Operator, left: Value, right: Value) -> bool:
    if not (_is_number(left) and _is_number(right)):
        return False
    one, other = cast(float, left), cast(float, right)
    match operator:
        case "<":
            return one < other
        case "<=":
            return one <= other
        case ">":
            return one > other
    return one >= other


def _written(name: str, operator: Operator, values: tuple[Value, ...]) -> str:
    if operator == "has":
        return name
    if operator in ("in", "not in"):
        return f"{name} {operator} [{', '.join(map(_shown, values))}]"
    return f"{name} {operator} {_shown(values[0])}"


def _shown(value: Value) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return str(value)
    plain = _WORD.fullmatch(value) and not _NUMBER.fullmatch(value) and value not in ("true", "false")
    if plain:
        return value
    return f'"{value}"' if '"' not in value else f"'{value}'"
