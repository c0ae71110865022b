"""What a command that ended leaves behind: outputs from its standard output, or an error from how it ended."""

import json
import signal
from collections import deque
from collections.abc import Mapping
from typing import Any

from apps.executors.outputs import Unrecordable, checked_outputs, clean_text, decode
from apps.executors.types import StepError

OWN_KEYS = frozenset({"stdout", "exit_code", "stdout_truncated"})
MESSAGE_CHARACTERS = 500
LAST_CHARACTERS = 8192
KILLED = 128 + signal.SIGKILL


class Captured:
    """The beginning and the end of a stream, about `limit` characters of each; what is between them is let go of."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._head: list[str] = []
        self._room = limit
        self._tail: deque[str] = deque()
        self._tail_size = 0
        self._gap = False

    def add(self, text: str) -> None:
        """Append what was read."""
        if self._room > 0:
            self._head.append(text[: self._room])
        rest = text[self._room :]
        self._room -= len(text) - len(rest)
        if rest:
            self._tail.append(rest)
            self._tail_size += len(rest)
        while self._tail and self._tail_size - len(self._tail[0]) > self._limit:
            self._tail_size -= len(self._tail.popleft())
            self._gap = True

    @property
    def truncated(self) -> bool:
        """Whether there was more than its beginning."""
        return bool(self._tail)

    @property
    def text(self) -> str:
        """The beginning, without what cannot be stored."""
        return clean_text("".join(self._head))

    def last_line(self) -> str:
        """The last line that is not blank; nothing where its own beginning was let go of."""
        end = "".join(self._tail) if self._gap else "".join([*self._head, *self._tail])
        _, newline, line = end.rstrip().rpartition("\n")
        return line.strip() if newline or not self._gap else ""


def outputs_of(stdout: Captured, limit: int) -> tuple[dict[str, Any], str]:
    """The outputs of a command that succeeded, at most `limit` bytes as JSON, and a remark for its log or "".

    Standard output gives way to the JSON object of its own last line where there is no room for both. Raises
    `ValueError` where there is none for the object.
    """
    found, remark = _last_object(stdout.last_line(), limit)
    outputs = {**{key: found[key] for key in found if key not in OWN_KEYS}, "stdout": "", "exit_code": 0}
    text = stdout.text
    room = limit - _size(outputs)
    if stdout.truncated or _size(text) - 2 > room:
        outputs["stdout_truncated"] = True
        text = _cut(text, limit - _size(outputs))
    return checked_outputs({**outputs, "stdout": text}, limit), remark


def error_of(returncode: int, stderr: Captured, *, out_of_memory: bool | None = None) -> StepError:
    """Why a command that ended with `returncode` (negative: the signal that killed it) failed.

    `out_of_memory`: whether memory of the host ran out meanwhile, None where that is not known.
    """
    code = returncode if returncode >= 0 else 128 - returncode
    how = f"The command ended with exit code {code}"
    if returncode < 0:
        how = f"The command was killed by {_signal_name(-returncode)} (exit code {code})"
    for_memory = code == KILLED and out_of_memory is not False
    if for_memory:
        how += ", perhaps because memory ran out"
    line = _shown(stderr.last_line())
    message = f"{how}: {line}" if line else f"{how}."
    return StepError(type="oom" if for_memory else "exit_code", message=message, exit_code=code)


def _last_object(line: str, limit: int) -> tuple[Mapping[str, Any], str]:
    if not (line.startswith("{") and line.endswith("}")):
        return {}, ""
    if len(line) > limit:
        raise Unrecordable(f"the last line of standard output is a JSON object of more than {limit:,} bytes")
    try:
        # A number may be longer in its plain form than as it was printed, and the text is its size at least.
        return checked_outputs(decode(line), 32 * limit), ""
    except Unrecordable as error:
        return {}, f"[the last line is not taken as outputs: {error}]\n"
    except ValueError:
        return {}, ""


def _size(value: Any) -> int:
    return len(json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode())


def _cut(text: str, room: int) -> str:
    """The longest beginning of `text` that takes at most `room` bytes between the quotes of a JSON text."""
    low, high = 0, min(len(text), max(room, 0))
    while low < high:
        middle = (low + high + 1) // 2
        if _size(text[:middle]) - 2 <= room:
            low = middle
        else:
            high = middle - 1
    return text[:low]


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _shown(line: str) -> str:
    text = "".join(letter if letter.isprintable() else " " for letter in line).strip()
    return text if len(text) <= MESSAGE_CHARACTERS else text[: MESSAGE_CHARACTERS - 1] + "…"
