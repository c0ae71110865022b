"""Text from strangers made fit for an error's message. Imported by child processes: nothing heavy here."""

import re

from apps.executors.failure import describe
from apps.executors.outputs import clean_text

MAX_CHARACTERS = 1_000

_SPACES = re.compile(r"[\t-\r\x85\u2028\u2029]+")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


def one_line(text: str) -> str:
    """`text` on one line of at most 1,000 characters, without control characters."""
    text = clean_text(_CONTROL.sub("", _SPACES.sub(" ", text[: 4 * MAX_CHARACTERS]))).strip()
    return text if len(text) <= MAX_CHARACTERS else text[: MAX_CHARACTERS - 1] + "…"


def message_of(raised: BaseException) -> str:
    """`ValueError: no such day`, whatever the exception is made of."""
    return one_line(describe(raised))
