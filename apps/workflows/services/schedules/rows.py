"""What saving, carrying out and filling in share: the row under its lock, its next moment, the execution of one."""

from datetime import datetime
from typing import Any
from uuid import UUID

from apps.core.errors import NotFound
from apps.workflows.definition import cron
from apps.workflows.models import Execution, Schedule, Workflow


def locked(schedule: Schedule) -> Schedule:
    """The row as it is now, under its lock; to be called inside a transaction. Raises `NotFound`.

    The workflow's lock comes first, as with whoever deletes a workflow; neither keeps others from starting executions.
    """
    workflow = locked_workflow(schedule.workflow_id)
    row = Schedule.objects.select_for_update(no_key=True).filter(pk=schedule.pk).first()
    if row is None:
        raise NotFound("there is no such schedule")
    row.workflow = workflow
    return row


def locked_workflow(pk: UUID) -> Workflow:
    """A workflow that nobody can change or delete until this transaction ends. Raises `NotFound`."""
    workflow = Workflow.objects.select_for_update(no_key=True).filter(pk=pk).first()
    if workflow is None:
        raise NotFound("there is no such workflow")
    return workflow


def declared_inputs(workflow: Workflow) -> dict[str, Any]:
    """The inputs that the newest version declares: a schema by name."""
    definition = workflow.versions.values_list("definition", flat=True).get(number=workflow.version_number)
    return definition.get("inputs") or {}


def first_after(row: Schedule, moment: datetime) -> datetime | None:
    """Its next moment after this one; None where there is none any more. Raises `Invalid` where its zone is gone."""
    return next(iter(cron.next_times(row.cron, row.timezone, moment, 1)), None)


def executions_of(row: Schedule, moment: datetime) -> list[Execution]:
    """The execution of this moment, if it was started."""
    return list(row.executions.filter(scheduled_for=moment))
