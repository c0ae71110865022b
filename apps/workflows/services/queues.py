"""Queues as operators ask for them: paused, and resumed."""

from apps.core.errors import NotFound
from apps.workflows import signals
from apps.workflows.selectors import queues
from apps.workflows.services.ledger import lanes


def pause(name: str, *, paused: bool) -> None:
    """Stop or resume the claiming from a queue; what runs goes on. Asking again is fine.

    Raises `NotFound` where no lane has this name. Workers notice it within a second.
    """
    if not queues.exists(name):
        raise NotFound(f"there is no queue `{name[:64]}`: a queue is there once a saved definition names it")
    lanes.pause(name, paused=paused)
    if not paused:
        signals.announce(executions=[], closed=(), ready=True)
