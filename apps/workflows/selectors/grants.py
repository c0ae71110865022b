"""Who was granted what on a workflow or an agent, and why a caller may or may not do something: reads."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, TypeAlias

from django.contrib.auth.models import Group
from django.db.models import Model, Q

from apps.accounts.models import Role, User
from apps.accounts.permissions import Permission, holds, scope_of
from apps.accounts.permissions import Role as RoleName
from apps.workflows.models.gate import Sharing
from apps.workflows.models.workflows import SHARING as WORKFLOWS

Grantee: TypeAlias = User | Group | Role
"""With whom a thing can be shared."""
MOST = 1000  # grants that a list shows

_kinds: dict[type[Model], Sharing] = {WORKFLOWS.model: WORKFLOWS}


def also(kind: Sharing) -> None:
    """Things of this kind are shared, too: an app of a higher floor has them."""
    _kinds[kind.model] = kind


def sharing_of(thing: Model) -> Sharing:
    """How `thing` is shared."""
    return _kinds[type(thing)]


def asked_of(permission: Permission) -> Sharing | None:
    """The kind of things of which `permission` is asked; None where it is asked of none."""
    return next((kind for kind in _kinds.values() if permission in kind.permissions), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Granted:
    """What one person, one group, or whoever has one role may do with a thing."""

    user: str | None
    group: str | None
    role: str | None
    permissions: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reason:
    """What gives a permission: `role`, `ownership`, `grant`, `group_grant`, `role_grant`.

    Or what takes it: `inactive`, `api_token`.

    `name` is the role, the owner, the account, the group, or the token's id.
    """

    kind: str
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """The gate's answer; all that gives the permission, and what takes it where it is not allowed all the same."""

    allowed: bool
    given_by: tuple[Reason, ...]
    denied_by: tuple[Reason, ...]


def grants_on(thing: Model) -> list[Granted]:
    """People first, then groups, then roles, each by name; at most `MOST` of either."""
    kind = sharing_of(thing)
    people = _grouped(kind, kind.people, thing, "user__username")
    groups = _grouped(kind, kind.groups, thing, "group__name")
    roles = _grouped(kind, kind.roles, thing, "role__name")
    return [
        *(Granted(user=name, group=None, role=None, permissions=verbs) for name, verbs in people),
        *(Granted(user=None, group=name, role=None, permissions=verbs) for name, verbs in groups),
        *(Granted(user=None, group=None, role=name, permissions=verbs) for name, verbs in roles),
    ]


def rows_of(kind: Sharing, to: Grantee) -> Any:
    """The rows of what was granted to `to`, on whatever thing of this kind."""
    if isinstance(to, User):
        return kind.people._default_manager.filter(user=to)
    if isinstance(to, Role):
        return kind.roles._default_manager.filter(role=to)
    return kind.groups._default_manager.filter(group=to)


def verbs_of(thing: Model, to: Grantee) -> frozenset[str]:
    """What was granted to `to` itself, as words of the kind's `verbs`."""
    rows = rows_of(sharing_of(thing), to).filter(content_object=thing)
    return frozenset(code.partition(":")[2] for code in rows.values_list("permission__codename", flat=True))


def explain(user: User, permission: Permission, thing: Model | None) -> Explanation:
    """Why `user` may or may not do what asks for `permission`, on `thing` or (`None`) everywhere."""
    if thing is None:
        allowed = holds(user, permission)
    else:
        allowed = sharing_of(thing).model.objects.visible_to(user, permission).filter(pk=thing.pk).exists()
    given, denied = list(_by_role(user, permission)), []
    if thing is not None:
        given += _by_object(user, permission, thing)
    if not user.is_active:
        denied.append(Reason(kind="inactive", name=user.username))
    if given and not allowed and (scope := scope_of(user)):
        denied.append(Reason(kind="api_token", name=str(scope.token_id)))
    return Explanation(allowed=allowed, given_by=tuple(given), denied_by=tuple(denied))


def _by_role(user: User, permission: Permission) -> Iterable[Reason]:
    roles = Role.objects.filter(users=user.pk).filter(Q(name=RoleName.ADMIN) | Q(permissions__code=permission))
    for name in roles.order_by("name").values_list("name", flat=True).distinct():
        yield Reason(kind="role", name=name)


def _by_object(user: User, permission: Permission, thing: Any) -> Iterable[Reason]:
    if thing.owner_id == user.pk:
        yield Reason(kind="ownership", name=user.username)
    kind = sharing_of(thing)
    alike: dict[str, Any] = {"content_object": thing, "permission__codename": kind.code(permission)}
    if kind.people._default_manager.filter(user=user, **alike).exists():
        yield Reason(kind="grant", name=user.username)
    groups = kind.groups._default_manager.filter(group__in=user.groups.all(), **alike)
    for name in groups.order_by("group__name").values_list("group__name", flat=True):
        yield Reason(kind="group_grant", name=name)
    roles: Any = kind.roles._default_manager.filter(role__users=user.pk, **alike)
    for name in roles.order_by("role__name").values_list("role__name", flat=True):
        yield Reason(kind="role_grant", name=name)


def _grouped(kind: Sharing, rows: type[Model], thing: Model, whose: str) -> list[tuple[str, tuple[str, ...]]]:
    found: dict[str, set[str]] = {}
    pairs = rows._default_manager.filter(content_object=thing).values_list(whose, "permission__codename")
    for name, code in pairs[: MOST * len(kind.verbs)]:
        found.setdefault(name, set()).add(code.partition(":")[2])
    return [(name, tuple(verb for verb in kind.verbs if verb in found[name])) for name in sorted(found)[:MOST]]
