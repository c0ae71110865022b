"""Terminal colours as classes: text with ANSI sequences becomes pieces that a template writes, escaped as any text."""

import re
from collections.abc import Iterator
from typing import NamedTuple

MOST_LETTERS = 100_000

_SEQUENCE = re.compile(
    r"\x1b\[([0-9;:]{0,40})m"  # a colour
    r"|\x1b\[[0-?]{0,40}[ -/]{0,8}[@-~]"  # another control sequence
    r"|\x1b\][^\x07\x1b]{0,4096}(?:\x07|\x1b\\)"  # titles, links
    r"|\x1b[@-Z\\^_=>78cDEHMNO]?"
)
_NOT_SHOWN = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
_COLOURS = ("black", "red", "green", "yellow", "blue", "magenta", "cyan", "white")


class Piece(NamedTuple):
    """Text in one look; `classes` are from a short closed list."""

    text: str
    classes: str


def pieces(text: str) -> Iterator[Piece]:
    """`text` cut where its look changes. What moves a cursor is left out, and what reverses or hides text."""
    looks: dict[str, str] = {}
    at = 0
    for found in _SEQUENCE.finditer(text):
        if found.start() > at:
            yield _piece(text[at : found.start()], looks)
        at = found.end()
        if found[1] is not None:
            looks = _after(looks, found[1])
    if at < len(text):
        yield _piece(text[at:], looks)


def _piece(text: str, looks: dict[str, str]) -> Piece:
    shown = _NOT_SHOWN.sub("", text.replace("\r\n", "\n").replace("\r", "\n"))
    return Piece(text=shown, classes=" ".join(looks[key] for key in sorted(looks)))


def _after(looks: dict[str, str], codes: str) -> dict[str, str]:
    numbers = [int(code) if code.isdigit() and len(code) < 4 else 0 for code in re.split("[;:]", codes)]
    new = dict(looks)
    while numbers:
        code = numbers.pop(0)
        if code == 0:
            new = {}
        elif code in (1, 3, 4):
            new[str(code)] = {1: "a-bold", 3: "a-italic", 4: "a-underline"}[code]
        elif code in (22, 23, 24):
            new.pop({22: "1", 23: "3", 24: "4"}[code], None)
        elif 30 <= code <= 37 or 90 <= code <= 97:
            new["colour"] = f"a-{_COLOURS[code % 10]}"
        elif code == 39:
            new.pop("colour", None)
        elif code in (38, 48):  # of 256 colours or of all: its numbers follow, and are left out
            del numbers[: 2 if numbers[:1] == [5] else 4]
    return new
