"""Outputs that are too large for a row are spilled into artifacts, and read from there where a step is given them.

What performs the step does both: a worker, or for an agent the server.
"""

import json
from collections.abc import Mapping
from io import BytesIO
from typing import Any
from uuid import UUID

from apps.core.errors import PlatformError, TooLarge
from apps.executors.outputs import clean_text
from apps.vault import blobs
from apps.workflows.services import artifacts

SMALLEST_SPILLED = 1024  # bytes: a reference is not much smaller than less
NEARLY_NOTHING = 200  # values in outputs that are small without being written out
MARK = b'"spilled_to"'
_REFERENCE = frozenset({"spilled_to", "size", "content_type"})


def refers(value: Any) -> bool:
    """Whether there is a reference to a spilled output in `value`."""
    pending = [value]
    while pending:
        one = pending.pop()
        if isinstance(one, dict):
            if one.keys() == _REFERENCE:
                return True
            pending += one.values()
        elif isinstance(one, list | tuple):
            pending += one
    return False


class Filling:
    """Puts spilled outputs in the place of references to them, for one attempt, up to so many bytes together."""

    def __init__(self, execution: UUID, most: int) -> None:
        self._execution, self._most, self._left = execution, most, most

    def filled(self, value: Any) -> Any:
        """`value` with every reference replaced. Raises `PlatformError`; `OSError` where the storage fails."""
        if isinstance(value, Mapping):
            if value.keys() == _REFERENCE:
                return self._value(value)
            return {key: self.filled(inner) for key, inner in value.items()}
        return [self.filled(inner) for inner in value] if isinstance(value, list | tuple) else value

    def _value(self, reference: Mapping[str, Any]) -> Any:
        row = artifacts.spilled(self._execution, str(reference["spilled_to"]))
        if row is None:
            raise PlatformError("an output that was spilled is not there any more: its execution was deleted")
        # The reference says a size as well, but a step may have written it.
        self._left -= row.size
        if self._left < 0:
            raise PlatformError(f"it is given more than {self._most:,} bytes of outputs")
        try:
            text = b"".join(blobs.read(row.blob_id, 0, row.size)).decode()
            return json.loads(text) if row.content_type == "application/json" else text
        except ValueError as error:
            raise OSError(f"what is stored of {row.name} is not what was kept") from error


def spill(outputs: Mapping[str, Any], inline: int) -> tuple[Mapping[str, Any], list[artifacts.Left]]:
    """Outputs that take at most `inline` bytes as JSON, and what had to go for that: the largest values first.

    Raises `TooLarge`.
    """
    if is_small(outputs, inline):
        return outputs, []
    written = {key: json.dumps(value, ensure_ascii=False, separators=(",", ":")) for key, value in outputs.items()}
    sizes = {key: len(text.encode()) for key, text in written.items()}
    total = sum(len(json.dumps(key)) + size + 2 for key, size in sizes.items())
    small, spilled = dict(outputs), []
    for key in sorted(sizes, key=lambda key: -sizes[key]):
        if total <= inline or sizes[key] < SMALLEST_SPILLED:
            break
        is_text = isinstance(outputs[key], str)
        source = BytesIO((outputs[key] if is_text else written[key]).encode())
        digest, size = blobs.measure(source)
        kind = "text/plain; charset=utf-8" if is_text else "application/json"
        name = f"outputs/{clean_text(key)[:200].replace('/', '_')}.{'txt' if is_text else 'json'}"
        spilled.append(artifacts.Left(name=name, source=source, size=size, content_type=kind, spilled=True))
        small[key] = {"spilled_to": digest, "size": size, "content_type": kind}
        total -= sizes[key] - len(json.dumps(small[key]))
    if total > inline:
        raise TooLarge(f"its outputs are {total:,} bytes in many small values: return fewer, or leave a file")
    return small, spilled


def is_small(outputs: Any, limit: int) -> bool:
    """Whether `outputs` are within `limit` bytes as JSON; of few and short values it is known without writing them."""
    values, characters, pending = 0, 0, [outputs]
    while pending:
        value = pending.pop()
        values += 1
        if isinstance(value, str):
            characters += len(value)
        elif isinstance(value, Mapping):
            pending += value.values()
            characters += sum(map(len, value))
        elif isinstance(value, list | tuple):
            pending += value
        if values + len(pending) > NEARLY_NOTHING or 6 * characters > limit:
            return len(json.dumps(outputs, ensure_ascii=False, separators=(",", ":")).encode()) <= limit
    return True
