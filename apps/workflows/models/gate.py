"""The gate: what a caller may not read is not in his queryset. Deny by default."""

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Self, TypeVar
from uuid import UUID

from django.db import models
from django.db.models import Q

from apps.accounts.grants import objects_granted, objects_granted_to_roles
from apps.accounts.models import RoleObjectPermission
from apps.accounts.permissions import Permission, holds_by_role, scope_of

M = TypeVar("M", bound=models.Model)


def sees_all(user: Any, permission: Permission) -> bool:
    """Whether `user` has `permission` on every workflow, so that the gate leaves out nothing."""
    scope = scope_of(user)
    return holds_by_role(user, permission) and (scope is None or scope.workflows is None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sharing:
    """How things of one kind are owned and shared: their rows, the rows of grants on them, and what can be granted.

    `permissions` are those that are asked of such a thing, `key` is the field that names one in URLs, `read` what lets
    a caller know that it is there. An API token of single workflows reaches those alone: `narrowed` is their lookup.
    """

    noun: str
    model: Any
    people: type[models.Model]
    groups: type[models.Model]
    roles: type[RoleObjectPermission]
    verbs: tuple[str, ...]
    permissions: frozenset[str]
    read: Permission
    key: str
    narrowed: str | None = None

    def code(self, permission: Permission) -> str:
        """The grant that opens `permission` for what belongs to it: reading tasks of a workflow is reading it."""
        verb = permission.value.partition(":")[2]
        return f"{self.noun}:{verb if verb in self.verbs else 'update'}"

    def named(self, text: str) -> Mapping[str, str]:
        """The lookup of the one that is called so in URLs."""
        return {self.key: text}


class SharedQuerySet(models.QuerySet[M]):
    """Rows that are owned and shared, or belong to something that is; `path` says by which lookup ('' for itself)."""

    path = ""

    @classmethod
    def sharing(cls) -> Sharing:
        """How what the rows belong to is shared."""
        raise NotImplementedError

    def visible_to(self, user: Any, permission: Permission) -> Self:
        """The rows for which `user` has `permission`: by role, by ownership, or by an object grant.

        Of these an API token sees none without the permission in its scope, and only its own workflows'.
        """
        scope = scope_of(user)
        if scope is None:
            return self._held_by(user, permission)
        narrowed = self.sharing().narrowed
        if permission not in scope.permissions or (scope.workflows is not None and narrowed is None):
            return self.none()
        rows = self._held_by(user, permission)
        return rows if scope.workflows is None else rows.filter(**{f"{self._prefix}{narrowed}__in": scope.workflows})

    def visible_to_each(self, users: Collection[UUID], permission: Permission) -> dict[UUID, set[Any]]:
        """By account the keys of those rows that it has `permission` for by ownership or a grant: four queries for all.

        As `visible_to` says of each of them, if no role of it has the permission and it speaks for no API token.
        `users` are active accounts.
        """
        prefix, people = self._prefix, set(users)
        rows = list(self.order_by().values_list("pk", f"{prefix}pk", f"{prefix}owner_id"))
        things = {thing for _, thing, _ in rows}
        held = {(owner, thing) for _, thing, owner in rows if owner in people}
        for grants, who in self._grants_to(people, permission):
            held.update(grants.filter(content_object__in=things).values_list(who, "content_object"))
        by_thing: dict[Any, set[UUID]] = defaultdict(set)
        for user, thing in held:
            by_thing[thing].add(user)
        found: dict[UUID, set[Any]] = {user: set() for user in people}
        for key, thing, _ in rows:
            for user in by_thing[thing] & people:
                found[user].add(key)
        return found

    def seen_by_some(self, users: Collection[UUID], permission: Permission) -> set[UUID]:
        """Those of these accounts that own any of the shared things, or were granted `permission` on one."""
        prefix, people = self._prefix, set(users)
        found = set(
            self.filter(**{f"{prefix}owner__in": people}).order_by().values_list(f"{prefix}owner_id", flat=True)
        )
        for grants, who in self._grants_to(people, permission):
            found.update(grants.values_list(who, flat=True).distinct())
        return found & people

    def _grants_to(self, users: Collection[UUID], permission: Permission) -> Iterator[tuple[models.QuerySet[Any], str]]:
        """The grants that open `permission` to these accounts, their own, their groups' and their roles'; and whose."""
        sharing = self.sharing()
        for kind, who in ((sharing.people, "user"), (sharing.groups, "group__user"), (sharing.roles, "role__users")):
            of_them = {f"{who}__in": users, "permission__codename": sharing.code(permission)}
            yield kind._default_manager.filter(**of_them).order_by(), who

    @property
    def _prefix(self) -> str:
        return f"{self.path}__" if self.path else ""

    def _held_by(self, user: Any, permission: Permission) -> Self:
        if holds_by_role(user, permission):
            return self.all()
        if not user.is_authenticated or not user.is_active:
            return self.none()
        sharing = self.sharing()
        code = sharing.code(permission)
        granted = objects_granted(user, code, sharing.model)
        by_role = objects_granted_to_roles(user, code, sharing.roles)
        owner: Q = Q(**{f"{self._prefix}owner_id": user.pk})
        in_one = f"{self._prefix}pk__in"
        return self.filter(owner | Q(**{in_one: granted}) | Q(**{in_one: by_role}))


class GatedQuerySet(SharedQuerySet[M]):
    """Rows that belong to a workflow, or are one."""

    path = "workflow"

    @classmethod
    def sharing(cls) -> Sharing:
        """As workflows are."""
        from apps.workflows.models import workflows

        return workflows.SHARING
