"""Grants on single objects (guardian), as what querysets ask: which ids was this caller granted?"""

from typing import TYPE_CHECKING, Any, TypeVar

from django.apps import apps
from django.db.models import ForeignKey, Model
from django.db.models.query import QuerySet
from guardian.shortcuts import get_objects_for_user

from apps.accounts.models import Role, RoleObjectPermission

if TYPE_CHECKING:
    from apps.accounts.permissions import Caller

M = TypeVar("M", bound=Model)


def objects_granted(user: "Caller", permission_code: str, model: type[M]) -> "QuerySet[M, Any]":
    """The primary keys of `model` on which `user`, or a group of theirs, was granted `permission_code`.

    For `filter(pk__in=…)` in a queryset. Roles have no part in it; anonymous and inactive callers were granted
    nothing. The code is a codename of the model's `Meta.permissions`.
    """
    if user is None or not user.is_authenticated or not user.is_active:
        return model._default_manager.none().values_list("pk", flat=True)
    granted: QuerySet[M] = get_objects_for_user(
        user, permission_code, klass=model, with_superuser=False, accept_global_perms=False
    )
    return granted.order_by().values_list("pk", flat=True)


def objects_granted_to_roles(
    user: "Caller", permission_code: str, grants: type[RoleObjectPermission]
) -> "QuerySet[Any, Any]":
    """The primary keys of the objects on which a role of `user` was granted `permission_code`, as rows of `grants`.

    For `filter(pk__in=…)`, like `objects_granted`.
    """
    rows: QuerySet[Any] = grants._default_manager.filter(permission__codename=permission_code)
    if user is None or not user.is_authenticated or not user.is_active:
        rows = rows.none()
    else:
        rows = rows.filter(role__users=user.pk)
    return rows.values_list("content_object_id", flat=True)


def count_shared_with(role: Role) -> int:
    """How many grants `role` has on single objects, of whatever kind."""
    return sum(kind._default_manager.filter(role=role.pk).count() for kind in kinds_of_grants(RoleObjectPermission))


def is_shared_with(role: Role) -> bool:
    """Whether anything was granted to `role` on single objects."""
    return count_shared_with(role) > 0


def kinds_of_grants(base: type[Model]) -> list[type[Model]]:
    """The rows of grants that are made from `base`: of every installed app, a model for each kind of things.

    Not guardian's own rows for things of any kind, which nothing here is granted by.
    """
    return [kind for kind in apps.get_models() if issubclass(kind, base) and _names_its_thing(kind)]


def _names_its_thing(kind: type[Model]) -> bool:
    return isinstance(kind._meta.get_field("content_object"), ForeignKey)
