"""Turns pydantic's errors into problems: a pointer into what the author wrote, and a message that names the fix."""

from collections.abc import Iterator, Mapping
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from apps.core.errors import Problem
from apps.workflows.definition.pointers import pointer
from apps.workflows.definition.suggestions import Suggester

Path = tuple[str | int, ...]

_WRONG_TYPE = {
    "string_type": "text",
    "list_type": "a list",
    "tuple_type": "a list",
    "set_type": "a list",
    "frozen_set_type": "a list",
    "dict_type": "a mapping (`key: value`)",
    "mapping_type": "a mapping (`key: value`)",
    "model_type": "a mapping (`key: value`)",
    "model_attributes_type": "a mapping (`key: value`)",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "int_parsing": "a whole number",
    "float_parsing": "a number",
    "bool_parsing": "true or false",
    "float_type": "a number",
    "bool_type": "true or false",
}
_BAD_VALUE = {
    "literal_error": "must be one of {expected}",
    "enum": "must be one of {expected}",
    "greater_than": "must be greater than {gt:g}",
    "greater_than_equal": "must be at least {ge:g}",
    "less_than": "must be less than {lt:g}",
    "less_than_equal": "must be at most {le:g}",
    "string_too_short": "must have at least {min_length} characters",
    "string_too_long": "must have at most {max_length} characters",
    "too_short": "needs at least {min_length} entries",
    "too_long": "may have at most {max_length} entries, it has {actual_length}",
    "finite_number": "must be a finite number",
}
_PATTERNS = {
    r"^[A-Za-z0-9_-]+$": "may hold letters, digits, `_` and `-` only",
    r"^[A-Za-z0-9][A-Za-z0-9_.:-]*$": "may hold letters, digits and `_-.:` only, and begins with a letter or digit",
    r"^[A-Za-z_][A-Za-z0-9_]*$": "may hold letters, digits and `_` only, and begins with no digit",
    r"\S": "cannot be blank",
}


def problems_from(
    error: ValidationError, model: type[BaseModel], data: Any, suggest: Suggester
) -> Iterator[tuple[Path, Problem]]:
    """Each of the errors with its path in `data`; `model` is what `data` was checked against."""
    for detail in error.errors(include_url=False):
        path, on_key = _path(detail, data)
        code, message = _explained(detail, path, model, suggest)
        where = f"the key `{path[-1]}`" if on_key else label(path)
        yield (
            path,
            Problem(
                pointer=pointer(*path), code=code, message=message if code == "unknown_key" else f"{where} {message}"
            ),
        )


def label(path: Path) -> str:
    """How a message calls the place: `depends_on[0]`."""
    name = ""
    for part in reversed(path):
        if isinstance(part, str):
            return f"`{part}{name}`"
        name = f"[{part}]{name}"
    return f"`{name}`" if name else "the definition"


def type_name(value: Any) -> str:
    """What an author calls the type of `value`."""
    if isinstance(value, bool):
        return "a boolean"
    names: dict[type, str] = {str: "text", int: "a number", float: "a number", list: "a list", dict: "a mapping"}
    return "null" if value is None else names.get(type(value), type(value).__name__)


def _path(detail: ErrorDetails, data: Any) -> tuple[Path, bool]:
    """The location without the parts that pydantic adds for unions and keys, and whether it means a key."""
    loc = detail["loc"]
    path: list[str | int] = []
    for number, part in enumerate(loc):
        if _has(data, part):
            data = data[part]
        elif detail["type"] != "missing" or number < len(loc) - 1:
            continue
        path.append(part)
    return tuple(path), bool(loc) and loc[-1] == "[key]"


def _has(data: Any, part: str | int) -> bool:
    if isinstance(data, Mapping):
        return part in data
    return isinstance(data, list | tuple) and isinstance(part, int) and part < len(data)


def _explained(detail: ErrorDetails, path: Path, model: type[BaseModel], suggest: Suggester) -> tuple[str, str]:
    kind, context = detail["type"], detail.get("ctx", {})
    if kind == "missing":
        return "missing", "is required"
    if kind == "extra_forbidden":
        known = fields_at(model, path[:-1])
        return "unknown_key", f"unknown key `{path[-1]}`{suggest(str(path[-1]), known) or _listed(known)}"
    if kind in _WRONG_TYPE:
        given = detail["input"]
        fix = ": put it in quotes" if kind == "string_type" and isinstance(given, int | float) else ""
        return "wrong_type", f"must be {_WRONG_TYPE[kind]}, not {type_name(given)}{fix}"
    if kind == "string_pattern_mismatch":
        return "bad_value", _PATTERNS.get(context["pattern"], f"must match {context['pattern']}")
    if kind in _BAD_VALUE:
        return "bad_value", _BAD_VALUE[kind].format(**context)
    return "bad_value", f"is not valid: {detail['msg'].removeprefix('Value error, ')}"


def _listed(known: list[str]) -> str:
    return f"; there are {', '.join(known[:40])}" if known else ""


def fields_at(model: Any, path: Path) -> list[str]:
    """The keys that the model at `path` knows."""
    current: Any = model
    for part in path:
        current = _inner(current, part)
    found = next((each for each in _alternatives(current) if _is_model(each)), None)
    return [field.alias or name for name, field in found.model_fields.items()] if found else []


def _inner(annotation: Any, part: str | int) -> Any:
    for each in _alternatives(annotation):
        if _is_model(each):
            for name, field in each.model_fields.items():
                if part == (field.alias or name):
                    return field.annotation
        elif get_origin(each) is list and isinstance(part, int):
            return get_args(each)[0]
        elif get_origin(each) is dict and isinstance(part, str):
            return get_args(each)[1]
    return None


def _is_model(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _alternatives(annotation: Any) -> Iterator[Any]:
    if get_origin(annotation) is Annotated:
        yield from _alternatives(get_args(annotation)[0])
    elif get_origin(annotation) in (Union, UnionType):
        for each in get_args(annotation):
            yield from _alternatives(each)
    else:
        yield annotation
