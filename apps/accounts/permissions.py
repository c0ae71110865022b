"""The permissions and roles by name, and the four questions asked about a caller.

Roles and their permissions are rows (`models.Role`, `models.Permission`) that operators edit; the names are code.
"""

from enum import StrEnum
from typing import TYPE_CHECKING, Any, TypeAlias

from asgiref.sync import sync_to_async
from django.conf import settings
from django.contrib.auth.models import AnonymousUser

from apps.core.errors import Denied, Unauthenticated

if TYPE_CHECKING:
    from apps.accounts.models import User

Caller: TypeAlias = "User | AnonymousUser | None"
"""Whoever asks: an account, or nobody in particular."""


class Permission(StrEnum):
    """What a caller may do; the value is the code in rows, tokens' answers and guardian's codenames."""

    WORKFLOW_CREATE = "workflow:create"
    WORKFLOW_READ = "workflow:read"
    WORKFLOW_UPDATE = "workflow:update"
    WORKFLOW_DELETE = "workflow:delete"
    WORKFLOW_EXECUTE = "workflow:execute"
    TASK_CREATE = "task:create"
    TASK_READ = "task:read"
    TASK_UPDATE = "task:update"
    TASK_DELETE = "task:delete"
    TASK_EXECUTE = "task:execute"
    AGENT_CREATE = "agent:create"
    AGENT_READ = "agent:read"
    AGENT_UPDATE = "agent:update"
    AGENT_DELETE = "agent:delete"
    AGENT_EXECUTE = "agent:execute"
    SYSTEM_ADMIN = "system:admin"
    SYSTEM_READ = "system:read"
    SYSTEM_UPDATE = "system:update"
    MONITORING_READ = "monitoring:read"
    MONITORING_UPDATE = "monitoring:update"
    PROGRESS_READ = "progress:read"
    PROGRESS_UPDATE = "progress:update"


class Role(StrEnum):
    """The roles every installation has; operators may add others."""

    ADMIN = "admin"
    USER = "user"
    AGENT = "agent"
    SYSTEM = "system"
    GUEST = "guest"


_ALL = frozenset(str(permission) for permission in Permission)
_NONE: frozenset[str] = frozenset()
_CACHE = "_held"


def _held(user: Any) -> tuple[frozenset[str], frozenset[str]]:
    """(roles, permissions) of `user`, read once for each user object (one query)."""
    from apps.accounts.models import Role as RoleRow

    if user is None:
        user = AnonymousUser()
    held: tuple[frozenset[str], frozenset[str]] | None = getattr(user, _CACHE, None)
    if held is not None:
        return held
    if user.is_anonymous:
        name = settings.ENV.ANONYMOUS_ROLE
        rows = RoleRow.objects.filter(name=name) if name else None
    else:
        rows = RoleRow.objects.filter(users=user.pk) if user.is_active else None
    pairs = list(rows.values_list("name", "permissions__code")) if rows is not None else []
    roles = frozenset(name for name, _ in pairs)
    held = roles, (_ALL if Role.ADMIN in roles else frozenset(code for _, code in pairs if code))
    setattr(user, _CACHE, held)
    return held


def permissions_of(user: Caller) -> frozenset[str]:
    """The codes `user` holds through roles; an inactive user holds none, the admin role holds all.

    A caller without credentials holds those of `ANONYMOUS_ROLE` (none by default).
    """
    return _held(user)[1]


def roles_of(user: Caller) -> frozenset[str]:
    """The names of the roles of `user`."""
    return _held(user)[0]


def forget(user: Caller) -> None:
    """Read roles and permissions anew at the next question; for whoever changed them."""
    if hasattr(user, _CACHE):
        delattr(user, _CACHE)


def holds(user: Caller, permission: str) -> bool:
    """Whether `user` holds `permission` through a role (grants on single objects are the querysets' matter)."""
    return permission in permissions_of(user)


def require(user: Caller, permission: str) -> None:
    """Raises `Unauthenticated` where a credential is missing, `Denied` where the known caller may not."""
    if not holds(user, permission):
        raise _refusal(user, f"This needs the permission {permission}.")


def require_role(user: Caller, role: str) -> None:
    """As `require`, for a role; the admin role stands in for every other."""
    held = roles_of(user)
    if role not in held and Role.ADMIN not in held:
        raise _refusal(user, f"This needs the role {role}.")


async def arequire(user: Caller, permission: str) -> None:
    """`require` for async code; without a thread where the answer is already known."""
    if user is not None and hasattr(user, _CACHE):
        require(user, permission)
    else:
        await sync_to_async(require)(user, permission)


async def arequire_role(user: Caller, role: str) -> None:
    """`require_role` for async code."""
    await sync_to_async(require_role)(user, role)


def _refusal(user: Caller, detail: str) -> Unauthenticated | Denied:
    if user is None or user.is_anonymous:
        return Unauthenticated("Authentication credentials were not provided.")
    return Denied(detail)
