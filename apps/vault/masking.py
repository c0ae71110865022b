"""Masks secrets in what steps write and return: in every form that programs commonly give them. Pure.

`Masking` knows the forms; a `Stream` masks text that arrives in pieces, wherever it was cut.
"""

import base64
import json
import re
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import quote, quote_plus

MASK = "***"
SHORTEST = 6
"""Characters: a secret that is shorter would hide common words."""

LEAST_FORM = 5
PART = 12
"""Of a form of `LONG` characters or more its first twelve are masked already, and whatever follows as in the form."""

LONG = 18
LEAST_CUT = 4
"""Where a text was cut, a beginning of a secret at its end is masked from so many characters on."""

_COLUMNS = (64, 76)  # where `openssl base64` and `base64` break lines


def forms_of(secret: str) -> frozenset[str]:
    """How a secret may be written: plain, escaped for JSON (once and twice), for Python, for URLs, and in base64.

    Of one with several lines each line counts by itself too. Base64 is found at any offset, as in
    `base64("user:" + secret)`: there are three ways to fall on its groups of three bytes.
    """
    pieces = {secret, secret.strip()}
    if len(lines := secret.splitlines()) > 1:
        pieces |= {line.strip() for line in lines if len(line.strip()) >= SHORTEST}
    found: set[str] = set()
    for piece in pieces:
        found |= _escaped(piece)
    for encoded in _base64(secret.encode("utf-8", "surrogatepass")):
        found |= {encoded, quote(encoded, safe=""), encoded.replace("/", "\\/")}
    return frozenset(form for form in found if len(form) >= LEAST_FORM)


def _escaped(text: str) -> set[str]:
    raw = text.encode("utf-8", "surrogatepass")
    urls = {quote(raw, safe=""), quote(raw, safe="/"), quote(raw, safe=":/?&=@,;+$!*'()"), quote_plus(raw)}
    urls |= {re.sub("%[0-9A-F]{2}", lambda found: found[0].lower(), url) for url in urls}
    jsons = {json.dumps(text)[1:-1], json.dumps(text, ensure_ascii=False)[1:-1]}
    jsons |= {one.replace("/", "\\/") for one in jsons}
    jsons |= {_for_html(one, letters) for one in jsons for letters in ("<>&", "<>&'")}
    jsons |= {re.sub(r"\\u[0-9a-f]{4}", lambda found: "\\u" + found[0][2:].upper(), one) for one in jsons}
    jsons |= {json.dumps(one)[1:-1] for one in jsons}
    return {text, repr(text)[1:-1], *urls, *jsons}


def _for_html(text: str, letters: str) -> str:
    """As Go and others write JSON: fit to stand in HTML."""
    for letter in letters:
        text = text.replace(letter, f"\\u{ord(letter):04x}")
    return text


def _base64(raw: bytes) -> set[str]:
    found: set[str] = set()
    for before in range(3):
        whole = base64.b64encode(bytes(before) + raw).decode()
        # The letters that these bytes alone decide, whatever stands before and behind them.
        inner = whole[-(-8 * before // 6) : 8 * (before + len(raw)) // 6]
        found |= {inner, inner.replace("+", "-").replace("/", "_")}
        if not before:
            for width in _COLUMNS:
                found |= {inner[at : at + width] for at in range(0, len(inner), width)} if len(inner) > width else set()
    return found


class Masking:
    """The forms of some secrets, ready to be looked for."""

    def __init__(self, secrets: Iterable[str]) -> None:
        forms: set[str] = set()
        for secret in secrets:
            forms |= forms_of(secret)
        self.forms = sorted(forms, key=lambda form: (-len(form), form))
        self._by_key: dict[str, list[str]] = {}
        for form in self.forms:
            self._by_key.setdefault(form[:PART] if len(form) >= LONG else form, []).append(form)
        self._keys = sorted(self._by_key, key=lambda key: (-len(key), key))
        self._search = re.compile("|".join(map(re.escape, self._keys)) if self._keys else r"(?!)")
        self._first: dict[str, list[str]] = {}
        for key in self._keys:
            self._first.setdefault(key[0], []).append(key)
        self._longest_key = max(map(len, self._keys), default=0)

    def text(self, text: str) -> str:
        """`text` masked, as a whole; one that ends in `…` was cut there."""
        if not text:
            return text
        stream = Stream(self)
        cut = text.endswith("…")
        return stream.feed(text[:-1] if cut else text) + stream.close() + ("…" if cut else "")

    def value(self, value: Any) -> Any:
        """A JSON value with every text in it masked, keys of objects too; a number that holds a secret is one."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, Mapping):
            return {self.text(str(key)): self.value(inner) for key, inner in value.items()}
        if isinstance(value, list | tuple):
            return [self.value(inner) for inner in value]
        if isinstance(value, int | float) and not isinstance(value, bool):
            return MASK if self._search.search(json.dumps(value)) else value
        return value

    # -- for streams -------------------------------------------------------------------------------------------------

    def find(self, text: str, start: int) -> int:
        """Where the first form begins, from `start` on; the length of `text` where none does."""
        found = self._search.search(text, start)
        return found.start() if found else len(text)

    def unsure(self, text: str, start: int, least: int = 1) -> int:
        """From where on `text` may be the beginning of a form of which more is to come: its length if nowhere."""
        size = len(text)
        for at in range(max(start, size - self._longest_key + 1), size - least + 1):
            for key in self._first.get(text[at], ()):
                if len(key) > size - at and key.startswith(text[at:]):
                    return at
        return size

    def at(self, text: str, start: int) -> list[str]:
        """The forms of which enough stands at `start`."""
        keys = (key for key in self._first.get(text[start], ()) if text.startswith(key, start))
        return [form for key in keys for form in self._by_key[key]]


class Stream:
    """Masks one stream of text. Of it at most `LONG` - 2 characters are held back, until it is known what they are.

    How the text is cut into pieces makes no difference: `feed(a) + feed(b) + close()` is `feed(a + b) + close()`.
    """

    def __init__(self, masking: Masking) -> None:
        self._masking = masking
        self._held = ""
        self._inside: list[str] = []  # what is still to come of the forms that the text is in the middle of

    def feed(self, text: str) -> str:
        """What may be shown by now."""
        text = self._held + text
        out, at = self._go_on(text)
        if self._inside:
            self._held = ""
            return "".join(out)
        unsure = self._masking.unsure(text, at)
        self._held = text[unsure:]
        return "".join([*out, text[at:unsure]])

    def close(self) -> str:
        """The rest: it ends here. What may be the beginning of a secret is masked, if it is long enough."""
        self._inside = []
        text, self._held = self._held, ""
        out, at = self._go_on(text, ended=True)
        cut = self._masking.unsure(text, at, LEAST_CUT)
        return "".join([*out, text[at:cut], MASK if cut < len(text) and not self._inside else ""])

    def _go_on(self, text: str, *, ended: bool = False) -> tuple[list[str], int]:
        """(What may be shown, from where on nothing has been decided)."""
        out: list[str] = []
        at = self._swallow(text, 0)
        while at < len(text) and not self._inside:
            start = self._masking.find(text, at)
            if start == len(text) or (not ended and start >= self._masking.unsure(text, at)):
                break
            out += [text[at:start], MASK]
            self._inside = self._masking.at(text, start)
            at = self._swallow(text, start)
        return out, at

    def _swallow(self, text: str, start: int) -> int:
        """Pass over the longest form from `start` on; those that go on behind the end of `text` stay inside."""
        if not self._inside or start == len(text):
            return start
        best, on = 0, []
        for form in self._inside:
            length = _common(form, text, start)
            best = max(best, length)
            if start + length == len(text) and length < len(form):
                on.append(form[length:])
        self._inside = on
        return start + best


def _common(form: str, text: str, start: int) -> int:
    """How many characters of `form` stand at `start`."""
    low, high = 0, min(len(form), len(text) - start)
    if text.startswith(form[:high], start):
        return high
    while low < high:
        middle = (low + high + 1) // 2
        if text.startswith(form[:middle], start):
            low = middle
        else:
            high = middle - 1
    return low
