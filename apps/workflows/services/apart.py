"""Work that is done for all executions at once, where one of them goes wrong: it keeps no other waiting.

A row that cannot be read, or that the database refuses to have written, would else end every sweep of every process
at the same place.
"""

import logging
from collections.abc import Callable, Sequence
from typing import TypeVar

from django.db import InterfaceError, OperationalError

logger = logging.getLogger(__name__)

One = TypeVar("One")


def together_or_apart(act: Callable[[Sequence[One]], object], ones: Sequence[One]) -> None:
    """Act on all of them; where that fails, on each alone, and leave those out with which it fails again.

    Each call of `act` is a transaction of its own. Raises what the database raises when it is out of reach.
    """
    if not ones:
        return
    try:
        act(ones)
    except (OperationalError, InterfaceError):
        raise
    except Exception:
        if len(ones) == 1:
            logger.exception("what is due for %s cannot be done; others are not kept waiting", ones[0])
            return
        for one in ones:
            together_or_apart(act, [one])


def each_apart(act: Callable[[One], object], ones: Sequence[One]) -> None:
    """Act on one after the other, and leave those out with which it fails. Raises as `together_or_apart` does."""
    for one in ones:
        together_or_apart(lambda some: act(some[0]), [one])
