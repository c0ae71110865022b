"""What the schema knows and the engine of this version does not run: one table, so that nothing is silently ignored."""

from collections.abc import Iterator, Mapping
from typing import Any

from apps.core.errors import Problem
from apps.workflows.definition.pointers import pointer

# (where it is said, key, how it is called in the message)
NOT_AVAILABLE: tuple[tuple[str, str, str], ...] = (("step", "llm", "a step of kind `llm`"),)

_BY_PLACE: Mapping[str, Mapping[str, str]] = {
    place: {key: name for where, key, name in NOT_AVAILABLE if where == place} for place in ("definition", "step")
}


def reason(place: str, key: str) -> str | None:
    """Why `key` cannot be used at `place` (`definition`, `step`), or None where it can."""
    name = _BY_PLACE[place].get(key)
    return f"{name} is not available in this version" if name else None


def unavailable(place: str, data: Mapping[str, Any], path: tuple[str | int, ...]) -> Iterator[Problem]:
    """A problem for each key of `data`, found at `path`, that this version does not run."""
    for key in data:
        if isinstance(key, str) and data[key] is not None and (message := reason(place, key)):
            yield Problem(pointer=pointer(*path, key), code="not_available", message=message)
