"""The form of an approval as fields of a page: simple properties as inputs, whatever else as JSON. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

MOST_FIELDS = 50
_KINDS = {"string": "text", "integer": "number", "number": "number", "boolean": "boolean"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """One field. `name` is empty where it is the whole form; `options` are those of a choice."""

    name: str
    label: str
    kind: str  # text, number, boolean, choice, json
    required: bool = False
    step: str = "any"
    about: str = ""
    options: tuple[str, ...] = ()


def fields_of(schema: Mapping[str, Any]) -> list[Field]:
    """The fields that a JSON Schema of an object asks for; none where it asks for nothing."""
    if not schema:
        return []
    properties = schema.get("properties")
    if not isinstance(properties, Mapping) or not 0 < len(properties) <= MOST_FIELDS:
        return [Field(name="", label="Form, as JSON", kind="json", required=True)]
    asked = schema.get("required")
    required = asked if isinstance(asked, list) else []
    # PostgreSQL keeps no order of keys: those of `required` stand in its order, the others behind them.
    first = [name for name in dict.fromkeys(map(str, required)) if name in properties]
    names = [*first, *(name for name in properties if name not in first)]
    return [_field(name, properties[name], required=name in first) for name in names]


def _field(name: str, schema: Any, *, required: bool) -> Field:
    rules = schema if isinstance(schema, Mapping) else {}
    label, about = str(rules.get("title") or name), str(rules.get("description") or "")
    choices = rules.get("enum")
    if isinstance(choices, list) and choices and all(isinstance(one, str) for one in choices):
        return Field(name=name, label=label, kind="choice", required=required, about=about, options=tuple(choices))
    kind = rules.get("type")
    step = "1" if kind == "integer" else "any"
    known = _KINDS.get(kind, "json") if isinstance(kind, str) else "json"
    return Field(name=name, label=label, kind=known, required=required, step=step, about=about)
