"""An empty database between two histories, without the cost of a flush."""

from django.db import transaction

from apps.workflows import models
from apps.workflows.models import Execution

_IN_ORDER = (
    "LogChunk", "Event", "Task", "Execution", "Schedule", "WorkflowVersion", "Workflow", "IdempotencyKey",
    "Performer", "CachedResult", "RateLimit",
)  # fmt: skip


def wipe(*, workflows=True):
    """No execution is left, nor any workflow unless those are to stay."""
    with transaction.atomic():
        Execution.objects.update(parent_task=None, origin=None)
        for name in _IN_ORDER:
            if workflows or name not in ("Workflow", "WorkflowVersion", "Schedule"):
                rows = getattr(models, name).objects.all()
                rows._raw_delete(rows.db)
