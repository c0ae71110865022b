"""Rows of accounts: users, roles, permissions, the families of refresh tokens, API tokens."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any, ClassVar

import uuid6
from django.contrib.auth.models import AbstractUser, BaseUserManager
from django.db import models, transaction
from django.utils.crypto import salted_hmac
from guardian.models import BaseObjectPermission

from apps.accounts.permissions import Permission as PermissionCode
from apps.accounts.permissions import Role as RoleName
from apps.accounts.permissions import holds, permissions_of, scope_of


class Permission(models.Model):
    """One of the permissions the code knows; inserted by `migrate`, never edited."""

    code = models.CharField(max_length=64, unique=True)
    description = models.CharField(max_length=200, blank=True)

    class Meta:
        ordering: ClassVar = ["code"]

    def __str__(self) -> str:
        return self.code


class Role(models.Model):
    """A named set of permissions."""

    name = models.CharField(max_length=64, unique=True)
    description = models.CharField(max_length=200, blank=True)
    permissions = models.ManyToManyField(Permission, blank=True, related_name="roles")

    class Meta:
        ordering: ClassVar = ["name"]

    def __str__(self) -> str:
        return self.name


class UserManager(BaseUserManager["User"]):
    """Makes users; rights come from roles alone."""

    use_in_migrations = False

    def create_user(self, username: str, email: str = "", password: str | None = None, **extra: Any) -> "User":
        """A user without roles; without a password nobody can log in as it."""
        user = self.model(username=self.model.normalize_username(username), email=self.normalize_email(email), **extra)
        user.set_password(password)
        user.save(using=self._db)
        return user

    def create_superuser(self, username: str, email: str = "", password: str | None = None, **extra: Any) -> "User":
        """What Django's tools call a superuser is here a user with the role `admin`."""
        from apps.accounts import audit  # it imports this module

        with audit.command("createsuperuser"), transaction.atomic(using=self._db):
            user = self.create_user(username, email, password, **extra)
            user.roles.add(Role.objects.using(self._db).get(name=RoleName.ADMIN))
        return user


class User(AbstractUser):
    """An account. Rights come from `roles`; nothing anywhere is opened by a flag on the user."""

    id = models.UUIDField(primary_key=True, default=uuid6.uuid7, editable=False)
    roles = models.ManyToManyField(Role, blank=True, related_name="users")
    token_version = models.PositiveIntegerField(
        default=0, editable=False, help_text="Raised to end every session and token of this user at once."
    )

    # Django's flags and global permission rows would be a second source of rights: they have no column here.
    is_superuser = False
    user_permissions = None  # type: ignore[assignment]

    objects: ClassVar[UserManager] = UserManager()  # type: ignore[assignment]

    class Meta:
        ordering: ClassVar = ["username"]

    def save(self, *args: Any, **kwargs: Any) -> None:
        """As Django's; a new password written with the whole row (`manage.py changepassword`) ends every token."""
        changed = (
            getattr(self, "_password", None) is not None
            and not self._state.adding
            and kwargs.get("update_fields") is None
        )
        if changed:
            self.token_version = User.objects.values_list("token_version", flat=True).get(pk=self.pk) + 1
        with transaction.atomic(using=kwargs.get("using")):  # with what the audit log says of it
            super().save(*args, **kwargs)

    @property
    def is_staff(self) -> bool:  # type: ignore[override]
        """Whether Django's admin site lets this user in."""
        return self.is_active and (holds(self, PermissionCode.SYSTEM_ADMIN) or holds(self, PermissionCode.SYSTEM_READ))

    def has_perm(self, perm: str, obj: models.Model | None = None) -> bool:
        """Django's question, answered from roles; on an object, from guardian's grants as well."""
        if not self.is_active:
            return False
        code = perm.rpartition(".")[2]
        if obj is None or code in permissions_of(self) or scope_of(self) is not None:
            # On objects an API token is asked by the gates of their apps, which know what its scope means there.
            return code in permissions_of(self)
        return super().has_perm(perm, obj)

    def has_perms(self, perm_list: Iterable[str], obj: models.Model | None = None) -> bool:
        """Whether all of them are held."""
        return all(self.has_perm(perm, obj) for perm in perm_list)

    def has_module_perms(self, app_label: str) -> bool:  # noqa: ARG002
        """Each admin page asks for its own permission; the question about a whole app opens nothing."""
        return False

    def get_session_auth_hash(self) -> str:
        """Changes with the password and the token version, so that raising the version ends sessions too."""
        return self._versioned_hash(None)

    def get_session_auth_fallback_hash(self) -> Iterable[str]:
        """The same under the keys of `SECRET_KEY_FALLBACKS`."""
        from django.conf import settings

        for key in settings.SECRET_KEY_FALLBACKS:
            yield self._versioned_hash(key)

    def _versioned_hash(self, secret: str | bytes | None) -> str:
        return salted_hmac(
            "apps.accounts.models.User.session",
            f"{self.token_version}:{self.password}",
            secret=secret,
            algorithm="sha256",
        ).hexdigest()


class RefreshFamily(models.Model):
    """All tokens that descend from one login; revoked together."""

    id = models.UUIDField(primary_key=True, default=uuid6.uuid7, editable=False)
    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="refresh_families")
    created_at = models.DateTimeField(auto_now_add=True)
    expires_at = models.DateTimeField(help_text="When its newest refresh token expires; later it is removed.")
    revoked_at: "models.DateTimeField[datetime | str | None, datetime | None]" = models.DateTimeField(
        null=True, blank=True
    )

    class Meta:
        verbose_name_plural = "refresh families"
        indexes: ClassVar[list[models.Index]] = [models.Index(fields=["user", "expires_at"])]

    def __str__(self) -> str:
        return str(self.id)


class RefreshToken(models.Model):
    """One refresh token that was issued; using it is claiming this row."""

    jti = models.UUIDField(primary_key=True, editable=False)
    family = models.ForeignKey(RefreshFamily, on_delete=models.CASCADE, related_name="tokens")
    expires_at = models.DateTimeField()
    used_at = models.DateTimeField(null=True, blank=True)

    def __str__(self) -> str:
        return str(self.jti)


class ApiToken(models.Model):
    """A long-lived credential for scrapers, scripts and agents; deleting it revokes it. Only its digest is kept."""

    class Audience(models.TextChoices):
        """Where it counts: on the API as its owner, narrowed; or on the routes of one agent, and nowhere else."""

        API = "api", "API"
        AGENT = "agent", "agent"

    id = models.UUIDField(primary_key=True, default=uuid6.uuid7, editable=False)
    owner = models.ForeignKey(User, on_delete=models.CASCADE, related_name="api_tokens")
    name = models.CharField(max_length=100)
    audience = models.CharField(max_length=5, choices=Audience.choices, default=Audience.API, db_default=Audience.API)
    digest = models.CharField(max_length=64, unique=True, editable=False)  # SHA-256, hexadecimal
    permissions: "models.JSONField[list[str], list[str]]" = models.JSONField(default=list)
    workflows: "models.JSONField[list[str], list[str]]" = models.JSONField(
        default=list, blank=True, help_text="Slugs of the only workflows it reaches; empty: all that its owner does."
    )
    created_at = models.DateTimeField(auto_now_add=True)
    expires_at = models.DateTimeField()
    last_used_at: "models.DateTimeField[datetime | str | None, datetime | None]" = models.DateTimeField(
        null=True, blank=True, help_text="To within some minutes."
    )

    class Meta:
        verbose_name = "API token"
        ordering: ClassVar = ["-id"]

    def __str__(self) -> str:
        return self.name


class RoleObjectPermission(BaseObjectPermission):
    """A permission of all who have a role on one object: beside guardian's for people and groups, of the same form."""

    role = models.ForeignKey(Role, on_delete=models.CASCADE)
    content_object: Any  # a foreign key of each subclass

    class Meta:
        abstract = True

    def __str__(self) -> str:
        return f"{self.content_object} | {self.role} | {self.permission.codename}"


from apps.accounts.audit.models import AuditEntry, AuditHead  # noqa: E402, F401  # rows of this app, too
