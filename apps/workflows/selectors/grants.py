"""Who was granted what on a workflow, and why a caller may or may not do something: reads."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, TypeAlias

from django.contrib.auth.models import Group
from django.db.models import Q

from apps.accounts.models import Role, User
from apps.accounts.permissions import Permission, holds, scope_of
from apps.accounts.permissions import Role as RoleName
from apps.workflows.models import Workflow, WorkflowGroupPermission, WorkflowRolePermission, WorkflowUserPermission
from apps.workflows.models.gate import object_code

VERBS = ("read", "update", "execute", "delete")
Grantee: TypeAlias = User | Group | Role
"""Whom a workflow can be shared with."""
MOST = 1000  # grants that a list shows


@dataclass(frozen=True, slots=True, kw_only=True)
class Granted:
    """What one person, one group, or whoever has one role may do with a workflow."""

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


def grants_on(workflow: Workflow) -> list[Granted]:
    """People first, then groups, then roles, each by name; at most `MOST` of either."""
    people = _grouped(
        WorkflowUserPermission.objects.filter(content_object=workflow).values_list(
            "user__username", "permission__codename"
        )
    )
    groups = _grouped(
        WorkflowGroupPermission.objects.filter(content_object=workflow).values_list(
            "group__name", "permission__codename"
        )
    )
    roles = _grouped(
        WorkflowRolePermission.objects.filter(content_object=workflow).values_list("role__name", "permission__codename")
    )
    return [
        *(Granted(user=name, group=None, role=None, permissions=verbs) for name, verbs in people),
        *(Granted(user=None, group=name, role=None, permissions=verbs) for name, verbs in groups),
        *(Granted(user=None, group=None, role=name, permissions=verbs) for name, verbs in roles),
    ]


def rows_of(to: Grantee) -> Any:
    """The rows of what was granted to `to`, on whatever workflow."""
    if isinstance(to, User):
        return WorkflowUserPermission.objects.filter(user=to)
    if isinstance(to, Role):
        return WorkflowRolePermission.objects.filter(role=to)
    return WorkflowGroupPermission.objects.filter(group=to)


def verbs_of(workflow: Workflow, to: Grantee) -> frozenset[str]:
    """What was granted to `to` itself, as words of `VERBS`."""
    codes = rows_of(to).filter(content_object=workflow).values_list("permission__codename", flat=True)
    return frozenset(code.partition(":")[2] for code in codes)


def explain(user: User, permission: Permission, workflow: Workflow | None) -> Explanation:
    """Why `user` may or may not do what asks for `permission`, on `workflow` or (`None`) everywhere."""
    if workflow is None:
        allowed = holds(user, permission)
    else:
        allowed = Workflow.objects.visible_to(user, permission).filter(pk=workflow.pk).exists()
    given, denied = list(_by_role(user, permission)), []
    if workflow is not None:
        given += _by_object(user, permission, workflow)
    if not user.is_active:
        denied.append(Reason(kind="inactive", name=user.username))
    if given and not allowed and (scope := scope_of(user)):
        denied.append(Reason(kind="api_token", name=str(scope.token_id)))
    return Explanation(allowed=allowed, given_by=tuple(given), denied_by=tuple(denied))


def _by_role(user: User, permission: Permission) -> Iterable[Reason]:
    roles = Role.objects.filter(users=user.pk).filter(Q(name=RoleName.ADMIN) | Q(permissions__code=permission))
    for name in roles.order_by("name").values_list("name", flat=True).distinct():
        yield Reason(kind="role", name=name)


def _by_object(user: User, permission: Permission, workflow: Workflow) -> Iterable[Reason]:
    if workflow.owner_id == user.pk:
        yield Reason(kind="ownership", name=user.username)
    code = object_code(permission)
    if WorkflowUserPermission.objects.filter(content_object=workflow, user=user, permission__codename=code).exists():
        yield Reason(kind="grant", name=user.username)
    groups = WorkflowGroupPermission.objects.filter(
        content_object=workflow, group__in=user.groups.all(), permission__codename=code
    )
    for name in groups.order_by("group__name").values_list("group__name", flat=True):
        yield Reason(kind="group_grant", name=name)
    roles = WorkflowRolePermission.objects.filter(
        content_object=workflow, role__users=user.pk, permission__codename=code
    )
    for name in roles.order_by("role__name").values_list("role__name", flat=True):
        yield Reason(kind="role_grant", name=name)


def _grouped(pairs: Any) -> list[tuple[str, tuple[str, ...]]]:
    found: dict[str, set[str]] = {}
    for name, code in pairs[: MOST * len(VERBS)]:
        found.setdefault(name, set()).add(code.partition(":")[2])
    return [(name, tuple(verb for verb in VERBS if verb in found[name])) for name in sorted(found)[:MOST]]
