"""Admin pages of accounts: users, roles, permissions, groups, API tokens.

`services` writes what ends sessions or grants rights.
"""

import copy
from typing import Any, ClassVar

from allauth.account.models import EmailAddress
from allauth.mfa.models import Authenticator
from allauth.socialaccount.models import SocialAccount, SocialApp, SocialToken
from django.contrib import admin
from django.contrib.auth.admin import UserAdmin as DjangoUserAdmin
from django.contrib.auth.models import Group
from django.db.models import Model, QuerySet
from django.forms import CheckboxSelectMultiple
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils.html import format_html

from apps.accounts import api_tokens, forms, grants, second_factor, services
from apps.accounts.admin_base import PermissionModelAdmin
from apps.accounts.audit import admin as audit_admin  # noqa: F401  # a page of this app, too
from apps.accounts.models import ApiToken, Permission, Role, User
from apps.accounts.permissions import Permission as P
from apps.accounts.permissions import Role as RoleName
from apps.core.errors import PlatformError

for model in (Authenticator, SocialAccount, SocialApp, SocialToken, EmailAddress):
    admin.site.unregister(model)  # allauth's own pages ask for nothing of ours

ACCOUNTS: dict[str, P] = dict.fromkeys(("view", "add", "change", "delete"), P.SYSTEM_ADMIN)
SHOWN = 20
"""Accounts that the page of a role names."""
PLAIN_FIELDS = {"username", "first_name", "last_name", "email"}


def _refused(rule: Any, *args: Any, **kwargs: Any) -> bool:
    try:
        rule(*args, **kwargs)
    except PlatformError:
        return True
    return False


@admin.register(User)
class UserAdmin(PermissionModelAdmin, DjangoUserAdmin):  # type: ignore[type-arg]
    """Accounts. One who holds more than the editor is shown and cannot be changed."""

    permissions = ACCOUNTS
    form = forms.UserChangeForm
    add_form = forms.UserAddForm
    change_password_form = forms.UserPasswordForm
    list_display = ("username", "email", "role_names", "is_active", "last_login", "date_joined")
    list_filter = ("is_active", "roles", "groups")
    search_fields = ("username", "first_name", "last_name", "email")
    filter_horizontal = ("roles", "groups")
    readonly_fields = ("last_login", "date_joined", "token_version")
    fieldsets = (
        (None, {"fields": ("username", "password")}),
        ("Person", {"fields": ("first_name", "last_name", "email")}),
        ("Rights", {"fields": ("is_active", "roles", "groups")}),
        ("History", {"fields": ("last_login", "date_joined", "token_version")}),
    )
    add_fieldsets = (
        (
            None,
            {
                "classes": ("wide",),
                "fields": ("username", "email", "usable_password", "password1", "password2", "roles"),
            },
        ),
    )
    actions = None  # deleting is one at a time: each asks who may and whether an admin is left

    @admin.display(description="roles")
    def role_names(self, user: User) -> str:
        """The roles, by name."""
        return ", ".join(role.name for role in user.roles.all())

    def get_queryset(self, request: HttpRequest) -> QuerySet[User]:
        """Users with their roles, in two queries."""
        users: QuerySet[User] = super().get_queryset(request)
        return users.prefetch_related("roles")

    def has_change_permission(self, request: HttpRequest, obj: User | None = None) -> bool:
        """Not an account that holds more than the editor."""
        if not super().has_change_permission(request, obj):
            return False
        return obj is None or not _refused(services.check_may_change, obj, by=request.user)

    def has_delete_permission(self, request: HttpRequest, obj: User | None = None) -> bool:
        """Nor the last active admin."""
        if not super().has_delete_permission(request, obj):
            return False
        return obj is None or not (
            _refused(services.check_may_change, obj, by=request.user) or _refused(services.check_not_last_admin, obj)
        )

    def get_form(self, request: HttpRequest, obj: User | None = None, change: bool = False, **kwargs: Any) -> Any:
        """The form, told who edits."""
        form: Any = super().get_form(request, obj, change=change, **kwargs)
        form.editor = request.user
        return form

    def user_change_password(self, request: HttpRequest, id: str, form_url: str = "") -> HttpResponse:  # noqa: A002
        """Django's page with a form that knows who edits; a copy, because pages are shared by all requests."""
        page = copy.copy(self)
        form: Any = type("UserPasswordForm", (forms.UserPasswordForm,), {"editor": request.user})
        page.change_password_form = form
        return super(UserAdmin, page).user_change_password(request, id, form_url)

    def save_model(self, request: HttpRequest, obj: User, form: Any, change: bool) -> None:
        """Through the services; names and addresses are written as they are, and only where they changed."""
        if not change:
            given = form.cleaned_data
            made = services.create_user(
                given["username"],
                password=given["password1"] if given["set_usable_password"] else None,
                email=given["email"],
                roles=list(given["roles"]),
                by=_editor(request),
            )
            obj.__dict__.update(made.__dict__)  # Django goes on with the object of its form
            return
        active, obj.is_active = obj.is_active, bool(form.initial["is_active"])
        if changed := PLAIN_FIELDS.intersection(form.changed_data):
            obj.save(update_fields=changed)
        services.set_active(obj, active, by=_editor(request))

    def save_related(self, request: HttpRequest, form: Any, formsets: Any, change: bool) -> None:
        """Groups as they are (the form has asked who may), roles through the services."""
        roles = form.cleaned_data.pop("roles", None)
        super().save_related(request, form, formsets, change)
        if roles is not None:
            services.set_roles(form.instance, list(roles), by=_editor(request))

    def delete_model(self, request: HttpRequest, obj: User) -> None:
        """Through the services."""
        services.delete_user(obj, by=_editor(request))


@admin.register(Role)
class RoleAdmin(PermissionModelAdmin):
    """Roles and what they permit. The five that every installation has keep their names."""

    permissions = ACCOUNTS
    form = forms.RoleForm
    list_display = ("name", "description", "permission_codes")
    list_filter = ("permissions",)
    search_fields = ("name", "description")
    actions = None
    fieldsets = (
        (None, {"fields": ("name", "description")}),
        ("What it permits", {"fields": ("permissions",)}),
        ("Who has it", {"fields": ("accounts", "shared")}),
    )

    @admin.display(description="accounts")
    def accounts(self, role: Role) -> str:
        """The first who have it, and the way to all."""
        if role.pk is None:
            return "nobody yet"
        names, count = list(role.users.values_list("username", flat=True)[:SHOWN]), role.users.count()
        rest = f" and {count - SHOWN} more" if count > SHOWN else ""
        where = f"{reverse('admin:accounts_user_changelist')}?roles__id__exact={role.pk}"
        return format_html('<a href="{}">{}</a>{}', where, ", ".join(names) or "nobody", rest)

    @admin.display(description="shared with it")
    def shared(self, role: Role) -> str:
        """How much was granted to it on single objects."""
        count = grants.count_shared_with(role) if role.pk else 0
        return f"{count} grants on single objects" if count else "nothing"

    def formfield_for_manytomany(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        """Permissions as boxes to tick, each with what it means."""
        if db_field.name == "permissions":
            kwargs |= {"widget": CheckboxSelectMultiple(), "form_class": forms.PermissionsField}
        return super().formfield_for_manytomany(db_field, request, **kwargs)

    @admin.display(description="permissions")
    def permission_codes(self, role: Role) -> str:
        """What it permits."""
        if role.name == RoleName.ADMIN:
            return "everything"
        return ", ".join(permission.code for permission in role.permissions.all())

    def get_queryset(self, request: HttpRequest) -> QuerySet[Role]:
        """Roles with their permissions, in two queries."""
        return super().get_queryset(request).prefetch_related("permissions")

    def get_readonly_fields(
        self,
        request: HttpRequest,  # noqa: ARG002
        obj: Role | None = None,
    ) -> tuple[str, ...]:
        """Names that code asks for stay; the admin role's permissions are all of them."""
        shown = ("accounts", "shared")
        if obj is None or obj.name not in set(RoleName):
            return shown
        return ("name", "permissions", *shown) if obj.name == RoleName.ADMIN else ("name", *shown)

    def has_delete_permission(self, request: HttpRequest, obj: Role | None = None) -> bool:
        """Not the roles of every installation, nor one that holds more than the editor."""
        if not super().has_delete_permission(request, obj):
            return False
        if obj is None:
            return True
        return obj.name not in set(RoleName) and not _refused(services.check_grant, [obj], by=request.user)

    def get_form(self, request: HttpRequest, obj: Role | None = None, change: bool = False, **kwargs: Any) -> Any:
        """The form, told who edits."""
        form: Any = super().get_form(request, obj, change, **kwargs)
        form.editor = request.user
        return form

    def save_related(self, request: HttpRequest, form: Any, formsets: Any, change: bool) -> None:
        """Permissions through the services."""
        granted = form.cleaned_data.pop("permissions", None)
        super().save_related(request, form, formsets, change)
        if granted is not None:
            services.set_role_permissions(form.instance, granted, by=_editor(request))

    def delete_model(self, request: HttpRequest, obj: Role) -> None:
        """Through the services."""
        services.delete_role(obj, by=_editor(request))


@admin.register(Permission)
class PermissionAdmin(PermissionModelAdmin):
    """The permissions the code knows: to read, never to edit."""

    permissions: ClassVar[dict[str, P]] = {"view": P.SYSTEM_READ}
    list_display = ("code", "description", "role_names")
    list_filter = ("roles",)
    search_fields = ("code", "description")

    @admin.display(description="roles")
    def role_names(self, permission: Permission) -> str:
        """Who holds it."""
        return ", ".join(role.name for role in permission.roles.all())

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        """Permissions with their roles, in two queries."""
        return super().get_queryset(request).prefetch_related("roles")


@admin.register(ApiToken)
class ApiTokenAdmin(PermissionModelAdmin):
    """API tokens: to see who has which, and to revoke them. They are made by their owners alone."""

    permissions: ClassVar[dict[str, P]] = {"view": P.SYSTEM_ADMIN, "delete": P.SYSTEM_ADMIN}
    list_display = ("name", "audience", "owner", "scope", "reach", "created_at", "expires_at", "last_used_at")
    list_filter = ("audience", "expires_at", "last_used_at", ("owner", admin.RelatedOnlyFieldListFilter))
    list_select_related = ("owner",)
    search_fields = ("name", "owner__username")
    fields = readonly_fields = list_display
    actions = None

    @admin.display(description="permissions")
    def scope(self, token: ApiToken) -> str:
        """What it may at most."""
        return ", ".join(token.permissions)

    @admin.display(description="workflows")
    def reach(self, token: ApiToken) -> str:
        """Which workflows it reaches."""
        return ", ".join(token.workflows) or "all of its owner's"

    def has_delete_permission(self, request: HttpRequest, obj: ApiToken | None = None) -> bool:
        """Not the token of an account that holds more than the editor."""
        if not super().has_delete_permission(request, obj):
            return False
        return obj is None or not _refused(services.check_may_change, obj.owner, by=request.user)

    def delete_model(self, request: HttpRequest, obj: ApiToken) -> None:  # noqa: ARG002
        """Revoke it."""
        api_tokens.revoke(obj)


@admin.register(Authenticator)
class AuthenticatorAdmin(PermissionModelAdmin):
    """Second factors: to see who has one, and to take it off for somebody whose device is lost."""

    permissions: ClassVar[dict[str, P]] = {"view": P.SYSTEM_ADMIN, "delete": P.SYSTEM_ADMIN}
    list_display = ("user", "type", "created_at", "last_used_at")
    list_filter = ("type", "last_used_at")
    list_select_related = ("user",)
    search_fields = ("user__username",)
    fields = readonly_fields = list_display  # never its data: the sealed secret
    actions = None

    def has_delete_permission(self, request: HttpRequest, obj: Authenticator | None = None) -> bool:
        """Not that of an account that holds more than the editor."""
        if not super().has_delete_permission(request, obj):
            return False
        return obj is None or not _refused(services.check_may_open, obj.user, by=request.user)

    def delete_model(self, request: HttpRequest, obj: Authenticator) -> None:
        """The whole second factor, recovery codes with it."""
        second_factor.remove(obj.user, by=_editor(request))


@admin.register(SocialAccount)
class IdentityAdmin(PermissionModelAdmin):
    """Identities at the OpenID Connect provider: to see which account is whose, and to disconnect one."""

    permissions: ClassVar[dict[str, P]] = {"view": P.SYSTEM_ADMIN, "delete": P.SYSTEM_ADMIN}
    list_display = ("user", "uid", "date_joined", "last_login")
    list_filter = ("last_login",)
    list_select_related = ("user",)
    search_fields = ("user__username", "uid")
    fields = readonly_fields = list_display
    actions = None

    def has_delete_permission(self, request: HttpRequest, obj: SocialAccount | None = None) -> bool:
        """Not that of an account that holds more than the editor."""
        if not super().has_delete_permission(request, obj):
            return False
        return obj is None or not _refused(services.check_may_change, obj.user, by=request.user)


admin.site.unregister(Group)


@admin.register(Group)
class GroupAdmin(PermissionModelAdmin):
    """Groups of accounts, to which single objects can be shared; a group has no rights of its own."""

    permissions = ACCOUNTS
    fields = ("name",)
    list_display = ("name",)
    search_fields = ("name",)


def _editor(request: HttpRequest) -> User:
    user: Model = request.user  # type: ignore[assignment]
    assert isinstance(user, User)  # noqa: S101  # the site lets in nobody else
    return user
