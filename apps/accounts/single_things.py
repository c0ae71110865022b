"""What an account holds on single things, whatever they are: for who would let himself in as that account."""

from typing import Any

from guardian.models import GroupObjectPermissionBase, UserObjectPermissionBase

from apps.accounts.grants import kinds_of_grants
from apps.accounts.models import RoleObjectPermission, User


def held_on_single_things(user: User, *, apart_from: User) -> set[str]:
    """The codes that `user` holds on single things of any kind: granted to him, or as their owner.

    Or granted to groups and roles of his, those left out that `apart_from` has himself.
    """
    held: set[str] = set()
    for base, whose in (
        (UserObjectPermissionBase, {"user": user.pk}),
        (GroupObjectPermissionBase, {"group__in": user.groups.exclude(pk__in=apart_from.groups.all())}),
        (RoleObjectPermission, {"role__in": user.roles.exclude(pk__in=apart_from.roles.all())}),
    ):
        for kind in kinds_of_grants(base):
            rows = kind._default_manager.filter(**whose)
            held.update(rows.values_list("permission__codename", flat=True).distinct())
    for thing in {_thing_of(kind) for kind in kinds_of_grants(UserObjectPermissionBase)}:
        if thing._default_manager.filter(owner=user.pk).exists():
            held.update(code for code, _ in thing._meta.permissions)
    return held


def _thing_of(kind: Any) -> Any:
    return kind._meta.get_field("content_object").related_model
