"""The one door for news going up: sent after commit. A receiver may observe, never decide.

`committed` carries what ended (`closed`: a tuple of `Closed`). The doorbells `events` (with execution ids) and
`ready` ring for the other processes.
"""

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from django.db import transaction
from django.dispatch import Signal

from apps.core import bell

logger = logging.getLogger(__name__)

committed = Signal()


@dataclass(frozen=True, slots=True, kw_only=True)
class Closed:
    """An execution that has ended; its parent, where a step of another started it; the span of a request that did."""

    execution_id: UUID
    workflow_slug: str
    trace_id: str
    status: str
    started_at: datetime | None
    finished_at: datetime
    parent_execution_id: UUID | None = None
    trace_parent: str = ""


def announce(
    *, executions: Iterable[UUID], closed: tuple[Closed, ...] = (), ready: bool = False, stop: bool = False
) -> None:
    """Once this transaction is committed, tell that these journals grew, what ended, and whether there is work.

    `stop` asks performers to look at once which of their tasks are to be stopped.
    """
    ids = tuple(identity.hex for identity in executions)

    def send() -> None:
        bell.ring("events", ids)
        if ready or stop:
            bell.ring("work", ids if stop else ())
        if closed:
            for receiver, answer in committed.send_robust(sender=None, closed=closed):
                if isinstance(answer, Exception):
                    logger.error("receiver %r failed", receiver, exc_info=answer)

    transaction.on_commit(send)
