"""The audit log in the admin: to read, search and filter."""

from typing import Any, ClassVar

from django.contrib import admin
from django.http import HttpRequest

from apps.accounts.admin_base import PermissionModelAdmin
from apps.accounts.audit.models import AuditEntry
from apps.accounts.permissions import Permission as P


@admin.register(AuditEntry)
class AuditEntryAdmin(PermissionModelAdmin):
    """Who did what; nothing here can be added, changed or deleted."""

    permissions: ClassVar[dict[str, P]] = {"view": P.SYSTEM_READ}
    list_display = (
        "seq",
        "at",
        "actor_name",
        "actor_kind",
        "action",
        "object_type",
        "object_name",
        "outcome",
        "address",
    )
    list_filter = ("outcome", "actor_kind", "at")
    search_fields = ("actor_name", "action", "object_id", "object_name", "request_id")
    ordering = ("-seq",)
    show_full_result_count = False
    list_per_page = 50
    actions = None

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[str]:  # noqa: ARG002
        """Every field."""
        return [field.name for field in self.model._meta.fields]
