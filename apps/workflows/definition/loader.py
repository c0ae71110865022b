"""Turns the text of a definition into data: safe YAML 1.2 or JSON. Nothing in the text can name a type or run code.

YAML is composed from libyaml's events by this module and not by a YAML constructor: only text, numbers, booleans,
null, lists and mappings can come out. Booleans are `true` and `false` alone, so that `on:` stays a key and `no` a
word; dates stay text; keys are text.
"""

import json
import math
from collections.abc import Iterator
from typing import Any, Literal, NoReturn

from apps.core.errors import Invalid, Problem, TooLarge
from apps.workflows.definition.pointers import pointer
from apps.workflows.definition.yaml_events import compose

TEXT_BYTES = 4 * 2**20
DEPTH = 64
INTEGERS = range(-(2**63), 2**63)

ContentType = Literal["yaml", "json"]


def load(text: bytes | str, content_type: ContentType | None = None) -> Any:
    """The data in `text`; without a content type, JSON is tried for what begins like it, then YAML.

    Raises `Invalid` (with line and column where they are known) and `TooLarge` (more than 4 MiB, 64 levels, or what
    the aliases of YAML may add).
    """
    source = _decoded(text)
    if content_type == "json" or (content_type is None and source.lstrip()[:1] in ("{", "[")):
        try:
            data = _load_json(source)
        except json.JSONDecodeError as error:
            if content_type == "json":
                _refuse_syntax("JSON", error.msg, error.lineno, error.colno)
            data = compose(source, depth=DEPTH)
    else:
        data = compose(source, depth=DEPTH)
    for problem in data_problems(data):
        raise Invalid(problem.message, code=problem.code, problems=[problem])
    return data


def data_problems(data: Any) -> Iterator[Problem]:
    """What in `data` is not the plain, bounded JSON that every part of the platform can store and send."""
    pending: list[tuple[Any, tuple[str | int, ...]]] = [(data, ())]
    while pending:
        value, path = pending.pop()
        if found := _value_problem(value, len(path)):
            yield Problem(pointer=pointer(*path), code=found[0], message=found[1])
        elif isinstance(value, list):
            pending.extend((inner, (*path, index)) for index, inner in enumerate(value))
        elif isinstance(value, dict):
            for key, inner in value.items():
                if not isinstance(key, str):
                    yield Problem(pointer=pointer(*path), code="bad_key", message=f"the key {key!r} must be text")
                elif found := _text_problem(key):
                    yield Problem(pointer=pointer(*path), code=found[0], message=f"a key: {found[1]}")
                else:
                    pending.append((inner, (*path, key)))


def _value_problem(value: Any, depth: int) -> tuple[str, str] | None:
    match value:
        case str():
            return _text_problem(value)
        case None | bool():
            return None
        case int():
            return None if value in INTEGERS else ("bad_number", "a whole number must fit in 64 bits")
        case float():
            return None if math.isfinite(value) else ("bad_number", "NaN and infinity are not allowed")
        case dict() | list():
            return None if depth < DEPTH else ("too_deep", f"lists and mappings may be nested {DEPTH} deep")
    return "bad_type", f"{type(value).__name__} is no type of JSON"


def _text_problem(text: str) -> tuple[str, str] | None:
    if "\0" in text:
        return "bad_text", "text cannot hold the character NUL"
    if not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text):
        return "bad_text", "text cannot hold half of a surrogate pair"
    return None


def _decoded(text: bytes | str) -> str:
    if len(text) > TEXT_BYTES:
        raise TooLarge(f"a definition may have {TEXT_BYTES:,} bytes")
    if isinstance(text, str):
        try:
            encoded = text.encode()
        except UnicodeEncodeError:
            raise Invalid("text cannot hold half of a surrogate pair", code="bad_text") from None
        if len(encoded) > TEXT_BYTES:
            raise TooLarge(f"a definition may have {TEXT_BYTES:,} bytes")
        return text.removeprefix("\ufeff")
    try:
        return text.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise Invalid(f"a definition must be UTF-8: byte {error.start} is not", code="bad_text") from None


def _load_json(source: str) -> Any:
    try:
        return json.loads(
            source,
            object_pairs_hook=_unique_keys,
            parse_constant=_refuse_constant,
            parse_int=_integer,
        )
    except RecursionError:
        raise TooLarge(f"lists and objects may be nested {DEPTH} deep", code="too_deep") from None


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise Invalid(f"the key {key[:100]!r} is given twice in one object", code="duplicate_key")
            seen.add(key)
    return found


def _refuse_constant(name: str) -> NoReturn:
    raise Invalid(f"{name} is not allowed", code="bad_number")


def _integer(digits: str) -> int:
    if len(digits) > 20 or int(digits) not in INTEGERS:
        raise Invalid("a whole number must fit in 64 bits", code="bad_number")
    return int(digits)


def _refuse_syntax(language: str, message: str, line: int, column: int) -> NoReturn:
    detail = f"this is not {language}: {message} at line {line}, column {column}"
    raise Invalid(detail, code="syntax", problems=[Problem(pointer="", code="syntax", message=detail)])
