"""Backfill: the moments of a time that has passed, each started once, as the caller."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice

from django.db import transaction

from apps.accounts.models import User
from apps.core.clock import database_now
from apps.core.errors import Invalid, Problem
from apps.workflows.definition import cron
from apps.workflows.definition.inputs import resolve_inputs
from apps.workflows.models import Execution, Schedule, Trigger
from apps.workflows.services import executions
from apps.workflows.services.schedules.inputs import filled
from apps.workflows.services.schedules.rows import declared_inputs, executions_of, locked

MAX_MOMENTS = 500
COUNTED = 20_000  # beyond, the answer says "more than": counting on would cost more than the number is worth
EARLIEST = datetime(1970, 1, 1, tzinfo=UTC)
_RESOLUTION = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Backfilled:
    """The executions of the moments, each list in order of `scheduled_for`."""

    started: list[Execution]
    already_there: list[Execution]


def backfill(schedule: Schedule, *, since: datetime, until: datetime, by: User) -> Backfilled:
    """Start an execution for each moment from `since` on and before `until` that has none yet.

    Asking again is fine. Neither `overlap` nor a pause matters: somebody asks for these. Raises `Invalid` for a time
    that is none or has not passed, for more than `MAX_MOMENTS`, and when inputs do not fit; then nothing was started.
    """
    moments = _moments(schedule, since, until)
    declared = declared_inputs(schedule.workflow)
    for moment in moments:
        resolve_inputs(declared, filled(schedule.inputs, moment, schedule.timezone))
    answer = Backfilled(started=[], already_there=[])
    for moment in moments:
        # A transaction each: together they would keep every other writer of SQLite waiting for seconds.
        with transaction.atomic():
            row = locked(schedule)
            if there := executions_of(row, moment):
                answer.already_there.extend(there)
                continue
            execution = executions.start(
                row.workflow,
                by=by,
                inputs=filled(row.inputs, moment, row.timezone),
                priority=row.priority,
                trigger=Trigger.CALLER,
                schedule=row,
                scheduled_for=moment,
            )
        answer.started.append(execution)
    return answer


def _moments(schedule: Schedule, since: datetime, until: datetime) -> list[datetime]:
    if since < EARLIEST:
        raise _invalid("/from", "too_early", "give a time from 1970 on")
    if until <= since:
        raise _invalid("/until", "empty", "must be later than `from`")
    if until > database_now():
        raise _invalid("/until", "not_passed", "must not lie ahead: what is to come the schedule starts by itself")
    between = cron.times_between(schedule.cron, schedule.timezone, since - _RESOLUTION, until - _RESOLUTION)
    moments = list(islice(between, COUNTED + 1))
    if len(moments) > MAX_MOMENTS:
        told = f"more than {COUNTED:,}" if len(moments) > COUNTED else f"{len(moments):,}"
        piece = moments[MAX_MOMENTS].strftime("%Y-%m-%dT%H:%M:%SZ")
        message = f"these are {told} moments and a request may have {MAX_MOMENTS}; ask in pieces, first until {piece}"
        raise _invalid("/until", "too_many", message)
    return moments


def _invalid(pointer: str, code: str, message: str) -> Invalid:
    return Invalid(
        f"{pointer.strip('/')}: {message}.",
        code="invalid_backfill",
        problems=[Problem(pointer=pointer, code=code, message=message)],
    )
