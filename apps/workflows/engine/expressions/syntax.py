"""What a parsed `${…}` is made of, its limits, and its one error."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

EXPRESSION_CHARACTERS = 4096  # all `${…}` parts of one string together
TEMPLATE_CHARACTERS = 65536  # a string that holds `${…}`, and what it renders to
NESTING = 32  # parentheses, lists, `not` and `len` inside one another
VALUE_DEPTH = 128  # lists and objects inside one another, in what is rendered

Root = Literal["inputs", "steps", "item", "secrets", "env"]
Key = str | int
Operator = Literal["==", "!=", "<", "<=", ">", ">=", "in", "not in"]


class ExpressionError(ValueError):
    """A `${…}` that cannot be read, or has no value. `position` counts characters of the string from 0."""

    def __init__(self, message: str, *, position: int = 0) -> None:
        super().__init__(message)
        self.message = message
        self.position = position


@dataclass(frozen=True, slots=True)
class Reference:
    """A name an expression reads.

    `path` is what follows the root. Of a step it is the step's id and then the path inside its outputs (the word
    `outputs` is left out); of a secret and of the environment it is the one name.
    """

    root: Root
    path: tuple[Key, ...]

    def __str__(self) -> str:
        """As it would be written."""
        if self.root == "env":
            return str(self.path[0])
        path: tuple[Key, ...] = self.path
        if self.root == "steps":
            path = (path[0], "outputs", *path[1:])
        return self.root + "".join(
            f".{key}" if isinstance(key, str) and key.replace("-", "_").isidentifier() else f"[{key!r}]" for key in path
        )


@dataclass(frozen=True, slots=True)
class Constant:
    """A literal number, text, boolean or null."""

    value: bool | int | float | str | None


@dataclass(frozen=True, slots=True)
class Lookup:
    """The value a reference stands for; `default` only for the environment."""

    reference: Reference
    position: int
    default: str | None = None


@dataclass(frozen=True, slots=True)
class ListOf:
    """A literal list."""

    items: "tuple[Expression, ...]"


@dataclass(frozen=True, slots=True)
class Length:
    """`len(…)` of text, a list or an object."""

    operand: "Expression"
    position: int


@dataclass(frozen=True, slots=True)
class Not:
    """Negation."""

    operand: "Expression"


@dataclass(frozen=True, slots=True)
class Logic:
    """`and` or `or` over two or more operands, decided from the left."""

    operator: Literal["and", "or"]
    operands: "tuple[Expression, ...]"


@dataclass(frozen=True, slots=True)
class Compare:
    """One comparison; comparisons are not chained."""

    operator: Operator
    left: "Expression"
    right: "Expression"
    position: int


Expression = Constant | Lookup | ListOf | Length | Not | Logic | Compare


@dataclass(frozen=True, slots=True)
class Template:
    """A parsed string: literal text and expressions in their order."""

    parts: tuple[str | Expression, ...]

    @property
    def whole(self) -> Expression | None:
        """The expression, where the string is exactly one `${…}`."""
        if len(self.parts) == 1 and not isinstance(self.parts[0], str):
            return self.parts[0]
        return None

    def lookups(self) -> Iterator[Lookup]:
        """Every lookup in it, from left to right."""
        pending: list[str | Expression] = list(reversed(self.parts))
        while pending:
            part = pending.pop()
            match part:
                case Lookup():
                    yield part
                case ListOf(items=inner) | Logic(operands=inner):
                    pending.extend(reversed(inner))
                case Length(operand=operand) | Not(operand=operand):
                    pending.append(operand)
                case Compare(left=left, right=right):
                    pending.extend((right, left))
