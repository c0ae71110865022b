"""The base of every admin page: what the caller may do there is our permissions, and nothing is open by default."""

from collections.abc import Mapping
from typing import Any, ClassVar

from django.contrib import admin
from django.http import HttpRequest

from apps.accounts.audit import gathered, record
from apps.accounts.permissions import Permission, holds


class PermissionModelAdmin(admin.ModelAdmin):  # type: ignore[type-arg]  # no generic at run time
    """A `ModelAdmin` that names the permission of each verb: `view`, `add`, `change`, `delete`; unnamed is refused."""

    permissions: ClassVar[Mapping[str, Permission]] = {}

    class Media:
        css = {"all": ["ui/admin.css"]}

    def _may(self, request: HttpRequest, verb: str) -> bool:
        permission = self.permissions.get(verb)
        return permission is not None and holds(request.user, permission)

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:  # noqa: ARG002
        """Whoever may change may view."""
        return self._may(request, "view") or self._may(request, "change")

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Whether the page to add one is open."""
        return self._may(request, "add")

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:  # noqa: ARG002
        """Whether the form is open."""
        return self._may(request, "change")

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:  # noqa: ARG002
        """Whether it may be deleted."""
        return self._may(request, "delete")

    def has_module_permission(self, request: HttpRequest) -> bool:
        """Whether the index lists it."""
        return self.has_view_permission(request)

    # Django calls these two inside the transaction of a form; what the services record in it waits for its end.

    def _changeform_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        with gathered():
            return super()._changeform_view(request, *args, **kwargs)  # type: ignore[misc]

    def _delete_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        with gathered():
            return super()._delete_view(request, *args, **kwargs)  # type: ignore[misc]

    def log_addition(self, request: HttpRequest, obj: Any, message: Any) -> Any:
        """Django's history and the audit log."""
        record("admin.add", obj=obj)
        return super().log_addition(request, obj, message)

    def log_change(self, request: HttpRequest, obj: Any, message: Any) -> Any:
        """Django's history and the audit log: the fields that changed, never their values."""
        record("admin.change", obj=obj, after={"fields": _fields_in(message)})
        return super().log_change(request, obj, message)

    def log_deletions(self, request: HttpRequest, queryset: Any) -> Any:
        """Django's history and the audit log."""
        for obj in queryset:
            record("admin.delete", obj=obj)
        return super().log_deletions(request, queryset)


def _fields_in(message: Any) -> list[str]:
    """The names of the fields in what Django writes of a change."""
    parts = message if isinstance(message, list) else []
    return [str(name) for part in parts for name in part.get("changed", {}).get("fields", ())]
