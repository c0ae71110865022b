"""Which workflows and steps have a label of their own in metrics: admitted when they are saved, while there is room."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from django.db import transaction

from apps.core.clock import database_now
from apps.core.errors import Conflict, NotFound
from apps.workflows.models import MetricLabel, Workflow

MAX_WORKFLOWS = 200
MAX_STEPS = 1_000


def admit(workflow: UUID, steps: Sequence[str], *, now: datetime) -> None:
    """Give a workflow and its steps labels, as far as there is room; those it has it keeps. Inside a transaction."""
    had = set(MetricLabel.objects.filter(workflow=workflow).values_list("step_id", flat=True))
    wanted = [name for name in ("", *steps) if name not in had]
    if not wanted:
        return
    # Whoever admits holds the oldest label's lock: together two must not find more room than there is.
    list(MetricLabel.objects.select_for_update().order_by("pk")[:1])
    if "" in wanted and _taken_by_workflows() >= MAX_WORKFLOWS:
        return
    room = MAX_STEPS - MetricLabel.objects.exclude(step_id="").count()
    chosen = [name for name in wanted if name == ""] + [name for name in wanted if name][: max(0, room)]
    MetricLabel.objects.bulk_create(MetricLabel(workflow_id=workflow, step_id=name, admitted_at=now) for name in chosen)


def pin(slug: str, *, instead_of: str | None = None) -> None:
    """Give a workflow that has none a label, in the place of another where there is no room.

    What was counted of that other goes to the label `other`, so its own counters end and those of `other` rise at
    once. Raises `NotFound` for an unknown slug, `Conflict` where there is no room.
    """
    with transaction.atomic():
        workflow = _workflow(slug)
        if instead_of is not None:
            MetricLabel.objects.filter(workflow=_workflow(instead_of)).delete()
        version = workflow.versions.get(number=workflow.version_number)
        admit(workflow.pk, [str(step["id"]) for step in version.definition["steps"]], now=database_now())
        if not MetricLabel.objects.filter(workflow=workflow).exists():
            raise Conflict(f"{MAX_WORKFLOWS} workflows have labels: name one to give its own up", code="no_room")


def _taken_by_workflows() -> int:
    return MetricLabel.objects.filter(step_id="").count()


def _workflow(slug: str) -> Workflow:
    try:
        return Workflow.objects.get(slug=slug, kind=Workflow.Kind.WORKFLOW)
    except Workflow.DoesNotExist:
        raise NotFound(f"there is no workflow `{slug}`") from None
