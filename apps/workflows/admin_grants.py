"""Admin pages of grants on single things: given and taken back through the service, by the rules of the API."""

from typing import Any, ClassVar

from django import forms
from django.contrib import admin
from django.contrib.contenttypes.models import ContentType
from django.core.exceptions import ValidationError
from django.http import HttpRequest

from apps.accounts.admin_base import PermissionModelAdmin
from apps.accounts.audit import refused
from apps.accounts.permissions import Permission as P
from apps.core.errors import PlatformError
from apps.workflows.models import WorkflowGroupPermission, WorkflowRolePermission, WorkflowUserPermission
from apps.workflows.selectors.grants import verbs_of
from apps.workflows.services import grants


class GrantForm(forms.ModelForm):  # type: ignore[type-arg]  # no generic at run time
    """A grant that the one who edits may give; the page sets `editor` on the class it makes for a request."""

    editor: Any = None

    def clean(self) -> dict[str, Any]:
        """What the service would refuse is said on the form."""
        cleaned: dict[str, Any] = super().clean() or self.cleaned_data
        if "content_object" in cleaned and "permission" in cleaned:
            try:
                verb = cleaned["permission"].codename.partition(":")[2]
                grants.check_may_share(cleaned["content_object"], by=self.editor)
                grants.check_may_give(cleaned["content_object"], verb, by=self.editor)
            except PlatformError as refusal:
                noun, about = str(self._meta.model._meta.model_name), cleaned["content_object"].pk
                refused("admin.add", by=self.editor.pk, object_type=noun, object_id=about, because=refusal.detail)
                raise ValidationError(refusal.detail) from None
        return cleaned


class GrantAdmin(PermissionModelAdmin):
    """Grants on single things: given and taken back by the rules of `/workflows/{id}/grants`."""

    permissions = dict.fromkeys(("view", "add", "delete"), P.SYSTEM_ADMIN)
    form = GrantForm
    to: ClassVar[str]
    list_filter = ("permission",)
    raw_id_fields = ("content_object",)
    actions = None

    def get_form(self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any) -> Any:
        """The form, told who edits."""
        form: Any = super().get_form(request, obj, change, **kwargs)
        form.editor = request.user
        return form

    def formfield_for_foreignkey(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        """Only the permissions of what is shared."""
        if db_field.name == "permission":
            shared: Any = self.model._meta.get_field("content_object").related_model
            content_type = ContentType.objects.get_for_model(shared)
            kwargs["queryset"] = db_field.related_model.objects.filter(content_type=content_type)
        return super().formfield_for_foreignkey(db_field, request, **kwargs)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Not a grant of what the editor may not do himself."""
        if not super().has_delete_permission(request, obj) or obj is None:
            return super().has_delete_permission(request, obj)
        try:
            grants.check_may_give(obj.content_object, _verb(obj), by=request.user)  # type: ignore[arg-type]
        except PlatformError:
            return False
        return True

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:  # noqa: ARG002
        """Through the service; Django goes on with the row that it made."""
        self._write(request, obj, lambda verbs, verb: verbs | {verb})
        names = {self.to: getattr(obj, self.to), "permission": obj.permission, "content_object": obj.content_object}
        obj.__dict__.update(self.model._default_manager.get(**names).__dict__)

    def delete_model(self, request: HttpRequest, obj: Any) -> None:
        """Through the service."""
        self._write(request, obj, lambda verbs, verb: verbs - {verb})

    def _write(self, request: HttpRequest, obj: Any, change: Any) -> None:
        to = getattr(obj, self.to)
        verbs = change(verbs_of(obj.content_object, to), _verb(obj))
        grants.grant(obj.content_object, to, verbs, by=request.user)  # type: ignore[arg-type]  # the site lets in users


def _verb(row: Any) -> str:
    return str(row.permission.codename).partition(":")[2]


@admin.register(WorkflowUserPermission)
class UserGrantAdmin(GrantAdmin):
    """What single people may do with single workflows."""

    to = "user"
    list_display = ("content_object", "user", "permission")
    list_select_related = ("content_object", "user", "permission__content_type")
    search_fields = ("content_object__slug", "content_object__name", "user__username")
    autocomplete_fields = ("user",)


@admin.register(WorkflowGroupPermission)
class GroupGrantAdmin(GrantAdmin):
    """What groups may do with single workflows."""

    to = "group"
    list_display = ("content_object", "group", "permission")
    list_select_related = ("content_object", "group", "permission__content_type")
    search_fields = ("content_object__slug", "content_object__name", "group__name")


@admin.register(WorkflowRolePermission)
class RoleGrantAdmin(GrantAdmin):
    """What all who have a role may do with single workflows."""

    to = "role"
    list_display = ("content_object", "role", "permission")
    list_select_related = ("content_object", "role", "permission__content_type")
    search_fields = ("content_object__slug", "content_object__name", "role__name")
