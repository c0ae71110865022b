"""What follows from what happened: a pure function over a neighbourhood, the only place that moves a status.

No clock, no chance, no I/O: `now` is an argument, and the jitter of a retry is drawn from the task's own numbers.
"""

from datetime import datetime

from apps.workflows.engine.decide import attempts, opening, stopping, waiting
from apps.workflows.engine.decide.opening import begin
from apps.workflows.engine.types import Decision, Happening, Snapshot

__all__ = ["begin", "decide"]

_RULES = {**attempts.RULES, **opening.RULES, **waiting.RULES, **stopping.RULES}


def decide(snapshot: Snapshot, happening: Happening, now: datetime) -> Decision:
    """The consequences of `happening`, or why it has none."""
    return _RULES[type(happening)](snapshot, happening, now)
