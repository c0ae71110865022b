"""An empty database between two histories, without the cost of a flush."""

from django.apps import apps
from django.db import transaction

from apps.workflows.models import Execution, Lane, Schedule, Workflow, WorkflowVersion

_DEFINED = (Workflow, WorkflowVersion, Schedule)


def wipe(*, workflows=True):
    """No execution is left, nor any workflow unless those are to stay."""
    # Lanes are remembered by processes for ever.
    kept = (Lane,) if workflows else (Lane, *_DEFINED)
    with transaction.atomic():
        Execution.objects.update(parent_task=None, origin=None)
        for model in apps.get_app_config("workflows").get_models():
            if model not in kept:
                rows = model._base_manager.all()
                rows._raw_delete(rows.db)
