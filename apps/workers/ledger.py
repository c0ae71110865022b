"""The thread of a worker that talks to the database: reports, claims, heartbeats and the reaper, one at a time.

It is the only one of its process that does, so reports gather while a commit is under way, and neither a blocked
event loop nor a long step ever starves a heartbeat.
"""

import logging
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from uuid import UUID

from django.db import Error, connection

from apps.core.clock import carried_now
from apps.workflows.engine.types import Progressed, Reject
from apps.workflows.services import leases
from apps.workflows.services.ledger import ClaimedTask, Report, Turn, Wanted, sql, turn
from apps.workflows.services.ledger.memory import memory

logger = logging.getLogger(__name__)

EXIT_SOFTWARE = 70  # sysexits.h: an internal error
POLL_SECONDS = 1.0  # how long a lost doorbell may go unnoticed
MAX_BACKOFF_SECONDS = 2.0
BEATS_A_LEASE = 3
MOST_SECONDS_BETWEEN_SWEEPS = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How a worker presents itself. Times are in seconds."""

    name: str
    slots: int
    lease_seconds: float
    queues: tuple[str, ...] | None = None
    labels: Mapping[str, Any] = field(default_factory=dict)


class Ledger(threading.Thread):
    """Its callbacks are called on this thread: `on_claimed` with tasks to perform, `on_stop` with (cancelled, lost)."""

    def __init__(
        self,
        settings: Settings,
        *,
        on_claimed: Callable[[Sequence[ClaimedTask]], None],
        on_stop: Callable[[Sequence[UUID], Sequence[UUID]], None],
    ) -> None:
        super().__init__(name="ledger", daemon=True)
        self._settings = settings
        self._on_claimed, self._on_stop = on_claimed, on_stop
        self._wake = threading.Condition()
        self._reports: list[Report] = []
        self._look = True
        self._beat_now = True
        self._claiming = True
        self._ending = self._ended = False
        self._held: dict[UUID, int] = {}
        self._beat_at = self._reap_at = self._poll_at = self._wake_at = time.monotonic()
        self._backoff = 0.0
        self._unsure = False  # the answer to a claim may have been lost
        self.claims_no_more = threading.Event()

    # -- called from the event loop ----------------------------------------------------------------------------------

    def report(self, report: Report) -> None:
        """Hand in what happened to a task; it is recorded with the next commit."""
        with self._wake:
            self._reports.append(report)
            self._wake.notify()

    def ring(self, *, stop: bool = False) -> None:
        """There may be work; with `stop`, some of what is held may have been cancelled."""
        with self._wake:
            self._look = True
            self._beat_now = self._beat_now or stop
            self._wake.notify()

    def claim_no_more(self) -> None:
        """Drain: take nothing new. `claims_no_more` is set when a claim that is under way has been told of."""
        with self._wake:
            self._claiming = False
            self._beat_now = True
            self._wake.notify()

    def end(self) -> None:
        """Record what was handed in, give up the presence, and end the thread."""
        with self._wake:
            self._ending = True
            self._wake.notify()

    # -- the thread --------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Until `end`."""
        while not self._ended:
            reports: list[Report] = []
            try:
                # Where others write first, what is reported meanwhile goes with this turn, too.
                with sql.in_line() if self._wait() else nullcontext():
                    reports, look, beat = self._take()
                    self._act(reports, look=look, beat=beat)
                self._backoff = 0.0
            except Error as error:
                self._put_back(reports, error)
            except BaseException:
                # A worker that can no longer record is a zombie: it ends, its parent frees its steps at once.
                logger.exception("the ledger failed; this worker ends")
                os._exit(EXIT_SOFTWARE)

    def _wait(self) -> bool:
        """Wait until there is something to do; gives whether there are reports."""
        with self._wake:
            while True:
                now = time.monotonic()
                if not self._claiming:
                    self.claims_no_more.set()
                chores_at = min(self._reap_at, self._wake_at)
                beat = self._beat_now or now >= self._beat_at
                if self._reports or self._may_look() or beat or self._ending or now >= chores_at:
                    return bool(self._reports)
                self._wake.wait(max(0.0, min(self._beat_at, chores_at) - now))

    def _may_look(self) -> bool:
        return self._look and self._claiming and len(self._held) < self._settings.slots

    def _take(self) -> tuple[list[Report], bool, bool]:
        """What there is to do: reports, whether to look for work, whether to say that it lives."""
        with self._wake:
            reports, self._reports = self._reports, []
            look, beat = self._may_look(), self._beat_now or time.monotonic() >= self._beat_at
            if look:
                self._look = False
            self._beat_now = False
            return reports, look, beat

    def _act(self, reports: list[Report], *, look: bool, beat: bool) -> None:
        if self._unsure:
            leases.give_back_unknown(self._settings.name, self._held)
            self._unsure = False
        if beat:
            self._beat()
        if reports or look:
            self._turn(reports, look=look)
        if time.monotonic() >= self._wake_at:
            self._act_on_timers()
        if time.monotonic() >= self._reap_at:
            self._reap()
        if self._ending and not self._reports:
            leases.leave(self._settings.name)
            connection.close()
            self._ended = True

    def _turn(self, reports: list[Report], *, look: bool) -> None:
        ended = [report.task_id for report in reports if not isinstance(report.happening, Progressed)]
        slots = self._settings.slots - len(self._held) + len(ended) if self._claiming else 0
        wanted = Wanted(
            owner=self._settings.name,
            slots=slots,
            lease_seconds=self._settings.lease_seconds,
            queues=self._settings.queues,
            labels=self._settings.labels,
            idle=len(self._held) == len(ended),
            look=look or self._look,
        )
        result = turn(reports, wanted)
        if result.due_at is not None:
            self._wake_at = min(self._wake_at, time.monotonic() + _seconds(result.due_at - carried_now()))
        for task in ended:
            self._held.pop(task, None)
        self._held.update((task.task_id, task.fence) for task in result.claimed)
        if result.claimed:
            self._on_claimed(result.claimed)
        self._tell_lost(reports, result)
        if result.more or not result.looked:
            self._look = True
        if not reports and not result.claimed:
            self._wake_at = time.monotonic()  # what there was comes in a moment, or is gone

    def _tell_lost(self, reports: Sequence[Report], result: Turn) -> None:
        lost = [
            report.task_id for report, answer in zip(reports, result.answers, strict=True) if isinstance(answer, Reject)
        ]
        if lost:
            for task in lost:
                self._held.pop(task, None)
            self._on_stop((), lost)

    def _act_on_timers(self) -> None:
        """Act on what is due by the database's clock, look at the line where there is something, find the next time.

        That is the next moment which is known of, or a poll: a doorbell may have been lost.
        """
        ready_at, due_at = leases.next_moments()
        now = carried_now()
        if due_at is not None and due_at <= now:
            woken = leases.wake(now)
            ready_at, due_at = leases.next_moments()
            if due_at is not None and due_at <= now and woken < leases.REAP_AT_ONCE:
                due_at = None  # what is left cannot be acted on: it is looked at with the next poll, not at once
        polled = time.monotonic()
        pause = POLL_SECONDS if due_at is None else min(POLL_SECONDS, _seconds(due_at - now))
        if ready_at is not None:
            seconds = _seconds(ready_at - now)
            if seconds > 0:
                pause = min(pause, seconds)
                self._poll_at = min(self._poll_at, polled + seconds)
            elif polled >= self._poll_at:
                # It may be for others only, by its lane: it is looked at once in a while, not again and again.
                self._look = True
                self._poll_at = polled + POLL_SECONDS
        self._wake_at = polled + pause

    def _beat(self) -> None:
        settings = self._settings
        answer = leases.beat(
            owner=settings.name,
            kind="worker",
            slots=settings.slots,
            held=tuple(self._held.items()),
            lease_seconds=settings.lease_seconds,
            draining=not self._claiming,
            labels=settings.labels,
            queues=settings.queues,
        )
        self._beat_at = time.monotonic() + settings.lease_seconds / BEATS_A_LEASE
        for task in answer.lost:
            self._held.pop(task, None)
        if answer.cancel or answer.lost:
            self._on_stop(answer.cancel, answer.lost)

    def _reap(self) -> None:
        leases.reap()
        seconds = min(MOST_SECONDS_BETWEEN_SWEEPS, self._settings.lease_seconds / BEATS_A_LEASE)
        self._reap_at = time.monotonic() + seconds

    def _put_back(self, reports: list[Report], error: Error) -> None:
        """The database is out of reach, or the answer to a commit was lost: say it once and try the same again.

        A report that was recorded after all is told as a repetition.
        """
        if not self._backoff:
            logger.warning("the database does not answer, trying again: %s", type(error).__name__)
        self._backoff = min(MAX_BACKOFF_SECONDS, max(0.05, self._backoff * 2))
        connection.close()
        memory.forget()
        self._unsure = True
        with self._wake:
            self._reports[:0] = reports
            self._look = True
        time.sleep(self._backoff)


def _seconds(span: timedelta) -> float:
    return max(0.0, span.total_seconds())
