"""What has to be seen to now and then, by whichever worker comes first: schedules, notifications, pruning.

A thread of its own: sending a notification may take seconds, and no step and no heartbeat waits for it.
"""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from django.db import DatabaseError, connection

from apps.core.clock import database_now
from apps.workflows.services import schedules

logger = logging.getLogger(__name__)

LOOK_SECONDS = 1.0
MAX_PAUSE_SECONDS = 60.0


@dataclass(slots=True)
class _Duty:
    """Something to be done at least every `seconds`; what it gives is when there is more to do."""

    name: str
    act: Callable[[], datetime | None]
    seconds: float
    due: float = 0.0
    pause: float = 0.0


class Keeper(threading.Thread):
    """Sees to its duties until `end`. One that fails is tried again, later and later, and holds up no other."""

    def __init__(self) -> None:
        super().__init__(name="keeper", daemon=True)
        self._ending = threading.Event()
        self._duties = [_Duty("schedules", schedules.fire_due, LOOK_SECONDS)]

    def end(self) -> None:
        """End the thread after what it is doing."""
        self._ending.set()

    def run(self) -> None:
        """Until `end`."""
        while not self._ending.is_set():
            for duty in self._duties:
                if time.monotonic() >= duty.due and not self._ending.is_set():
                    self._see_to(duty)
            soonest = min(duty.due for duty in self._duties)
            self._ending.wait(max(0.05, soonest - time.monotonic()))
        connection.close()

    def _see_to(self, duty: _Duty) -> None:
        try:
            following = duty.act()
            seconds = duty.seconds
            if following is not None:
                seconds = min(seconds, max(0.1, (following - database_now()).total_seconds()))
            duty.pause = 0.0
        except Exception as error:
            if not duty.pause:
                known = isinstance(error, DatabaseError)
                logger.warning("%s: not done, trying again: %s", duty.name, type(error).__name__, exc_info=not known)
            duty.pause = seconds = min(MAX_PAUSE_SECONDS, max(LOOK_SECONDS, duty.pause * 2))
            connection.close()
        duty.due = time.monotonic() + seconds
