"""Leases: kept alive by their owners, taken away from the dead. Any process may run the reaper."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import connection, transaction
from django.db.models import QuerySet

from apps.core.clock import database_now
from apps.workflows.engine.ids import execution_of
from apps.workflows.engine.states import Status
from apps.workflows.engine.types import TRACKER, Due, Lost, Released, StopRequested
from apps.workflows.models import Execution, Performer, Task
from apps.workflows.selectors.graphs import unreadable
from apps.workflows.services import counting, follow
from apps.workflows.services.apart import each_apart, together_or_apart
from apps.workflows.services.ledger import Report, sql, turn, unit_of
from apps.workflows.services.ledger.unit import lease_until
from apps.workflows.services.stopping import request_stop, write_all

REAP_AT_ONCE = 100  # leases in one transaction
FORGOTTEN_AFTER = timedelta(hours=1)  # a performer silent for so long is no longer shown as lost


Lease = tuple[UUID, int, str]
"""A task's id, the fencing number, and the task's name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Heartbeat:
    """What a performer is told: tasks to stop because of a cancel, and tasks that are no longer its own."""

    cancel: tuple[UUID, ...]
    lost: tuple[UUID, ...]
    lease_expires_at: datetime


def beat(
    *,
    owner: str,
    kind: str,
    slots: int,
    held: Sequence[tuple[UUID, int]],
    lease_seconds: float,
    load: int | None = None,
    draining: bool = False,
    labels: Mapping[str, Any] | None = None,
    queues: Sequence[str] | None = None,
) -> Heartbeat:
    """Extend the leases (task, fence) that `owner` holds and say that it lives; `load` None: it has these alone.

    The number is in the WHERE clause: a lease that is no longer current is not extended but told as lost.
    """
    now = database_now()
    until = lease_until(now, lease_seconds)
    kept: set[UUID] = set()
    with transaction.atomic(), connection.cursor() as cursor:
        said = {
            "kind": kind,
            "slots": slots,
            "load": len(held) if load is None else load,
            "draining": draining,
            "labels": dict(labels or {}),
            "queues": None if queues is None else list(queues),
            "lost": False,
            "seen_at": now,
        }
        Performer.objects.update_or_create(name=owner, defaults=said, create_defaults={**said, "started_at": now})
        for task, fence in sorted(held):
            cursor.execute(
                "UPDATE workflows_task SET lease_expires_at = %s"
                " WHERE id = %s AND fence = %s AND status = 'in_progress' AND lease_owner = %s",
                [sql.time_in(until), sql.uuid_in(task), fence, owner],
            )
            if cursor.rowcount == 1:
                kept.add(task)
        stopping = set(
            Execution.objects.filter(
                pk__in={execution_of(task) for task in kept}, cancel_requested_at__isnull=False
            ).values_list("pk", flat=True)
        )
    return Heartbeat(
        cancel=tuple(task for task, _ in held if task in kept and execution_of(task) in stopping),
        lost=tuple(task for task, _ in held if task not in kept),
        lease_expires_at=until,
    )


def still_there(owners: Collection[str]) -> None:
    """These performers have nothing to say, and are there."""
    Performer.objects.filter(pk__in=owners).update(seen_at=database_now())


def leave(owner: str) -> None:
    """A performer goes for good. Its leases, if any are left, are ended at once: its death is known, not guessed.

    One that did not drain before, or that was a whole lease silent, counts as lost.
    """
    with transaction.atomic():
        gone = Performer.objects.filter(pk=owner, kind="worker", draining=False, lost=False).delete()[0]
        Performer.objects.filter(pk=owner).delete()
        counting.add(counting.WORKERS_LOST, gone)
    together_or_apart(_end_leases, list(_leases().filter(lease_owner=owner)))


def give_back_unknown(owner: str, held: Collection[UUID]) -> int:
    """Release what `owner` has under lease and does not know of: it was claimed, but the answer got lost.

    To be called by whoever claims for `owner`, between two claims. Gives the number of leases released.
    """
    unknown = [lease for lease in _leases().filter(lease_owner=owner) if lease[0] not in held]
    release(unknown)
    return len(unknown)


def release(leases: Iterable[Lease]) -> None:
    """Give tasks back: nobody has begun with them."""
    turn([Report(task_id=task, happening=Released(step_id=step, fence=fence)) for task, fence, step in leases])


def lose(leases: Sequence[Lease]) -> None:
    """End leases of tasks that their performer does not have any more; that costs from `retry.lost`."""
    _end_leases(leases)


def reap() -> int:
    """End leases whose deadline has passed and stop executions whose deadline has; forget performers long gone.

    Gives the number of leases whose time was over. What cannot be done for one execution stops none of the others.
    """
    now, lease = database_now(), timedelta(seconds=settings.ENV.LEASE_SECONDS)
    expired = list(_leases().filter(lease_expires_at__lt=now)[:REAP_AT_ONCE])
    together_or_apart(lambda some: _end_leases(some, still_expired_at=now), expired)
    late = Execution.objects.filter(deadline_at__lt=now).exclude(version__in=unreadable())
    late_ids = late.order_by("deadline_at", "pk").values_list("pk", flat=True)[:REAP_AT_ONCE]
    each_apart(lambda one: request_stop(one, StopRequested(status=Status.TIMED_OUT)), list(late_ids))
    wake(now)
    follow.sweep()
    with transaction.atomic():
        silent = Performer.objects.filter(kind="worker", lost=False, seen_at__lt=now - lease)
        counting.add(counting.WORKERS_LOST, silent.update(lost=True))
    Performer.objects.filter(seen_at__lt=now - FORGOTTEN_AFTER).delete()
    return len(expired)


def wake(now: datetime) -> int:
    """Act on the timers and limits on time whose moment has come; gives how many there were."""
    due: dict[UUID, list[str]] = {}
    rows = Task.objects.filter(due_at__lte=now).exclude(execution__version__in=unreadable())
    rows = rows.order_by("due_at", "pk")[:REAP_AT_ONCE]
    for execution, name in rows.values_list("execution_id", "step_id"):
        due.setdefault(execution, []).append(name)

    def act(some: Sequence[UUID]) -> None:
        with unit_of(some) as unit:
            unit.read((execution, name) for execution in some for name in due[execution])
            for execution in some:
                if held := unit.held.get(execution):
                    for name in due[execution]:
                        if name in held.tasks:
                            held.happen(Due(step_id=name))
            write_all(unit, stop=True)

    together_or_apart(act, list(due))
    return sum(map(len, due.values()))


def next_moments() -> tuple[datetime | None, datetime | None]:
    """When the next task may be claimed by anybody, and when the next timer or limit on time comes; None: never."""
    with sql.statements() as cursor:
        return sql.next_moments(cursor)


def _leases() -> QuerySet[Task, Lease]:
    ours = Task.objects.filter(status=Status.IN_PROGRESS).exclude(lease_owner=TRACKER)
    ours = ours.exclude(execution__version__in=unreadable())
    return ours.values_list("pk", "fence", "step_id").order_by("pk")


def _end_leases(leases: Sequence[Lease], *, still_expired_at: datetime | None = None) -> None:
    if not leases:
        return
    with transaction.atomic():
        if still_expired_at is not None:
            # Between the look and the lock an owner may have come back; under its executions' locks ask once more.
            with connection.cursor() as cursor:
                sql.lock_executions(cursor, {execution_of(task) for task, _, _ in leases})
            living = set(
                Task.objects.select_for_update(of=("self",))
                .filter(pk__in=[task for task, _, _ in leases], lease_expires_at__gte=still_expired_at)
                .values_list("pk", flat=True)
            )
            leases = [lease for lease in leases if lease[0] not in living]
        turn([Report(task_id=task, happening=Lost(step_id=step, fence=fence)) for task, fence, step in leases])
