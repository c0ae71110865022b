"""Gives `${…}` its values: `render` for data, `condition` for `when`."""

import json
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from apps.workflows.engine.expressions.allowance import Allowance, type_name
from apps.workflows.engine.expressions.parser import parse
from apps.workflows.engine.expressions.syntax import (
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
    Template,
)

NO_ITEM: Final = object()
"""The `item` of a context outside `for_each`: null would be an item like any other."""

_ORDERINGS: Mapping[str, Callable[[Any, Any], Any]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_TEMPLATE_UNITS = 10  # what a string with `${…}` costs beside its data


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What expressions may read.

    `steps` holds the outputs by step id. `secrets` gives the value of a secret by name and raises `LookupError`
    where there is none; without it secrets are refused. `environment` holds only what its owner offers.
    """

    inputs: Mapping[str, Any] = field(default_factory=dict)
    steps: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    item: Any = NO_ITEM
    secrets: Callable[[str], str] | None = None
    environment: Mapping[str, str] = field(default_factory=dict)


def render(value: Any, context: Context) -> Any:
    """`value` with every `${…}` replaced, at any depth; the very same object where it holds none.

    Raises `ExpressionError`. One call passes on at most 1 MiB of data by whole references, and looks at a bounded
    number of values: see `allowance`.
    """
    return _render(value, context, Allowance(), 0)


def condition(text: str, context: Context) -> bool:
    """Whether `text` holds: one whole `${…}` by the rule of truth above, any other must render to `true` or `false`.

    Raises `ExpressionError`.
    """
    template, allowance = parse(text), Allowance()
    if template.whole is not None:
        return truth(_value(template.whole, context, allowance))
    rendered = _text_of(template, context, allowance).strip()
    if rendered not in ("true", "false"):
        raise ExpressionError(f"a condition is `${{…}}`, or text that becomes true or false, not {_short(rendered)}")
    return rendered == "true"


def truth(value: Any) -> bool:
    """False are: false, null, 0, "", "false", [] and {}."""
    return bool(value) and value != "false"


def _render(value: Any, context: Context, allowance: Allowance, depth: int) -> Any:
    if isinstance(value, str):
        return _render_text(value, context, allowance) if "${" in value else value
    if not isinstance(value, Mapping | list | tuple):
        return value
    if depth >= VALUE_DEPTH:
        raise ExpressionError(f"lists and objects may be nested {VALUE_DEPTH} deep")
    if isinstance(value, Mapping):
        entries = {key: _render(inner, context, allowance, depth + 1) for key, inner in value.items()}
        return value if all(entries[key] is inner for key, inner in value.items()) else entries
    items = [_render(inner, context, allowance, depth + 1) for inner in value]
    return value if all(new is old for new, old in zip(items, value, strict=True)) else items


def _render_text(text: str, context: Context, allowance: Allowance) -> Any:
    template = parse(text)
    allowance.spend(_TEMPLATE_UNITS)
    if template.whole is None:
        return _text_of(template, context, allowance)
    value = _value(template.whole, context, allowance)
    allowance.pass_on(value)
    return value


def _text_of(template: Template, context: Context, allowance: Allowance) -> str:
    pieces: list[str] = []
    total = 0
    for part in template.parts:
        piece = part if isinstance(part, str) else _stringify(_value(part, context, allowance), allowance)
        total += len(piece)
        if total > TEMPLATE_CHARACTERS:
            raise _result_too_large()
        pieces.append(piece)
    return "".join(pieces)


def _result_too_large() -> ExpressionError:
    return ExpressionError(
        f"the text that `${{…}}` makes may hold {TEMPLATE_CHARACTERS:,} characters; pass large data by a whole `${{…}}`"
    )


def _stringify(value: Any, allowance: Allowance) -> str:
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    if allowance.size(value, limit=TEMPLATE_CHARACTERS) > TEMPLATE_CHARACTERS:
        raise _result_too_large()
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    except (TypeError, ValueError, RecursionError):
        raise ExpressionError(f"{type_name(value)} that cannot be written as JSON") from None


def _value(expression: Expression, context: Context, allowance: Allowance) -> Any:  # noqa: PLR0911 one per form
    allowance.spend(1)
    match expression:
        case Constant(value=value):
            return value
        case Lookup():
            return _look_up(expression, context)
        case ListOf(items=items):
            return [_value(item, context, allowance) for item in items]
        case Not(operand=operand):
            return not truth(_value(operand, context, allowance))
        case Logic(operator="and", operands=operands):
            return all(truth(_value(operand, context, allowance)) for operand in operands)
        case Logic(operands=operands):
            return any(truth(_value(operand, context, allowance)) for operand in operands)
        case Length(operand=operand, position=position):
            return _length(_value(operand, context, allowance), position)
        case Compare(left=left, right=right):
            return _compare(expression, _value(left, context, allowance), _value(right, context, allowance), allowance)


def _length(value: Any, position: int) -> int:
    if isinstance(value, str | Mapping | Sequence):
        return len(value)
    raise ExpressionError(f"`len` needs text, a list or an object, not {type_name(value)}", position=position)


def _compare(comparison: Compare, left: Any, right: Any, allowance: Allowance) -> bool:
    match comparison.operator:
        case "==":
            return allowance.equal(left, right)
        case "!=":
            return not allowance.equal(left, right)
        case "in":
            return allowance.contains(right, left, position=comparison.position)
        case "not in":
            return not allowance.contains(right, left, position=comparison.position)
    kinds = {type_name(left), type_name(right)}
    if kinds not in ({"a number"}, {"text"}):
        raise ExpressionError(
            f"`{comparison.operator}` compares two numbers or two texts, not {type_name(left)} and {type_name(right)}",
            position=comparison.position,
        )
    if isinstance(left, str):
        allowance.spend(min(len(left), len(right)) // 256)
    return bool(_ORDERINGS[comparison.operator](left, right))


def _look_up(lookup: Lookup, context: Context) -> Any:
    reference, position = lookup.reference, lookup.position
    value: Any
    match reference.root:
        case "env":
            return _variable(lookup, context)
        case "secrets":
            return _secret(str(reference.path[0]), context, position)
        case "item":
            if context.item is NO_ITEM:
                raise ExpressionError("`item` has a value in a `for_each` step only", position=position)
            value, known = context.item, "item"
        case "inputs":
            value, known = context.inputs, "inputs"
        case "steps":
            value, known = context.steps, "steps"
    for number, key in enumerate(reference.path):
        value = _member(value, key, known, position)
        known += f".{key}" if isinstance(key, str) else f"[{key}]"
        if number == 0 and reference.root == "steps":
            known += ".outputs"
    return value


def _member(value: Any, key: Key, known: str, position: int) -> Any:
    if isinstance(value, Mapping):
        if isinstance(key, str) and key in value:
            return value[key]
        raise ExpressionError(f"`{known}` has no key {_short(key)}; {_keys(value)}", position=position)
    if isinstance(value, Sequence) and not isinstance(value, str):
        if not isinstance(key, int):
            raise ExpressionError(f"`{known}` is a list: write [0], not {_short(key)}", position=position)
        if -len(value) <= key < len(value):
            return value[key]
        raise ExpressionError(f"`{known}` has no item {key}: its length is {len(value)}", position=position)
    raise ExpressionError(f"`{known}` is {type_name(value)} and has no key {_short(key)}", position=position)


def _variable(lookup: Lookup, context: Context) -> str:
    name = str(lookup.reference.path[0])
    if name in context.environment:
        found = context.environment[name]
        if found or lookup.default is None:
            return found
    if lookup.default is not None:
        return lookup.default
    raise ExpressionError(
        f"the environment variable {name} is not offered to workflows; "
        f"give it a default (`${{{name}:-…}}`) or have it allowed",
        position=lookup.position,
    )


def _secret(name: str, context: Context, position: int) -> str:
    if context.secrets is None:
        raise ExpressionError("secrets cannot be read here", position=position)
    try:
        return context.secrets(name)
    except LookupError:
        raise ExpressionError(f"there is no secret {_short(name)}", position=position) from None


def _keys(value: Mapping[str, Any]) -> str:
    if not value:
        return "it is empty"
    shown = ", ".join(_short(key) for key, _ in zip(value, range(10), strict=False))
    return f"it has {shown}" + (f" and {len(value) - 10} more" if len(value) > 10 else "")


def _short(value: Any) -> str:
    text = str(value)
    return f"`{text[:60]}…`" if len(text) > 60 else f"`{text}`"
