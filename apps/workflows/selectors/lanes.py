"""Which lanes a performer serves: the same answer for its claims and for whoever asks why nobody takes a task."""

from collections.abc import Collection, Iterable, Mapping
from typing import Any, Literal

from apps.workflows.engine.labels import parse
from apps.workflows.models import Lane

Standing = Literal["first", "later"]


def standing(lane: Lane, queues: Collection[str] | None, own: Mapping[str, Any]) -> Standing | None:
    """How a performer of `queues` (None: all) with the labels `own` serves a lane that is not paused.

    `later` where it lacks what the lane's steps prefer; None where it does not serve it.
    """
    if (queues is not None and lane.queue not in queues) or not holds(lane.requires, own):
        return None
    return "first" if holds(lane.prefers, own) else "later"


def holds(requirements: Iterable[str], own: Mapping[str, Any]) -> bool:
    """Whether labels meet all requirements."""
    return not unmet(requirements, own)


def unmet(requirements: Iterable[str], own: Mapping[str, Any]) -> list[str]:
    """The requirements that labels do not meet."""
    return [text for text in requirements if not parse(text).holds(own)]
