"""Which regular expressions an input's schema may hold: those that cannot keep the server busy.

Python's engine backtracks, and it has no time limit. Refused are repeated groups that hold a repetition or a choice
(exponential), and more repetitions than a bounded number of ways to match a bounded text. This is a careful screen,
not a proof: the worst that passes costs seconds, not hours.
"""

import re

PATTERN_CHARACTERS = 256
SUBJECT_CHARACTERS = 512
WAYS = 30  # log2 of the ways in which the repetitions may share the text among them

_PART = re.compile(
    r"""\\.                                 # an escape
    |   \[\^?\]?(?:\\.|[^\]\\])*\]          # a set
    |   (?P<look>\(\?(?:<?[=!]|P=|\())      # what looks around or back
    |   (?P<open>\((?:\?(?:P<\w+>|:))?)
    |   (?P<close>\))
    |   (?P<choice>\|)
    |   (?P<repeat>[*+?]|\{(?P<low>\d*)(?P<comma>,?)(?P<high>\d*)\})[?+]?
    |   .""",
    re.VERBOSE | re.DOTALL,
)


def objection(pattern: str) -> str | None:
    """Why `pattern` is refused, or None."""
    if len(pattern) > PATTERN_CHARACTERS:
        return f"a pattern may have {PATTERN_CHARACTERS} characters"
    try:
        re.compile(pattern)
    except (re.error, RecursionError, OverflowError) as error:
        return f"the pattern cannot be read: {error}"
    if re.search(r"\\[1-9]", pattern):
        return "a pattern may not refer back to a group"
    return _repetitions_objection(pattern)


def _repetitions_objection(pattern: str) -> str | None:
    busy = [False]  # per open group: whether it holds a repetition or a choice
    closed_busy = False
    ways = 0 if pattern.startswith("^") else _ways(None)
    for part in _PART.finditer(pattern):
        if part["look"]:
            return "a pattern may not look ahead or behind"
        if part["open"]:
            busy.append(False)
        elif part["close"]:
            closed_busy = busy.pop()
            busy[-1] = busy[-1] or closed_busy
            continue
        elif part["choice"]:
            busy[-1] = True
        elif part["repeat"]:
            if closed_busy and part["repeat"] != "?":
                return "a pattern may not repeat a group that itself holds a repetition or a choice"
            busy[-1] = True
            ways += _ways(part)
        closed_busy = False
    if ways > WAYS:
        return "a pattern may hold about three open repetitions (`*`, `+`), two where it does not begin with `^`"
    return None


def _ways(part: re.Match[str] | None) -> int:
    """log2 of the lengths that a repetition can have; without one, of the places where a match can begin."""
    width = SUBJECT_CHARACTERS - 1
    if part is not None and part["repeat"][0] == "?":
        width = 1
    elif part is not None and part["repeat"][0] == "{":
        low, high = int(part["low"] or 0), int(part["high"] or SUBJECT_CHARACTERS)
        width = min(width, high - low) if part["comma"] else 0
    return width.bit_length()
