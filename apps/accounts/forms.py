"""Forms of the login page and of the admin: they ask the rules of `services` and leave the writing to it."""

from typing import Any, cast

from django import forms
from django.contrib.auth import authenticate
from django.contrib.auth.forms import (
    AdminPasswordChangeForm,
    AdminUserCreationForm,
    AuthenticationForm,
    PasswordChangeForm,
)
from django.contrib.auth.forms import UserChangeForm as DjangoUserChangeForm

from apps.accounts import services
from apps.accounts.audit import is_refusal, refused
from apps.accounts.models import Role, User
from apps.accounts.ratelimit import LoginAttempt
from apps.core.errors import PlatformError, Unauthenticated


class LoginForm(AuthenticationForm):
    """The login page's form: for `LoginView(authentication_form=LoginForm)`."""

    code = forms.CharField(max_length=20, required=False)

    def clean(self) -> dict[str, Any]:
        """As Django's, with the code of a second factor; counted before the password is looked at.

        Too many attempts raise `TooMany` (429).
        """
        given = self.cleaned_data
        attempt = LoginAttempt(self.request) if self.request is not None else None
        if given.get("username") is not None and given.get("password"):
            try:
                self.user_cache = authenticate(
                    self.request, username=given["username"], password=given["password"], code=given.get("code", "")
                )
            except Unauthenticated as error:
                raise forms.ValidationError(error.detail, code=error.code) from None
            if self.user_cache is None:
                raise self.get_invalid_login_error()
        if attempt is not None:
            attempt.succeeded()
        return given


class _ByEditor(forms.BaseForm):
    """A form that knows who edits: the admin sets `editor` on the class it makes for a request."""

    editor: User | None = None

    def _ask(self, field: str | None, rule: Any, *args: Any, **kwargs: Any) -> None:
        try:
            rule(*args, **kwargs, by=self.editor)
        except PlatformError as error:
            self._refuse(field, error)

    def _refuse(self, field: str | None, error: PlatformError) -> None:
        """Say it on the form, and to the audit log."""
        self.add_error(field, error.detail)
        thing: Any = getattr(self, "instance", None) or getattr(self, "user", None)
        if self.editor is not None and thing is not None and is_refusal(error):
            verb, about = ("add", "") if thing._state.adding else ("change", thing.pk)
            noun = str(thing._meta.model_name)
            refused(f"admin.{verb}", by=self.editor.pk, object_type=noun, object_id=about, because=error.detail)


class UserChangeForm(_ByEditor, DjangoUserChangeForm):  # type: ignore[type-arg]  # no generic at run time
    """An account; its password has a page of its own."""

    class Meta:
        model = User
        fields = ("username", "first_name", "last_name", "email", "is_active", "roles", "groups")

    def clean(self) -> dict[str, Any]:
        """What the services would refuse is said on the form."""
        cleaned: dict[str, Any] = super().clean() or {}
        current = User.objects.get(pk=self.instance.pk)
        self._ask(None, services.check_may_change, current)
        before, after = set(current.roles.all()), set(cleaned.get("roles", current.roles.all()))
        self._ask("roles", services.check_grant, before ^ after)
        groups = set(current.groups.all())
        self._ask("groups", services.check_groups, groups ^ set(cleaned.get("groups", groups)))
        if cleaned.get("is_active") and not current.is_active:
            self._ask("is_active", services.check_may_open, current)
        loses = current.is_active and not cleaned.get("is_active", current.is_active)
        demoted = any(role.name == "admin" for role in before - after)
        if loses or demoted:
            try:
                services.check_not_last_admin(current)
            except PlatformError as error:
                self._refuse("is_active" if loses else "roles", error)
        return cleaned


class UserAddForm(_ByEditor, AdminUserCreationForm):  # type: ignore[type-arg]
    """A new account with its password and roles."""

    roles = forms.ModelMultipleChoiceField(queryset=Role.objects.all(), required=False)

    class Meta(AdminUserCreationForm.Meta):
        model = User
        fields = ("username", "email", "roles")

    def clean(self) -> dict[str, Any]:
        """Nobody makes an account that may more than themselves."""
        cleaned: dict[str, Any] = super().clean() or self.cleaned_data
        self._ask("roles", services.check_grant, list(cleaned.get("roles", ())))
        return cleaned


class UserPasswordForm(_ByEditor, AdminPasswordChangeForm):  # type: ignore[type-arg]
    """A new password for another account; `services` writes it and ends the account's sessions."""

    def clean(self) -> dict[str, Any]:
        """The password of a stronger account would be a way up."""
        cleaned: dict[str, Any] = super().clean() or self.cleaned_data
        if self.editor is None or self.editor.pk != self.user.pk:
            self._ask(None, services.check_may_open, self.user)
        return cleaned

    def save(self, commit: bool = True) -> User:  # noqa: ARG002
        """Set it, or take the possibility to log in by password away."""
        usable = self.cleaned_data["set_usable_password"]
        services.set_password(self.user, self.cleaned_data["password1"] if usable else None, by=self.editor)
        return cast("User", self.user)


class OwnPasswordForm(PasswordChangeForm):
    """One's own password, with the old one; other sessions and all tokens end."""

    required_css_class = "required"

    def save(self, commit: bool = True) -> User:  # noqa: ARG002
        """Written by `services`."""
        services.set_password(self.user, self.cleaned_data["new_password1"], by=self.user)
        return self.user


class PermissionsField(forms.ModelMultipleChoiceField):  # type: ignore[type-arg]  # no generic at run time
    """Permissions by code and meaning."""

    def label_from_instance(self, obj: Any) -> str:
        """Both, as one line."""
        return f"{obj.code}: {obj.description}" if obj.description else str(obj.code)


class RoleForm(_ByEditor, forms.ModelForm):  # type: ignore[type-arg]
    """A role and its permissions."""

    class Meta:
        model = Role
        fields = ("name", "description", "permissions")

    def clean(self) -> dict[str, Any]:
        """Nobody grants what they lack."""
        cleaned: dict[str, Any] = super().clean() or {}
        if "permissions" in cleaned:
            role = Role.objects.get(pk=self.instance.pk) if self.instance.pk else self.instance
            self._ask("permissions", services.check_role_permissions, role, set(cleaned["permissions"]))
        return cleaned
