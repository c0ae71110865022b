"""Which lanes a performer serves: the same answer for its claims and for whoever asks why nobody takes a task."""

from collections.abc import Collection, Iterable, Mapping
from typing import Any, Literal, Protocol

from apps.workflows.engine.labels import parse
from apps.workflows.models import Lane

Standing = Literal["first", "later"]


class Taker(Protocol):
    """Who takes tasks: a row of `Performer`, or what a claim says of whom it is for."""

    @property
    def kind(self) -> str:
        """`worker` or `agent`."""

    @property
    def queues(self) -> Collection[str] | None:
        """Those it serves; None: all."""

    @property
    def labels(self) -> Mapping[str, Any]:
        """Its own."""


def standing(lane: Lane, taker: Taker) -> Standing | None:
    """How `taker` serves a lane that is not paused.

    `later` where it lacks what the lane's steps prefer; None where it does not serve it.
    """
    if lane.kind != taker.kind or (taker.queues is not None and lane.queue not in taker.queues):
        return None
    if not holds(lane.requires, taker.labels):
        return None
    return "first" if holds(lane.prefers, taker.labels) else "later"


def holds(requirements: Iterable[str], own: Mapping[str, Any]) -> bool:
    """Whether labels meet all requirements."""
    return not unmet(requirements, own)


def unmet(requirements: Iterable[str], own: Mapping[str, Any]) -> list[str]:
    """The requirements that labels do not meet."""
    return [text for text in requirements if not parse(text).holds(own)]
