"""Bodies in: bounded before they are read, strict before anything uses them.

What a database or a later reader would choke on (NUL, lone surrogates, NaN, numbers beyond 64 bits, endless nesting,
a key given twice) is refused here with a pointer, once for every endpoint.
"""

import json
import math
from collections.abc import Iterator, Mapping
from typing import IO, Any, ClassVar

from django.conf import settings
from django.http import QueryDict
from rest_framework import parsers

from apps.core.api.problems import pointer
from apps.core.api.renderers import JSONRenderer
from apps.core.errors import Invalid, Problem, TooLarge

MAX_DEPTH = 64
MAX_INT = 2**63 - 1
MIN_INT = -(2**63)
MAX_PROBLEMS = 100


class _Refused:
    """Stands in a parsed document where something was refused, until its pointer is known."""

    __slots__ = ("code", "key", "message")

    def __init__(self, code: str, message: str, key: str | None = None) -> None:
        self.code = code
        self.message = message
        self.key = key


def read_bounded(stream: IO[Any], parser_context: Mapping[str, Any] | None, *, limit: int | None = None) -> bytes:
    """The body, at most `limit` bytes (default `DATA_UPLOAD_MAX_MEMORY_SIZE`); `TooLarge` without reading the rest."""
    allowed = int(limit if limit is not None else settings.DATA_UPLOAD_MAX_MEMORY_SIZE or 0)
    error = TooLarge(f"The body is larger than {allowed:,} bytes.")
    request = (parser_context or {}).get("request")
    declared = request.META.get("CONTENT_LENGTH") if request is not None else None
    if declared and str(declared).isdigit() and int(declared) > allowed:
        raise error
    body = bytes(stream.read(allowed + 1))
    if len(body) > allowed:
        raise error
    return body


def loads(body: bytes) -> Any:
    """`body` as a JSON value; raises `Invalid` with every problem and its pointer.

    The encoding is UTF-8 (RFC 8259), whatever a `charset` parameter says.
    """
    try:
        text = body.decode("utf-8")
        document = json.loads(
            text, object_pairs_hook=_pairs, parse_int=_int, parse_float=_float, parse_constant=_constant
        )
    except UnicodeDecodeError:
        raise Invalid("The body is not UTF-8.", code="parse_error") from None
    except json.JSONDecodeError as error:
        raise Invalid(
            f"The body is not JSON: {error.msg} (line {error.lineno}, column {error.colno}).", code="parse_error"
        ) from None
    except RecursionError:
        raise Invalid(f"The body is nested deeper than {MAX_DEPTH} levels.", code="too_deep") from None
    problems = []
    # Without an escape there is neither NUL nor a lone surrogate: strict JSON and strict UTF-8 have none.
    for problem in _problems(document, escapes="\\u" in text):
        problems.append(problem)
        if len(problems) == MAX_PROBLEMS:
            break
    if problems:
        raise Invalid("The body holds what is not accepted; `errors` lists it.", problems=problems)
    return document


def _pairs(pairs: list[tuple[str, Any]]) -> Any:
    value = dict(pairs)
    if len(value) == len(pairs):
        return value
    seen: set[str] = set()
    for key, _ in pairs:
        if key in seen:
            return _Refused("duplicate_key", "this key is given twice; keep one", key)
        seen.add(key)
    return value


def _int(text: str) -> Any:
    # 64 bits have at most 19 digits; int() of thousands is slow and, beyond 4,300, an error.
    number = int(text) if len(text) <= 20 else None
    if number is None or not MIN_INT <= number <= MAX_INT:
        return _Refused("out_of_range", "a whole number must fit into 64 bits")
    return number


def _float(text: str) -> Any:
    number = float(text)
    return number if math.isfinite(number) else _Refused("out_of_range", "a number must be finite")


def _constant(text: str) -> _Refused:
    return _Refused("not_json", f"{text} is not JSON; use null or a number")


def _text_problem(text: str) -> str | None:
    if "\0" in text:
        return "NUL (\\u0000) is not allowed in text"
    if not text.isascii():
        try:
            text.encode("utf-8")
        except UnicodeEncodeError:
            return "a lone surrogate (\\ud800-\\udfff) is not a character"
    return None


def _problems(document: Any, *, escapes: bool) -> Iterator[Problem]:
    """What is refused in `document`, found without recursion; a path is a chain of (parent, key)."""
    stack: list[tuple[Any, Any, int]] = [(document, None, 1)]
    key: Any
    while stack:
        value, path, depth = stack.pop()
        kind = type(value)
        if kind is str:
            if escapes and (message := _text_problem(value)):
                yield Problem(pointer=_pointer(path), code="not_text", message=message)
        elif kind is dict or kind is list:
            if depth > MAX_DEPTH:
                yield Problem(pointer=_pointer(path), code="too_deep", message=f"nested deeper than {MAX_DEPTH} levels")
                continue
            for key, item in value.items() if kind is dict else enumerate(value):
                if escapes and kind is dict and (message := _text_problem(key)):
                    yield Problem(pointer=_pointer(path), code="not_text", message=f"a key here: {message}")
                elif not isinstance(item, int | float | None):
                    stack.append((item, (path, key), depth + 1))
        elif kind is _Refused:
            inside = path if value.key is None else (path, value.key)
            yield Problem(pointer=_pointer(inside), code=value.code, message=value.message)


def _pointer(path: Any) -> str:
    parts: list[str | int] = []
    while path is not None:
        path, part = path
        # The pointer is part of our answer, which is UTF-8.
        parts.append(part if isinstance(part, int) else part.encode("utf-8", "replace").decode())
    return pointer(*reversed(parts))


class JSONParser(parsers.JSONParser):
    """`application/json`, strictly."""

    renderer_class = JSONRenderer

    def parse(
        self,
        stream: IO[Any],
        media_type: str | None = None,  # noqa: ARG002
        parser_context: Mapping[str, Any] | None = None,
    ) -> Any:
        """The body as a JSON value; raises `Invalid` or `TooLarge`."""
        return loads(read_bounded(stream, parser_context))


class FormParser(parsers.FormParser):
    """`application/x-www-form-urlencoded`, bounded; NUL is refused."""

    def parse(  # type: ignore[override]  # the stub knows neither QueryDict nor bytes
        self,
        stream: IO[Any],
        media_type: str | None = None,  # noqa: ARG002
        parser_context: Mapping[str, Any] | None = None,
    ) -> QueryDict:
        """The fields of the form; raises `Invalid` or `TooLarge`."""
        form = QueryDict(read_bounded(stream, parser_context), encoding="utf-8")
        for name, values in form.lists():
            if any("\0" in text for text in (name, *values)):
                raise Invalid(
                    "NUL is not allowed in text.",
                    problems=[Problem(pointer=pointer(name.replace("\0", "")), code="not_text", message="holds NUL")],
                )
        return form


class RawTextParser(parsers.BaseParser):
    """The body as bytes, bounded, for formats that another floor reads: set `media_type` in a subclass."""

    media_type: ClassVar[str]  # type: ignore[misc]

    def parse(  # type: ignore[override]  # the stub knows neither QueryDict nor bytes
        self,
        stream: IO[Any],
        media_type: str | None = None,  # noqa: ARG002
        parser_context: Mapping[str, Any] | None = None,
    ) -> bytes:
        """The bytes as sent; raises `TooLarge`."""
        return read_bounded(stream, parser_context)
