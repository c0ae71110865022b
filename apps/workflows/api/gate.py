"""The gate of this app's views: a caller without the role may still own a workflow, or have been granted it."""

from typing import Any

from rest_framework.request import Request

from apps.accounts.api.permissions import DeclaredPermission
from apps.accounts.models import User
from apps.accounts.permissions import Permission
from apps.core.api.viewsets import GenericViewSet
from apps.core.errors import Denied, Unauthenticated
from apps.workflows.api.idempotency import Idempotent


class OwnedPermission(DeclaredPermission):
    """As declared by role; known callers without it reach what is theirs: the queryset shows them nothing else."""

    def has_permission(self, request: Request, view: Any) -> bool:
        """Whether to let the caller on, to the queryset's gate."""
        if super().has_permission(request, view):
            return True
        return bool(request.user.is_authenticated and view.action in view.gated_actions)


class GatedViewSet(Idempotent, GenericViewSet):
    """Its querysets come from `visible_to`; `gated_actions` are those that work on rows a caller may own."""

    permission_classes = [OwnedPermission]
    gated_actions: frozenset[str] = frozenset()

    def permission(self) -> Permission:
        """What the present action asks for."""
        return Permission(self.required_permissions[self.action])

    def account(self) -> User:
        """The caller's account. Raises `Unauthenticated` for nobody: what changes a row is somebody's doing."""
        user = self.request.user
        if not isinstance(user, User):
            raise Unauthenticated("this needs an account: log in")
        return user

    def require(self, workflow: Any, permission: Permission) -> None:
        """Raise `Denied` when the caller, who may see `workflow`, may not do this with it."""
        visible = type(workflow).objects.visible_to(self.request.user, permission)
        if not visible.filter(pk=workflow.pk).exists():
            raise Denied(f"this needs the permission {permission.value} on `{workflow}`")
