"""What has to be seen to now and then, by whichever worker comes first: schedules, notifications, breakers, counting
what ended, estimates, pruning.

Threads of their own: sending a notification may take seconds, and no step and no heartbeat waits for it.
"""

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from django.db import Error, connection

from apps.core.clock import carried_now, database_now
from apps.executors import Options
from apps.executors.container import caches, orphans
from apps.workflows.selectors.performing import executor_options, held, using_caches
from apps.workflows.services import breakers, counting, estimates, notifications, retention, schedules

logger = logging.getLogger(__name__)

LOOK_SECONDS = 1.0
LEAST_SECONDS = 0.1
COUNT_SECONDS = 5.0
COUNT_PAUSE_SECONDS = 0.05  # between two transactions: the tables are everybody's
PRUNE_SECONDS = 3600.0
PRUNE_BUDGET_SECONDS = 60.0
MAX_PAUSE_SECONDS = 60.0
MOST_PAUSED_SECONDS = 300.0  # learning takes a small share of the time: after much of it, it rests long
CONTAINER_SECONDS = 10.0
CACHE_SECONDS = 3600.0


@dataclass(frozen=True, slots=True)
class Duty:
    """Something to be done at least every `seconds`; what `act` gives is when there is more to do.

    It is handed the event that tells it to come to an end.
    """

    name: str
    act: Callable[[threading.Event], datetime | None]
    seconds: float
    first_after: float = 0.0


class Keeper(threading.Thread):
    """Sees to one duty until `end`; where it fails it is tried again, later and later."""

    def __init__(self, duty: Duty) -> None:
        super().__init__(name=duty.name, daemon=True)
        self._duty = duty
        self._ending = threading.Event()

    def end(self) -> None:
        """End the thread after what it is doing."""
        self._ending.set()

    def run(self) -> None:
        """Until `end`."""
        pause = 0.0
        self._ending.wait(self._duty.first_after)
        while not self._ending.is_set():
            try:
                seconds, pause = self._see_to(), 0.0
            except Exception as error:
                if not pause:
                    known = isinstance(error, Error)
                    told = "%s: not done, trying again: %s"
                    logger.warning(told, self._duty.name, type(error).__name__, exc_info=not known)
                pause = seconds = min(MAX_PAUSE_SECONDS, max(LOOK_SECONDS, pause * 2))
                connection.close()
            self._ending.wait(seconds)
        connection.close()

    def _see_to(self) -> float:
        """Do it; gives the seconds until it is to be done again."""
        following = self._duty.act(self._ending)
        if following is None:
            return self._duty.seconds
        return min(self._duty.seconds, max(LEAST_SECONDS, (following - carried_now()).total_seconds()))


def _prune() -> None:
    """What is left when the budget is spent is for the next hour, or for the next worker."""
    retention.run(database_now(), budget_seconds=PRUNE_BUDGET_SECONDS)


def _count(ending: threading.Event) -> None:
    """Until everything that ended is part of the totals; another worker may be at it."""
    while not ending.is_set() and counting.count_ended():
        ending.wait(COUNT_PAUSE_SECONDS)


def remove_orphans(options: Options) -> None:
    """Remove the containers whose attempt nobody holds any more: their workers died, or lost them.

    What an engine that does not answer keeps is for the next time.
    """
    boxes = orphans.found(options)
    if not boxes:
        return
    # Listed before it is asked who holds what: a container is made under a lease, so none of these is too new.
    live = held((box.task_key, box.attempt) for box in boxes)
    left = [box for box in boxes if (box.task_key, box.attempt) not in live]
    count = orphans.remove(options, left) if left else 0
    if count:
        logger.warning("containers: removed %d that no worker holds any more", count)


def remove_caches(options: Options) -> None:
    """Remove the caches of workflows that are no more, or were not executed for RETENTION_DAYS."""
    there = caches.found(options)
    if not there:
        return
    # Listed before it is asked who may use them: an execution that makes one is older than its cache.
    using = using_caches({cache.workflow for cache in there}, database_now())
    count = caches.remove(options, [cache for cache in there if cache.workflow not in using])
    if count:
        logger.info("containers: removed %d caches that no workflow uses", count)


def keepers() -> list[Keeper]:
    """One for each duty."""
    options = executor_options()
    containers = Duty("containers", lambda _ending: remove_orphans(options), CONTAINER_SECONDS)
    kept = Duty("caches", lambda _ending: remove_caches(options), CACHE_SECONDS, first_after=CACHE_SECONDS / 12)
    return [
        *([Keeper(containers), Keeper(kept)] if options.container_runtime == "docker" else []),
        Keeper(Duty("schedules", lambda _ending: schedules.fire_due(), LOOK_SECONDS)),
        Keeper(Duty("notifications", lambda ending: notifications.deliver_due(stopping=ending), LOOK_SECONDS)),
        Keeper(Duty("breakers", lambda _ending: breakers.sweep(), LOOK_SECONDS)),
        Keeper(Duty("counting", _count, COUNT_SECONDS)),
        Keeper(Duty("estimates", estimates.fold_due, MOST_PAUSED_SECONDS, first_after=estimates.LOOK_SECONDS)),
        Keeper(Duty("pruning", lambda _ending: _prune(), PRUNE_SECONDS, first_after=PRUNE_SECONDS / 12)),
    ]
