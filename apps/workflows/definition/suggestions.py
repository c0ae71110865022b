"""The "did you mean" of messages, bounded: comparing names is slow where there are thousands of them."""

import difflib
from collections.abc import Collection

COMPARISONS = 100_000


class Suggester:
    """Suggests names until one validation has made `COMPARISONS` of them."""

    def __init__(self) -> None:
        self._left = COMPARISONS

    def __call__(self, wrong: str, known: Collection[str]) -> str:
        """`; did you mean …?`, to be put behind a message, or nothing."""
        self._left -= len(known)
        if self._left < 0:
            return ""
        close = difflib.get_close_matches(wrong[:100], known, n=1, cutoff=0.6)
        return f"; did you mean `{close[0]}`?" if close else ""
