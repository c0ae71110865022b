"""Carrying schedules out: what is due is started and moved on in one transaction, by however many processes."""

import logging
from datetime import datetime, timedelta
from uuid import UUID

from django.db import InterfaceError, OperationalError, transaction
from django.db.models import Min

from apps.accounts.models import User
from apps.accounts.permissions import Permission
from apps.core.clock import database_now
from apps.core.errors import Conflict, Denied, Invalid, NotFound, PlatformError
from apps.workflows.definition import cron
from apps.workflows.engine.states import EXECUTION_MOVES, TERMINAL
from apps.workflows.models import Execution, Schedule, Trigger, Workflow
from apps.workflows.services import counting, executions
from apps.workflows.services.schedules.inputs import filled
from apps.workflows.services.schedules.rows import executions_of, first_after

logger = logging.getLogger(__name__)

MISSED_AFTER = timedelta(seconds=60)
TICK_SECONDS = 10.0
CATCH_UP_AT_MOST = 1000
CANCELLED_AT_ONCE = 100
_OPEN = sorted(status.value for status in EXECUTION_MOVES if status not in TERMINAL)
_RESOLUTION = timedelta(microseconds=1)
_ERROR_CHARACTERS = 1000
_UNFORESEEN = "something went wrong on our side; the server's log has it under this schedule's id"


def fire_due(*, limit: int = 100) -> datetime | None:
    """Deal with at most `limit` moments that have come; gives when the next one comes, None when none is planned.

    To be called about once a second by any number of processes: each moment is started exactly once. A time that has
    passed already means that there is more to do, or that another process is doing it. Each schedule in turn gets one
    moment, so that one with a long past keeps nobody waiting. What goes wrong with one stops no other. All times are
    the database's.
    """
    soonest = _soonest()
    if soonest is not None and soonest <= database_now():  # asked every second, mostly in vain
        _fire_some(limit)
        soonest = _soonest()
    now = database_now().timestamp()
    counting.note(counting.SCHEDULER_TICK, now, unless_newer_than=now - TICK_SECONDS)
    return soonest


def _soonest() -> datetime | None:
    soonest: datetime | None = Schedule.objects.aggregate(at=Min("next_at"))["at"]
    return soonest


def _fire_some(limit: int) -> None:
    left, stuck = limit, set[UUID]()
    while left > 0:
        due = Schedule.objects.filter(next_at__lte=database_now()).exclude(pk__in=stuck).order_by("next_at", "pk")
        chosen = list(due.values_list("pk", "next_at")[:left])
        if not chosen:
            break
        stuck.update(pk for pk, first in chosen if first and not _fire(pk, first))
        left -= len(chosen)


def _fire(pk: UUID, first: datetime) -> bool:
    """Deal with one moment of this schedule, whose oldest due one is `first`.

    False when another process holds it or has moved it on, or when it is to be tried again.
    """
    try:
        with transaction.atomic():
            return _deal(pk, first, broken=False)
    except (OperationalError, InterfaceError):
        # A deadlock, a lost connection: nothing was changed, and the next call tries again.
        logger.warning("schedule %s waits: the database did not answer as it should", pk, exc_info=True)
        return False
    except Exception:
        logger.exception("schedule %s could not be carried out", pk)
    with transaction.atomic():
        _deal(pk, first, broken=True)
    return False


def _deal(pk: UUID, first: datetime, *, broken: bool) -> bool:
    """Lock, choose, start, move on; False when it is not ours to do. `broken` leaves out the start: it has failed.

    A start that failed in a way nobody foresaw stays due until it counts as missed, and is then passed over: it is
    neither lost at once nor in the way for ever.
    """
    free = Schedule.objects.select_for_update(skip_locked=True, no_key=True, of=("self", "workflow"))
    row = free.select_related("workflow").filter(pk=pk, next_at=first).first()
    if row is None:
        return False
    now = database_now()
    try:
        moment, wanted = _choice(row, first, now)
        following = first_after(row, moment)
    except Invalid as error:
        # It was checked when it was saved, so its time zone has left the system since: there is no next moment.
        row.paused, row.next_at = True, None
        row.last_outcome, row.last_error = Schedule.Outcome.FAILED, _told(error)
    else:
        if not wanted:
            row.last_outcome, row.last_error = Schedule.Outcome.MISSED, ""
        elif broken:
            row.last_outcome, row.last_error = Schedule.Outcome.FAILED, _UNFORESEEN
        else:
            row.last_outcome, row.last_error = _start(row, moment)
        row.last_at = moment
        if not (broken and first >= now - MISSED_AFTER):
            row.next_at = following
    row.save(update_fields=["paused", "next_at", "last_at", "last_outcome", "last_error"])
    counting.add(counting.SCHEDULES_MISSED, int(row.last_outcome == Schedule.Outcome.MISSED))
    return True


def _choice(row: Schedule, first: datetime, now: datetime) -> tuple[datetime, bool]:
    """The moment to deal with, and whether it is to be started; `first` is the oldest that is due."""
    edge = now - MISSED_AFTER
    if first >= edge:
        return first, True
    count = CATCH_UP_AT_MOST if row.catch_up == Schedule.CatchUp.ALL else 1
    missed = cron.last_times(row.cron, row.timezone, first - _RESOLUTION, edge - _RESOLUTION, count)
    # None where the rules of the zone have changed since `first` was planned: it was promised all the same.
    return (missed[0] if missed else first), row.catch_up != Schedule.CatchUp.NONE


def _start(row: Schedule, moment: datetime) -> tuple[Schedule.Outcome, str]:
    """Start the execution of a moment as the schedule's owner, as its overlap policy says; what came of it, and why."""
    if executions_of(row, moment):
        return Schedule.Outcome.STARTED, ""
    # What a backfill started was asked for by somebody (`Trigger.CALLER`) and has no part in this.
    running = Execution.objects.filter(
        workflow=row.workflow, schedule=row, trigger=Trigger.SCHEDULE, status__in=_OPEN
    ).order_by("pk")
    if row.overlap == Schedule.Overlap.SKIP and running.exists():
        return Schedule.Outcome.PASSED_OVER, ""
    try:
        with transaction.atomic():  # a start that fails cancels nothing
            owner = _owner(row)
            if row.overlap == Schedule.Overlap.CANCEL_RUNNING:
                for execution in running[:CANCELLED_AT_ONCE]:
                    _cancel(execution)
            executions.start(
                row.workflow,
                by=owner,
                inputs=filled(row.inputs, moment, row.timezone),
                priority=row.priority,
                trigger=Trigger.SCHEDULE,
                schedule=row,
                scheduled_for=moment,
            )
    except PlatformError as error:
        return Schedule.Outcome.FAILED, _told(error)
    return Schedule.Outcome.STARTED, ""


def _owner(row: Schedule) -> User:
    owner = row.owner
    if owner is None:
        raise Denied("its owner's account was deleted; whoever saves it again becomes its owner")
    if not owner.is_active:
        raise Denied(f"its owner `{owner.get_username()}` is disabled; whoever saves it again becomes its owner")
    allowed = Workflow.objects.visible_to(owner, Permission.WORKFLOW_EXECUTE)
    if not allowed.filter(pk=row.workflow_id).exists():
        needed = Permission.WORKFLOW_EXECUTE.value
        raise Denied(f"its owner `{owner.get_username()}` no longer has {needed} on `{row.workflow}`; grant it again")
    return owner


def _cancel(execution: Execution) -> None:
    try:
        executions.cancel(execution, by=None)
    except (Conflict, NotFound):
        logger.info("execution %s had ended before its schedule could cancel it", execution.pk)


def _told(error: PlatformError) -> str:
    parts = [f"{problem.pointer} {problem.message}" for problem in error.problems]
    return ": ".join(filter(None, [error.detail, "; ".join(parts)]))[:_ERROR_CHARACTERS]
