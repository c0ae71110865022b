"""The gate: what a caller may not read is not in his queryset. Deny by default."""

from typing import Any, Self, TypeVar

from django.db import models
from django.db.models import Q

from apps.accounts.grants import objects_granted, objects_granted_to_roles
from apps.accounts.permissions import Permission, holds_by_role, scope_of

M = TypeVar("M", bound=models.Model)


def sees_all(user: Any, permission: Permission) -> bool:
    """Whether `user` has `permission` on every workflow, so that the gate leaves out nothing."""
    scope = scope_of(user)
    return holds_by_role(user, permission) and (scope is None or scope.workflows is None)


class GatedQuerySet(models.QuerySet[M]):
    """Rows that belong to a workflow; `workflow_path` says by which lookup ('' for the workflow itself)."""

    workflow_path = "workflow"

    def visible_to(self, user: Any, permission: Permission) -> Self:
        """The rows on whose workflow `user` has `permission`: by role, by ownership, or by an object grant.

        Of these an API token sees none without the permission in its scope, and only its own workflows'.
        """
        scope = scope_of(user)
        if scope is None:
            return self._held_by(user, permission)
        if permission not in scope.permissions:
            return self.none()
        rows = self._held_by(user, permission)
        return rows if scope.workflows is None else rows.filter(**{f"{self._prefix}slug__in": scope.workflows})

    @property
    def _prefix(self) -> str:
        return f"{self.workflow_path}__" if self.workflow_path else ""

    def _held_by(self, user: Any, permission: Permission) -> Self:
        if holds_by_role(user, permission):
            return self.all()
        if not user.is_authenticated or not user.is_active:
            return self.none()
        from apps.workflows.models.workflows import Workflow, WorkflowRolePermission

        code = object_code(permission)
        granted = objects_granted(user, code, Workflow)
        by_role = objects_granted_to_roles(user, code, WorkflowRolePermission)
        owner: Q = Q(**{f"{self._prefix}owner_id": user.pk})
        in_one = f"{self._prefix}pk__in"
        return self.filter(owner | Q(**{in_one: granted}) | Q(**{in_one: by_role}))


def object_code(permission: Permission) -> str:
    """The grant on a workflow that opens `permission` for what belongs to it: reading tasks or progress is reading."""
    verb = permission.value.partition(":")[2]
    return f"workflow:{verb}" if verb in ("read", "update", "delete", "execute") else "workflow:update"
