"""What may be recorded as the outputs of a step: a JSON object that every reader can take back.

Imported by child processes: nothing heavy here. `checked_outputs` is the whole check; `check`, `encode` and `decode`
are its parts for those who have, or need, JSON text.
"""

import json
import math
import re
from collections.abc import Iterable
from typing import Any, Never

MAX_DEPTH = 64
_NOT_TEXT = re.compile("[\x00\ud800-\udfff]")


class Unrecordable(ValueError):
    """The outputs cannot be recorded; the message has the place, the mistake and the fix."""


def checked_outputs(value: Any, limit: int) -> dict[str, Any]:
    """`value` as plain JSON data, where it is a JSON object of at most `limit` bytes.

    Raises `Unrecordable`, a `ValueError`: for anything that is not JSON (tuples are taken as lists), NaN and
    infinities, NUL and lone surrogates in text, keys that are no text, nesting deeper than `MAX_DEPTH`, and a compact
    JSON form (UTF-8) of more than `limit` bytes.
    """
    plain = check(value, limit=limit)
    _written(plain, limit)
    return plain


def check(value: Any, *, limit: int | None = None) -> dict[str, Any]:
    """`value` as plain JSON data; of its size only that it cannot be within `limit`. Raises `Unrecordable`."""
    if not isinstance(value, dict):
        raise Unrecordable(f'outputs must be a JSON object, not {_name(value)}: return a dict, as in {{"result": …}}')
    plain: dict[str, Any] = _Check(limit).plain(value) if value else {}
    return plain


def encode(value: Any, *, limit: int) -> str:
    """`value` as compact JSON text, checked as by `checked_outputs`. Raises `Unrecordable`."""
    return _written(check(value, limit=limit), limit)


def decode(text: str) -> Any:
    """The value of a JSON text. Raises `ValueError` for text that is none, NaN, and nesting without end."""
    try:
        return json.loads(text, parse_constant=_no_constant)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def clean_text(text: str) -> str:
    """`text` without what a database refuses: NUL is removed, half of a surrogate pair becomes `?`."""
    if text.isascii():
        return text.replace("\x00", "") if "\x00" in text else text
    return text.replace("\x00", "").encode("utf-8", "replace").decode()


def _written(plain: dict[str, Any], limit: int) -> str:
    try:
        text = json.dumps(plain, ensure_ascii=False, separators=(",", ":"))
    except ValueError as error:  # a whole number of more digits than Python writes
        raise Unrecordable(f"outputs cannot be written as JSON ({error}): pass such numbers on as text") from None
    size = len(text) if text.isascii() else len(text.encode())
    if size > limit:
        raise _too_large(limit, f"are {size:,} bytes as JSON")
    return text


class _Check:
    """One walk through the outputs. It ends early where they are too large: shared values may unfold without end."""

    def __init__(self, limit: int | None) -> None:
        self._limit = limit or 0
        self._left = math.inf if limit is None else limit
        self._path: list[str] = []

    def plain(self, value: Any) -> Any:
        """`value` as the plain types of JSON."""
        self._spend(1)
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, str):
            return self._text(value)
        if isinstance(value, int):
            return int(value)
        if isinstance(value, float):
            if not math.isfinite(value):
                raise Unrecordable(f"{self._where()} is {value}, which JSON cannot hold: use null or leave it out")
            return float(value)
        if isinstance(value, dict):
            return dict(self._entries(value))
        if isinstance(value, list | tuple):
            return list(self._items(value))
        fix = "turn it into text, numbers, lists or dicts"
        raise Unrecordable(f"{self._where()} is {_name(value)}, which JSON cannot hold: {fix}")

    def _entries(self, value: dict[Any, Any]) -> Iterable[tuple[str, Any]]:
        self._deeper()
        for key, item in value.items():
            if not isinstance(key, str):
                message = f"{self._where()} has the key {_short(repr(key))}, which is no text: make it str(…)"
                raise Unrecordable(message)
            self._path.append(f".{key[:50]}")
            yield self._text(key, "the key "), self.plain(item)
            self._path.pop()

    def _items(self, value: Iterable[Any]) -> Iterable[Any]:
        self._deeper()
        for number, item in enumerate(value):
            self._path.append(f"[{number}]")
            yield self.plain(item)
            self._path.pop()

    def _deeper(self) -> None:
        if len(self._path) >= MAX_DEPTH:
            raise Unrecordable(f"outputs are nested deeper than {MAX_DEPTH} levels: make them flatter")

    def _text(self, value: str, what: str = "") -> str:
        self._spend(len(value))
        if found := _NOT_TEXT.search(value):
            bad = "a NUL character" if found.group() == "\x00" else "half of a surrogate pair"
            at = f"(character {found.start() + 1})"
            raise Unrecordable(f"{what}{self._where()} holds {bad} {at}, which cannot be stored: remove it")
        return str(value)

    def _spend(self, count: int) -> None:
        self._left -= count
        if self._left < 0:
            raise _too_large(self._limit, "are larger")

    def _where(self) -> str:
        return _short("outputs" + "".join(self._path))


def _too_large(limit: int, how: str) -> Unrecordable:
    fix = "store the data elsewhere (a file, an object store) and return where it is"
    return Unrecordable(f"outputs {how}, and {limit:,} bytes are allowed: {fix}")


def _short(text: str) -> str:
    """`text` fit for a message, whatever a hostile key put into it."""
    shown = "".join(character if character.isprintable() else "�" for character in text[:201])
    return shown if len(shown) <= 200 else shown[:199] + "…"


def _no_constant(name: str) -> Never:
    raise ValueError(f"{name} is not JSON")


def _name(value: Any) -> str:
    names: dict[type, str] = {str: "text", bool: "a boolean", int: "a number", float: "a number"}
    names |= {list: "a list", tuple: "a list"}
    return "null" if value is None else names.get(type(value), f"a value of type {type(value).__name__}")
