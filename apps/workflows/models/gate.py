"""The gate: what a caller may not read is not in his queryset. Deny by default."""

from typing import Any, Self, TypeVar

from django.db import models
from django.db.models import Q

from apps.accounts.grants import objects_granted
from apps.accounts.permissions import Permission, holds

M = TypeVar("M", bound=models.Model)


class GatedQuerySet(models.QuerySet[M]):
    """Rows that belong to a workflow; `workflow_path` says by which lookup ('' for the workflow itself)."""

    workflow_path = "workflow"

    def visible_to(self, user: Any, permission: Permission) -> Self:
        """The rows on whose workflow `user` has `permission`: by role, by ownership, or by an object grant."""
        if holds(user, permission):
            return self.all()
        if not user.is_authenticated or not user.is_active:
            return self.none()
        from apps.workflows.models.workflows import Workflow

        granted = objects_granted(user, _object_code(permission), Workflow)
        prefix = f"{self.workflow_path}__" if self.workflow_path else ""
        owner: Q = Q(**{f"{prefix}owner_id": user.pk})
        return self.filter(owner | Q(**{f"{prefix}pk__in": granted}))


def _object_code(permission: Permission) -> str:
    """The grant on a workflow that opens `permission` for what belongs to it: reading tasks or progress is reading."""
    verb = permission.value.partition(":")[2]
    return f"workflow:{verb}" if verb in ("read", "update", "delete", "execute") else "workflow:update"
