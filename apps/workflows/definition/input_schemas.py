"""Whether a JSON Schema (Draft 2020-12) of an input can be used: correct, local, and of bounded cost."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from jsonschema import Draft202012Validator, SchemaError

from apps.workflows.definition.patterns import objection

SCHEMA_CHARACTERS = 32_768
EXPANDED = 10_000  # subschemas, with each `$ref` replaced by what it refers to
FORMATS = ("date", "date-time", "email", "ipv4", "ipv6", "uuid")

_DATA_KEYWORDS = ("default", "const", "enum", "examples")
_REFUSED = ("$id", "$schema", "$anchor", "$dynamicRef", "$dynamicAnchor", "$vocabulary", "patternProperties")
_NAMED = ("properties", "$defs", "definitions", "dependentSchemas")  # keyword: {any name: a schema}

Path = tuple[str | int, ...]


def schema_problem(schema: Mapping[str, Any]) -> tuple[Path, str] | None:
    """The first thing wrong with `schema`, and where; None where it can be used."""
    try:
        if len(json.dumps(schema)) > SCHEMA_CHARACTERS:
            return (), f"the schema of an input may have {SCHEMA_CHARACTERS:,} characters"
        for path, subschema in _subschemas(schema):
            if found := _keyword_problem(subschema, schema):
                return (*path, found[0]), found[1]
        Draft202012Validator.check_schema(schema)
        _expanded(schema, schema, {})
    except SchemaError as error:
        return tuple(error.absolute_path), f"this is no JSON Schema: {error.message[:300]}"
    except _Refused as error:
        return (), str(error)
    except RecursionError:
        return (), "the schema of an input is nested too deep"
    return None


class _Refused(Exception):
    pass


def _subschemas(schema: Any, path: Path = (), *, named: bool = False) -> Iterator[tuple[Path, Mapping[str, Any]]]:
    if isinstance(schema, list):
        for index, inner in enumerate(schema):
            yield from _subschemas(inner, (*path, index))
    elif isinstance(schema, Mapping):
        if not named:
            yield path, schema
        for key, inner in schema.items():
            if named or key not in _DATA_KEYWORDS:
                yield from _subschemas(inner, (*path, key), named=not named and key in _NAMED)


def _keyword_problem(schema: Mapping[str, Any], root: Mapping[str, Any]) -> tuple[str, str] | None:
    for keyword in _REFUSED:
        if keyword in schema:
            return keyword, f"`{keyword}` is not allowed in the schema of an input"
    if (kind := schema.get("format")) is not None and kind not in FORMATS:
        return "format", f"the format {str(kind)[:50]!r} is not checked; there are {', '.join(FORMATS)}"
    if isinstance(pattern := schema.get("pattern"), str) and (message := objection(pattern)):
        return "pattern", message
    if (ref := schema.get("$ref")) is not None and _target(ref, root) is None:
        return "$ref", "`$ref` may refer only to a schema of the same input that exists: `#/$defs/name`"
    return None


def _target(ref: Any, root: Mapping[str, Any]) -> Any:
    if not isinstance(ref, str) or not (ref == "#" or ref.startswith("#/")):
        return None
    found: Any = root
    for part in ref.split("/")[1:]:
        key = part.replace("~1", "/").replace("~0", "~")
        found = found.get(key) if isinstance(found, Mapping) else None
    return found


def _expanded(schema: Any, root: Mapping[str, Any], sizes: dict[str, int]) -> int:
    """How many subschemas a validation can reach. `sizes` holds what references reach, 0 while one is open."""
    total = 0
    for _, subschema in _subschemas(schema):
        total += 1
        if isinstance(ref := subschema.get("$ref"), str):
            if ref not in sizes:
                sizes[ref] = 0
                sizes[ref] = _expanded(_target(ref, root), root, sizes)
            elif sizes[ref] == 0:
                raise _Refused("`$ref` may not be recursive in the schema of an input")
            total += sizes[ref]
        if total > EXPANDED:
            raise _Refused(f"the schema of an input may have {EXPANDED:,} subschemas, its `$ref` followed")
    return total
