"""Reads strings with `${…}` into templates: a precedence-climbing parser with a bound on its depth."""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, NoReturn, cast

from apps.workflows.engine.expressions.syntax import (
    EXPRESSION_CHARACTERS,
    NESTING,
    TEMPLATE_CHARACTERS,
    VALUE_DEPTH,
    Compare,
    Constant,
    Expression,
    ExpressionError,
    Key,
    Length,
    ListOf,
    Logic,
    Lookup,
    Not,
    Operator,
    Reference,
    Root,
    Template,
)
from apps.workflows.engine.expressions.tokens import Token, tokens_of

_CONSTANTS: dict[str, bool | None] = {"true": True, "false": False, "null": None}
_PYTHON_WORDS = {"True": "true", "False": "false", "None": "null"}
_ROOTS = ("inputs", "steps", "item", "secrets")
_COMPARISONS = ("==", "!=", "<", "<=", ">", ">=", "in")
_CACHED_CHARACTERS = 2048  # longer strings are parsed each time, so that the cache stays small


def parse(text: str) -> Template:
    """The parts of `text`. Raises `ExpressionError` where a `${…}` in it cannot be read."""
    if len(text) <= _CACHED_CHARACTERS:
        return _parse_cached(text)
    return _parse(text)


def references(value: Any) -> frozenset[Reference]:
    """Every reference in the strings of `value`, at any depth. Raises `ExpressionError` as `parse` does."""
    found: set[Reference] = set()
    pending: list[tuple[Any, int]] = [(value, 0)]
    while pending:
        current, depth = pending.pop()
        if isinstance(current, str):
            if "${" in current:
                found.update(lookup.reference for lookup in parse(current).lookups())
        elif isinstance(current, Mapping | list | tuple):
            if depth >= VALUE_DEPTH:
                raise ExpressionError(f"lists and objects may be nested {VALUE_DEPTH} deep")
            inner = current.values() if isinstance(current, Mapping) else current
            pending.extend((each, depth + 1) for each in inner)
    return frozenset(found)


def _parse(text: str) -> Template:
    parts: list[str | Expression] = []
    literal = ""
    position, allowed = 0, EXPRESSION_CHARACTERS
    while (opening := text.find("${", position)) >= 0:
        if len(text) > TEMPLATE_CHARACTERS:
            raise ExpressionError(f"a string with `${{…}}` may hold {TEMPLATE_CHARACTERS} characters")
        if opening > position and text[opening - 1] == "$":
            literal += text[position : opening - 1] + "${"
            position = opening + 2
            continue
        literal += text[position:opening]
        if literal:
            parts.append(literal)
            literal = ""
        tokens, position = tokens_of(text, opening + 2, allowed)
        allowed -= position - opening - 2
        parts.append(_Parser(tokens).whole())
    literal += text[position:]
    if literal:
        parts.append(literal)
    return Template(tuple(parts))


_parse_cached = lru_cache(maxsize=4096)(_parse)


class _Parser:
    """Reads the tokens of one expression; `depth` is how far inside parentheses and lists it stands."""

    def __init__(self, tokens: list[Token]) -> None:
        self.tokens = tokens
        self.at = 0
        self.depth = 0

    @property
    def token(self) -> Token:
        return self.tokens[self.at]

    def take(self) -> Token:
        token = self.tokens[self.at]
        self.at += 1
        return token

    def accept(self, *values: str) -> bool:
        """Steps over the next token if it is one of these words or signs."""
        if self.token.kind in ("word", "sign") and self.token.value in values:
            self.at += 1
            return True
        return False

    def expect(self, sign: str, after: str) -> None:
        if not self.accept(sign):
            self.fail(f"expected `{sign}` {after}")

    def fail(self, message: str) -> NoReturn:
        raise ExpressionError(message, position=self.token.position)

    def enter(self) -> None:
        self.depth += 1
        if self.depth > NESTING:
            self.fail(f"an expression may be nested {NESTING} deep")

    def whole(self) -> Expression:
        if self.token.kind == "end":
            self.fail("`${}` is empty (write `$${` for a literal `${`)")
        found = self.disjunction()
        if self.tokens[self.at].kind != "end":
            self.fail(self.unexpected())
        return found

    def unexpected(self) -> str:
        token = self.token
        if token.kind == "default":
            return "a default after `:-` is for environment variables: `${NAME:-default}`"
        if token.kind == "sign" and token.value == "(":
            return "there are no calls but `len(…)`"
        if token.kind == "member" or token.value == "[":
            return "`.key` and `[…]` follow references only"
        if token.kind == "number" and isinstance(token.value, int | float) and token.value < 0:
            return "there is no arithmetic"
        if token.kind in ("sign", "word") and token.value in _COMPARISONS:
            return "comparisons are not chained: join them with `and`"
        return f"unexpected `{token.value}`"

    def disjunction(self) -> Expression:
        operands = [self.conjunction()]
        while self.accept("or", "||"):
            operands.append(self.conjunction())
        return operands[0] if len(operands) == 1 else Logic("or", tuple(operands))

    def conjunction(self) -> Expression:
        operands = [self.negation()]
        while self.accept("and", "&&"):
            operands.append(self.negation())
        return operands[0] if len(operands) == 1 else Logic("and", tuple(operands))

    def negation(self) -> Expression:
        if not self.accept("not", "!"):
            return self.comparison()
        self.enter()
        operand = self.negation()
        self.depth -= 1
        return Not(operand)

    def comparison(self) -> Expression:
        left = self.operand()
        position = self.token.position
        operator: Operator
        if self.token.kind in ("word", "sign") and self.token.value in _COMPARISONS:
            operator = cast(Operator, self.take().value)
        elif self.accept("not"):
            if not self.accept("in"):
                self.fail("expected `in` after `not`")
            operator = "not in"
        else:
            return left
        return Compare(operator, left, self.operand(), position)

    def operand(self) -> Expression:
        token = self.take()
        if token.kind in ("number", "text"):
            return Constant(token.value)
        if token.kind == "word":
            return self.word(str(token.value), token.position)
        if token.kind == "sign" and token.value in ("(", "["):
            self.enter()
            found: Expression
            if token.value == "[":
                found = self.list_items()
            else:
                found = self.disjunction()
                self.expect(")", "to close `(`")
            self.depth -= 1
            return found
        if token.kind == "end":
            raise ExpressionError("the expression is not complete", position=token.position)
        raise ExpressionError(f"unexpected `{token.value}`: a value belongs here", position=token.position)

    def list_items(self) -> ListOf:
        items: list[Expression] = []
        while not self.accept("]"):
            if items:
                self.expect(",", "or `]` in a list")
                if self.accept("]"):
                    break
            items.append(self.disjunction())
        return ListOf(tuple(items))

    def word(self, word: str, position: int) -> Expression:
        if word in _CONSTANTS:
            return Constant(_CONSTANTS[word])
        if word in _PYTHON_WORDS:
            raise ExpressionError(f"write `{_PYTHON_WORDS[word]}`, not `{word}`", position=position)
        if word in ("and", "or", "not", "in"):
            raise ExpressionError(f"`{word}` needs a value before it", position=position)
        if word == "len":
            return self.length(position)
        if word in _ROOTS:
            return self.reference(cast(Root, word), position)
        return self.variable(word, position)

    def length(self, position: int) -> Length:
        self.expect("(", "after `len`")
        self.enter()
        operand = self.disjunction()
        self.expect(")", "to close `len(`")
        self.depth -= 1
        return Length(operand, position)

    def variable(self, name: str, position: int) -> Lookup:
        if self.token.kind == "member" or (self.token.kind == "sign" and self.token.value == "["):
            raise ExpressionError(
                f"unknown name `{name}`: a path begins with inputs, steps, item or secrets", position=position
            )
        if self.token.kind == "sign" and self.token.value == "(":
            raise ExpressionError(f"`{name}(…)`: there are no calls but `len(…)`", position=position)
        if not (name.isascii() and name.replace("_", "a").isalnum()):
            raise ExpressionError(f"unknown name `{name}`: no environment variable is called so", position=position)
        default = None
        if self.token.kind == "default":
            if self.at != 1:
                self.fail("a default belongs to a part that is one variable: `${NAME:-default}`")
            default = str(self.take().value)
        return Lookup(Reference("env", (name,)), position, default)

    def reference(self, root: Root, position: int) -> Lookup:
        path = self.path()
        if root == "steps":
            path = _outputs_path(path, position)
        elif root == "secrets" and not (len(path) == 1 and isinstance(path[0], str)):
            raise ExpressionError("write `secrets.NAME`", position=position)
        return Lookup(Reference(root, path), position)

    def path(self) -> tuple[Key, ...]:
        path: list[Key] = []
        while True:
            if self.token.kind == "member":
                path.append(str(self.take().value))
            elif self.accept("["):
                token = self.take()
                if token.kind == "text" or (token.kind == "number" and isinstance(token.value, int)):
                    path.append(cast(Key, token.value))
                else:
                    self.at -= 1
                    self.fail("an index is a whole number or a key in quotes: `[0]`, `['key']`")
                self.expect("]", "after the index")
            else:
                return tuple(path)


def _outputs_path(path: tuple[Key, ...], position: int) -> tuple[Key, ...]:
    if not path or not isinstance(path[0], str):
        raise ExpressionError("write `steps.ID.outputs`, with the id of a step", position=position)
    if len(path) == 1 or path[1] != "outputs":
        step = Reference("steps", (path[0],))
        raise ExpressionError(f"of a step only its outputs can be read: write `{step}`", position=position)
    return (path[0], *path[2:])
