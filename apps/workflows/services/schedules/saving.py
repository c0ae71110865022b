"""Schedules: created, changed, paused, resumed, deleted. What cannot work is refused when it is saved."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from django.db import IntegrityError, transaction

from apps.accounts.models import User
from apps.core.clock import database_now
from apps.core.errors import Conflict, Invalid
from apps.workflows.definition import cron
from apps.workflows.definition.inputs import resolve_inputs
from apps.workflows.engine.states import TERMINAL
from apps.workflows.models import Schedule, Workflow
from apps.workflows.services.schedules.inputs import filled
from apps.workflows.services.schedules.rows import declared_inputs, first_after, locked, locked_workflow


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A schedule as it is to be; `priority` None leaves it to the definition."""

    name: str
    cron: str
    timezone: str = "UTC"
    inputs: Mapping[str, Any] = field(default_factory=dict)
    priority: int | None = None
    catch_up: str = Schedule.CatchUp.LAST.value
    overlap: str = Schedule.Overlap.SKIP.value
    paused: bool = False


def create(workflow: Workflow, wanted: Wanted, *, by: User) -> Schedule:
    """Save a new schedule of `workflow`, to be carried out as `by`.

    Raises `Invalid` ("invalid_schedule") with every problem, `Conflict` when the name is taken, or for a tracker: there
    is nothing to execute.
    """
    with transaction.atomic():
        workflow = locked_workflow(workflow.pk)
        now = database_now()
        _check(workflow, wanted, now)
        row = Schedule(workflow=workflow, owner=by, created_at=now)
        _write(row, wanted, now, moves=True)
    return row


def update(schedule: Schedule, wanted: Wanted, *, by: User) -> Schedule:
    """Make it as `wanted`. Another cron or time zone counts from now on; what was due by the old one is dropped.

    It stays its owner's; where that account is gone or disabled it becomes `by`'s. Raises as `create` does.
    """
    with transaction.atomic():
        row = locked(schedule)
        now = database_now()
        _check(row.workflow, wanted, now)
        if row.owner is None or not row.owner.is_active:
            row.owner = by
        before = (row.cron, row.timezone, row.paused)
        _write(row, wanted, now, moves=before != (wanted.cron, wanted.timezone, wanted.paused))
    return row


def pause(schedule: Schedule) -> Schedule:
    """Start nothing more by it. Executions that run go on; pausing again is fine."""
    return _set_paused(schedule, True)


def resume(schedule: Schedule) -> Schedule:
    """Go on with the next moment from now: those of the pause are not missed but were not wanted (see `backfill`)."""
    return _set_paused(schedule, False)


def delete(schedule: Schedule) -> None:
    """Delete it; its executions stay and go on."""
    with transaction.atomic():
        row = locked(schedule)
        # Taken in the order in which the ledger takes them: deleting writes to them (their schedule becomes null).
        opened = row.executions.exclude(status__in=sorted(TERMINAL)).order_by("pk")
        list(opened.select_for_update(of=("self",)).values_list("pk", flat=True))
        row.delete()


def _check(workflow: Workflow, wanted: Wanted, now: datetime) -> None:
    if workflow.kind != Workflow.Kind.WORKFLOW:
        raise Conflict(f"`{workflow}` has no definition to execute; schedule a workflow", code="not_a_workflow")
    moment, zone = now, "UTC"
    problems = cron.problems(wanted.cron, wanted.timezone, now)
    if not problems:
        moment, zone = cron.next_times(wanted.cron, wanted.timezone, now, 1)[0], wanted.timezone
    try:
        resolve_inputs(declared_inputs(workflow), filled(dict(wanted.inputs), moment, zone))
    except Invalid as error:
        problems += error.problems
    if problems:
        raise Invalid("the schedule cannot be saved; `errors` lists why", code="invalid_schedule", problems=problems)


def _write(row: Schedule, wanted: Wanted, now: datetime, *, moves: bool) -> None:
    row.name = wanted.name
    row.cron = wanted.cron
    row.timezone = wanted.timezone
    row.inputs = dict(wanted.inputs)
    row.priority = wanted.priority
    row.catch_up = wanted.catch_up
    row.overlap = wanted.overlap
    row.paused = wanted.paused
    row.updated_at = now
    if moves:
        row.next_at = None if row.paused else first_after(row, now)
    try:
        with transaction.atomic():
            row.save()
    except IntegrityError:
        raise Conflict(
            f"`{row.workflow}` has a schedule named `{row.name}` already; choose another name", code="name_taken"
        ) from None


def _set_paused(schedule: Schedule, paused: bool) -> Schedule:
    with transaction.atomic():
        row = locked(schedule)
        if row.paused != paused:
            now = database_now()
            row.paused, row.updated_at = paused, now
            row.next_at = None if paused else first_after(row, now)
            row.save(update_fields=["paused", "updated_at", "next_at"])
    return row
