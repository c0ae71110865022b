"""The permissions and roles by name, and the questions asked about a caller.

Roles and their permissions are rows (`models.Role`, `models.Permission`) that operators edit; the names are code.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, TypeAlias
from uuid import UUID

from asgiref.sync import sync_to_async
from django.conf import settings
from django.contrib.auth.models import AnonymousUser
from django.db.models import CharField, QuerySet, UUIDField

from apps.core.errors import Denied, Unauthenticated
from apps.core.prepared import Parameter, Prepared

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """What an API token may of what its owner may: these permissions, and on these workflows only (`None`: on all)."""

    token_id: UUID
    permissions: frozenset[str]
    workflows: frozenset[str] | None


OF_WORKFLOWS = frozenset(
    str(permission)
    for permission in Permission
    if permission.partition(":")[0] in ("workflow", "task", "progress") and not permission.endswith(":create")
)
"""The permissions that are asked of a workflow: all that a token of single workflows can have."""

_ALL = frozenset(str(permission) for permission in Permission)
_NONE: frozenset[str] = frozenset()
_CACHE = "_held"
_SCOPE = "_scope"


def _held(user: Any) -> tuple[frozenset[str], frozenset[str]]:
    """(roles, permissions) of `user`, read once for each user object (one query)."""
    if user is None:
        user = AnonymousUser()
    held: tuple[frozenset[str], frozenset[str]] | None = getattr(user, _CACHE, None)
    if held is not None:
        return held
    pairs: list[tuple[Any, ...]] = []
    if user.is_anonymous:
        if name := settings.ENV.ANONYMOUS_ROLE:
            pairs = _OF_A_ROLE.rows(name=name)
    elif user.is_active:
        pairs = _OF_A_USER.rows(user=user.pk)
    held = _of_pairs(pairs)
    setattr(user, _CACHE, held)
    return held


def _pairs(**of: Any) -> QuerySet[Any, Any]:
    """The roles that are asked for with their permissions' codes: (name, code)."""
    from apps.accounts.models import Role as RoleRow

    return RoleRow.objects.filter(**of).values_list("name", "permissions__code")


_OF_A_USER = Prepared(lambda: _pairs(users=Parameter("user", UUIDField())))
_OF_A_ROLE = Prepared(lambda: _pairs(name=Parameter("name", CharField())))


def know(users: Iterable["User"]) -> None:
    """Read the roles and permissions of these users now, in one query for all."""
    from apps.accounts.models import Role as RoleRow

    asked = {user.pk: user for user in users if user.is_active and not hasattr(user, _CACHE)}
    if not asked:
        return
    pairs: dict[Any, list[tuple[str, str | None]]] = {key: [] for key in asked}
    rows = RoleRow.objects.filter(users__in=list(asked)).values_list("users", "name", "permissions__code")
    for key, name, code in rows:
        pairs[key].append((name, code))
    for key, user in asked.items():
        setattr(user, _CACHE, _of_pairs(pairs[key]))


def _of_pairs(pairs: Collection[tuple[Any, ...]]) -> tuple[frozenset[str], frozenset[str]]:
    roles = frozenset(name for name, _ in pairs)
    return roles, (_ALL if Role.ADMIN in roles else frozenset(code for _, code in pairs if code))


def narrow(user: "User", scope: Scope) -> None:
    """Let this user object speak for an API token: from here on it may what `scope` leaves of its rights."""
    setattr(user, _SCOPE, scope)


def scope_of(user: Caller) -> Scope | None:
    """The scope of the API token that `user` came by; `None` for a person."""
    return getattr(user, _SCOPE, None)


def permissions_of(user: Caller) -> frozenset[str]:
    """The codes `user` holds through roles; an inactive user holds none, the admin role holds all.

    A caller without credentials holds those of `ANONYMOUS_ROLE` (none by default), an API token what both its scope
    and its owner's roles have; one of single workflows holds nothing everywhere.
    """
    scope = scope_of(user)
    if scope is None:
        return _held(user)[1]
    return _NONE if scope.workflows is not None else _held(user)[1] & scope.permissions


def roles_of(user: Caller) -> frozenset[str]:
    """The names of the roles of `user`; an API token has permissions and no role."""
    return _held(user)[0] if scope_of(user) is None else _NONE


def forget(user: Caller) -> None:
    """Read roles and permissions anew at the next question; for whoever changed them."""
    if hasattr(user, _CACHE):
        delattr(user, _CACHE)


def holds(user: Caller, permission: str) -> bool:
    """Whether `user` holds `permission` through a role (grants on single objects are the querysets' matter)."""
    return permission in permissions_of(user)


def holds_by_role(user: Caller, permission: str) -> bool:
    """As `holds`, for a gate that looks at a token's workflows itself: whether a role of `user` has `permission`."""
    scope = scope_of(user)
    return permission in _held(user)[1] and (scope is None or permission in scope.permissions)


def require_person(user: Caller) -> None:
    """Raises `Denied` for an API token: tokens make no tokens, change no password and grant nothing."""
    if scope_of(user) is not None:
        raise Denied("An API token may not do this: log in.", code="person_required")


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
