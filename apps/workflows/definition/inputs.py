"""The inputs of a workflow: their schemas are checked when it is saved, their values when it is started."""

import datetime as dt
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

import jsonschema
from jsonschema import Draft202012Validator, FormatChecker

from apps.core.errors import Invalid, Problem
from apps.workflows.definition.input_schemas import FORMATS, schema_problem
from apps.workflows.definition.loader import data_problems
from apps.workflows.definition.patterns import SUBJECT_CHARACTERS
from apps.workflows.definition.pointers import pointer
from apps.workflows.definition.suggestions import Suggester

INPUT_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,99}")


def input_problems(inputs: Mapping[str, Any]) -> Iterator[Problem]:
    """What is wrong with the declared inputs, defaults included."""
    for name, schema in inputs.items():
        if not INPUT_NAME.fullmatch(name):
            yield Problem(
                pointer=pointer("inputs", name),
                code="bad_name",
                message=f"`{name[:100]}` is no name of an input: letters, digits, `_` and `-`, no digit first",
            )
        if not isinstance(schema, Mapping):
            continue
        if found := schema_problem(schema):
            yield Problem(pointer=pointer("inputs", name, *found[0]), code="bad_schema", message=found[1])
        elif "default" in schema:
            path = ("inputs", name, "default")
            yield from _mismatches(schema, schema["default"], path, code="bad_default", label="the default")


def resolve_inputs(definition_inputs: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """The inputs of an execution: what was given, and the default of what was not.

    Raises `Invalid` (code `invalid_inputs`) with every problem, each with a pointer such as `/inputs/date`. Defaults
    are plain data: a `${…}` in them is not evaluated. Defaults inside an object are not filled in.
    """
    suggest = Suggester()
    problems = [
        Problem(pointer=f"/inputs{problem.pointer}", code=problem.code, message=problem.message)
        for problem in data_problems(dict(given))
    ]
    if not problems:
        for name in given:
            if name not in definition_inputs:
                message = f"there is no input `{name[:100]}`{suggest(name, definition_inputs)}"
                problems.append(Problem(pointer=pointer("inputs", name), code="unknown_input", message=message))
        for name, schema in definition_inputs.items():
            if name in given:
                problems += _mismatches(schema, given[name], ("inputs", name), code="bad_input", label=f"`{name}`")
            elif "default" not in schema:
                message = f"the input `{name}` is required: it has no default"
                problems.append(Problem(pointer=pointer("inputs", name), code="missing_input", message=message))
    if problems:
        raise Invalid("the inputs do not fit the workflow", code="invalid_inputs", problems=problems)
    return {name: given.get(name, schema.get("default")) for name, schema in definition_inputs.items()}


def _mismatches(
    schema: Mapping[str, Any], value: Any, path: tuple[str, ...], *, code: str, label: str
) -> Iterator[Problem]:
    try:
        for error, _ in zip(_Validator(schema, format_checker=_FORMATS).iter_errors(value), range(20), strict=False):
            yield Problem(
                pointer=pointer(*path, *error.absolute_path),
                code=code,
                message=f"{label} does not fit: {_bounded(error.message)}",
            )
    except RecursionError:
        yield Problem(pointer=pointer(*path), code=code, message=f"{label} is nested too deep")


def _bounded(message: str) -> str:
    return message if len(message) <= 300 else f"{message[:200]} … {message[-90:]}"


def _pattern(validator: Any, pattern: str, instance: Any, _schema: Any) -> Iterator[jsonschema.ValidationError]:
    if not validator.is_type(instance, "string"):
        return
    if len(instance) > SUBJECT_CHARACTERS:
        yield jsonschema.ValidationError(f"text that must match a pattern may have {SUBJECT_CHARACTERS} characters")
    elif not re.search(pattern, instance):
        yield jsonschema.ValidationError(f"{instance!r} does not match {pattern!r}")


def _unique_items(validator: Any, unique: bool, instance: Any, _schema: Any) -> Iterator[jsonschema.ValidationError]:
    if unique and validator.is_type(instance, "array"):
        seen = {json.dumps(_canonical(item), sort_keys=True) for item in instance}
        if len(seen) != len(instance):
            yield jsonschema.ValidationError("the items of the list are not unique")


def _canonical(value: Any) -> Any:
    """`value` with 1.0 as 1: JSON Schema counts them as equal."""
    if isinstance(value, dict):
        return {key: _canonical(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_canonical(inner) for inner in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _is_date_time(value: object) -> bool:
    if not isinstance(value, str):
        return True
    try:
        return "T" in value.upper() and dt.datetime.fromisoformat(value).tzinfo is not None
    except ValueError:
        return False


# The library's `pattern` and `uniqueItems` have no bound on their time.
_extend: Any = jsonschema.validators.extend
_Validator: Any = _extend(Draft202012Validator, {"pattern": _pattern, "uniqueItems": _unique_items})
_FORMATS = FormatChecker(formats=[name for name in FORMATS if name != "date-time"])
_FORMATS.checkers["date-time"] = (_is_date_time, ())
