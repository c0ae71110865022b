"""Admin page of secrets: who owns and may use them, never what they are. Registered by `admin`."""

from typing import Any, ClassVar

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest

from apps.accounts.admin_base import PermissionModelAdmin
from apps.accounts.permissions import Permission as P
from apps.vault import secrets
from apps.vault.models import Secret


@admin.register(Secret)
class SecretAdmin(PermissionModelAdmin):
    """Secrets. They are made and changed at `/secrets`, and may be removed here."""

    permissions: ClassVar[dict[str, P]] = {"view": P.SYSTEM_ADMIN, "delete": P.SYSTEM_ADMIN}
    list_display = ("name", "description", "owner", "shared_with", "value_at")
    list_select_related = ("owner",)
    search_fields = ("name", "description", "owner__username")
    ordering = ("name",)
    fields = readonly_fields = (
        "name", "description", "owner", "shared_with", "created_at", "updated_at", "value_at",
    )  # fmt: skip
    actions: Any = None

    def get_queryset(self, request: HttpRequest) -> QuerySet[Secret]:
        """With those that it is shared with."""
        return super().get_queryset(request).prefetch_related("users")

    @admin.display(description="shared with")
    def shared_with(self, secret: Secret) -> str:
        """Roles and accounts."""
        return ", ".join([*secret.roles, *(user.get_username() for user in secret.users.all())])

    def delete_model(self, request: HttpRequest, obj: Secret) -> None:  # noqa: ARG002
        """Through the vault."""
        secrets.delete(obj)
