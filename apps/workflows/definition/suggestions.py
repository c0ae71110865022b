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
        close = self.meant(wrong, known)
        return f"; did you mean `{close}`?" if close else ""

    def meant(self, wrong: str, known: Collection[str]) -> str | None:
        """The one of `known` that is most like `wrong`, where one is like it."""
        self._left -= len(known)
        if self._left < 0:
            return None
        return next(iter(difflib.get_close_matches(wrong[:100], known, n=1, cutoff=0.6)), None)
