"""Notifications: written when an execution ends, delivered at least once.

A deliverer claims what is due in a short transaction that also moves it a minute ahead, sends outside any transaction,
and records what came of it. One that dies in between leaves its claim to be made again: the receiver may hear of an
end twice, by the same message id. `attempts` is the fencing number of a claim.
"""

import logging
from collections.abc import Collection
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from datetime import datetime, timedelta
from threading import Event
from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.db.models import F, Min, Window
from django.db.models.functions import RowNumber
from django.urls import NoReverseMatch, reverse

from apps.core.clock import carried_now, database_now
from apps.workflows.engine.graph import RetryPolicy
from apps.workflows.engine.retry import retry_delay
from apps.workflows.models import Execution, Notification, Receiver
from apps.workflows.services.sending import Address, Message, NotSent, address_of, send

logger = logging.getLogger(__name__)

THREADS = 16  # messages on their way at once
PER_RECEIVER = 2  # of which so many to one receiver: one that hangs leaves room for the others
LOOK_SECONDS = 1.0  # how long what came due meanwhile waits while something hangs
LEASE = timedelta(minutes=1)  # longer than any attempt takes
GIVE_UP_AFTER = timedelta(hours=24)
BACKOFF = RetryPolicy(delay=10.0, backoff=2.0, max_delay=3600.0, jitter=True)


def insert(execution_id: UUID, names: Collection[str], now: datetime) -> None:
    """Owe these receivers the end of this execution. To be called inside the transaction in which it ends."""
    if names:
        Notification.objects.bulk_create(
            Notification(execution_id=execution_id, receiver_name=name, next_at=now, created_at=now) for name in names
        )


def deliver_due(limit: int = 10_000, *, stopping: Event | None = None) -> datetime | None:
    """Deliver what is due, up to `limit` attempts; gives when the next one is due, None when nothing is owed.

    Any number of processes may call it at once. It blocks until nothing is due, so call it from a thread that has
    nothing else to do; once `stopping` is set it begins no attempt more and returns within some 10 seconds.
    """
    moment = _soonest()
    if moment is None or moment > carried_now():
        return moment  # asked every second, mostly in vain
    left = limit
    with ThreadPoolExecutor(THREADS, thread_name_prefix="notifications") as pool:
        under_way: dict[Future[str], _Claim] = {}
        while True:
            if stopping is not None and stopping.is_set():
                left = 0
            # A receiver with something on its way waits: so none ever holds more than its share of the threads.
            busy = {claim.receiver_name for claim in under_way.values()}
            for claim in _claim(min(left, THREADS - len(under_way)), busy=busy):
                left -= 1
                under_way[pool.submit(_attempt, claim)] = claim
            if not under_way:
                break
            for future in wait(under_way, timeout=LOOK_SECONDS, return_when=FIRST_COMPLETED).done:
                _record(under_way.pop(future), future.result())
    return _soonest()


def _soonest() -> datetime | None:
    moment: datetime | None = Notification.objects.filter(next_at__isnull=False).aggregate(at=Min("next_at"))["at"]
    return moment


def send_test(receiver: Receiver) -> str:
    """Send a test message now; gives what went wrong, empty when it was delivered."""
    now = database_now()
    try:
        send(Message(id=f"test_{now.timestamp():.6f}", type="notification.test", at=now), address_of(receiver))
    except NotSent as failure:
        return str(failure)
    return ""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Claim:
    """One attempt: `problem` is why it cannot even begin."""

    id: UUID
    attempt: int
    receiver_name: str
    created_at: datetime
    message: Message
    address: Address | None
    problem: str = ""


def _claim(limit: int, *, busy: Collection[str]) -> list[_Claim]:
    """At most `limit` that are due, at most `PER_RECEIVER` of each receiver that is not busy."""
    if limit <= 0:
        return []
    now = database_now()
    turn = Window(RowNumber(), partition_by=F("receiver_name"), order_by=(F("next_at"), F("id")))
    due = Notification.objects.filter(next_at__lte=now).exclude(receiver_name__in=busy)
    # Looked up before the transaction: where nothing is due, no writer's lock is asked for.
    ids = list(
        due.annotate(turn=turn).filter(turn__lte=PER_RECEIVER).order_by("next_at").values_list("pk", flat=True)[:limit]
    )
    if not ids:
        return []
    with transaction.atomic():
        locked = Notification.objects.select_for_update(skip_locked=True, of=("self",))
        rows = list(
            locked.filter(pk__in=ids, next_at__lte=now).select_related("execution__workflow").order_by("next_at")
        )
        mine = Notification.objects.filter(pk__in=[row.pk for row in rows])
        mine.update(next_at=now + LEASE, attempts=F("attempts") + 1)
        receivers = {one.name: one for one in Receiver.objects.filter(name__in={row.receiver_name for row in rows})}
    return [_prepared(row, receivers.get(row.receiver_name), now) for row in rows]


def _prepared(row: Notification, receiver: Receiver | None, now: datetime) -> _Claim:
    address, problem = None, f"there is no receiver `{row.receiver_name}`"
    if receiver is not None:
        try:
            address, problem = address_of(receiver), ""
        except NotSent as failure:
            problem = str(failure)
    return _Claim(
        id=row.pk,
        attempt=row.attempts + 1,
        receiver_name=row.receiver_name,
        created_at=row.created_at,
        message=_message(row, now),
        address=address,
        problem=problem,
    )


def _message(row: Notification, now: datetime) -> Message:
    execution = row.execution
    return Message(
        id=f"msg_{row.pk.hex}",
        type=f"execution.{execution.status}",
        at=now,
        workflow_id=execution.workflow.slug,
        execution_id=str(execution.pk),
        status=execution.status,
        error=execution.error,
        started_at=execution.started_at,
        finished_at=execution.finished_at,
        url=_page_of(execution),
    )


def _page_of(execution: Execution) -> str | None:
    """Its page for people; None where this installation does not know its own address, or serves no pages."""
    if not settings.ENV.PLATFORM_URL:
        return None
    try:
        return settings.ENV.PLATFORM_URL.rstrip("/") + reverse("ui-execution", args=[execution.pk])
    except NoReverseMatch:
        return None


def _attempt(claim: _Claim) -> str:
    """What went wrong, empty for success. Runs in a thread of the pool and asks the database nothing."""
    if claim.address is None:
        return claim.problem
    try:
        send(claim.message, claim.address)
    except NotSent as failure:
        return str(failure)
    return ""


def _record(claim: _Claim, error: str) -> None:
    now = database_now()
    owed = Notification.objects.filter(pk=claim.id, delivered_at__isnull=True)
    if not error:
        # Also where the lease has run out: it was delivered, and need not be again.
        owed.update(delivered_at=now, next_at=None, last_error="")
        return
    seconds = retry_delay(BACKOFF, retry=claim.attempt, seed=f"{claim.id}:{claim.attempt}")
    again = now + timedelta(seconds=seconds)
    given_up = again > claim.created_at + GIVE_UP_AFTER
    owed.filter(attempts=claim.attempt).update(next_at=None if given_up else again, last_error=error[:1000])
    if given_up:
        logger.error(
            "notification %s to %s was given up after %d attempts: %s",
            claim.id, claim.receiver_name, claim.attempt, error,
        )  # fmt: skip
