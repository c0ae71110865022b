"""Rows as the engine leaves them: workflows with executions and tasks in every state."""

import uuid
from datetime import UTC, datetime, timedelta

from django.db import transaction

from apps.workflows.engine.ids import new_execution_id, task_id
from apps.workflows.engine.states import TERMINAL, Status
from apps.workflows.models import Execution, Task, Workflow, WorkflowVersion
from apps.workflows.services import labels

START = datetime(2025, 1, 31, 12, 0, 0, 250_000, tzinfo=UTC)


def make_workflow(slug, *steps, kind="workflow", number=1, workflow=None):
    """A workflow whose present version has `steps` (ids, or mappings)."""
    definition = {"name": slug, "steps": [step if isinstance(step, dict) else {"id": step} for step in steps]}
    if workflow is None:
        workflow = Workflow.objects.create(
            slug=slug, name=slug, kind=kind, version_number=number, created_at=START, updated_at=START
        )
    else:
        workflow.version_number = number
        workflow.save()
    WorkflowVersion.objects.create(
        workflow=workflow, number=number, definition=definition, checksum="0" * 64, created_at=START
    )
    if kind == "workflow":
        with transaction.atomic():
            labels.admit(workflow.pk, [step["id"] for step in definition["steps"]], now=START)
    return workflow


def make_execution(workflow, status="completed", *, seconds=1.0, tasks=(), **values):
    """An execution; `tasks` are mappings with at least `step_id` and `status`."""
    ended = Status(status) in TERMINAL
    begun = status != "pending" and values.pop("begun", True)
    execution = Execution.objects.create(
        id=new_execution_id(),
        workflow=workflow,
        version=workflow.versions.get(number=workflow.version_number),
        status=status,
        percent=100 if status == "completed" else 0,
        tasks_total=len(tasks),
        open_tasks=sum(task["status"] not in TERMINAL for task in tasks),
        trace_id=uuid.uuid4().hex,
        created_at=START,
        updated_at=START,
        started_at=START if begun else None,
        finished_at=START + timedelta(seconds=seconds) if ended else None,
        **values,
    )
    for ordinal, task in enumerate(tasks, start=1):
        make_task(execution, ordinal, **task)
    return execution


def make_task(execution, ordinal, *, status, seconds=1.0, begun=True, **values):
    ended = status in TERMINAL
    running = status == "in_progress"
    return Task.objects.create(
        id=task_id(execution.pk, ordinal),
        execution=execution,
        status=status,
        started_at=START if begun and (ended or running) and status != "skipped" else None,
        finished_at=START + timedelta(seconds=seconds) if ended else None,
        lease_expires_at=START + timedelta(days=20_000) if running else None,
        lease_owner=values.pop("lease_owner", "w1" if running else ""),
        fence=values.pop("fence", 1 if begun else 0),
        **values,
    )
