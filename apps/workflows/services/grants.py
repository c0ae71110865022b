"""Grants on single things: what one person, one group or one role may do with one of them beyond their roles."""

from collections.abc import Collection
from typing import Any

from django.contrib.auth.models import Permission as DjangoPermission
from django.db import transaction
from guardian.shortcuts import assign_perm, remove_perm

from apps.accounts.models import Role, User
from apps.accounts.permissions import Permission, holds, require_person
from apps.core.errors import Denied
from apps.workflows.selectors.grants import Grantee, rows_of, sharing_of, verbs_of


@transaction.atomic
def grant(thing: Any, to: Grantee, verbs: Collection[str], *, by: User) -> None:
    """Let `to` do exactly these of the kind's verbs with `thing`; none of them takes the grant away.

    Raises `Denied` unless `by` owns it or holds `system:admin`, and for a verb to be given or taken that `by` may not
    do with it.
    """
    check_may_share(thing, by=by)
    # Two who change the same grant at once come one after the other.
    type(thing).objects.select_for_update().get(pk=thing.pk)
    before, after = verbs_of(thing, to), frozenset(verbs)
    for verb in sorted(before ^ after):
        check_may_give(thing, verb, by=by)
    for verb in after - before:
        _give(f"{sharing_of(thing).noun}:{verb}", to, thing)
    for verb in before - after:
        _take(f"{sharing_of(thing).noun}:{verb}", to, thing)


def _give(code: str, to: Grantee, thing: Any) -> None:
    if not isinstance(to, Role):
        assign_perm(code, to, thing)
        return
    meta = thing._meta
    permission = DjangoPermission.objects.get(
        codename=code, content_type__app_label=meta.app_label, content_type__model=meta.model_name
    )
    rows: Any = sharing_of(thing).roles._default_manager
    rows.create(role=to, permission=permission, content_object=thing)


def _take(code: str, to: Grantee, thing: Any) -> None:
    if not isinstance(to, Role):
        remove_perm(code, to, thing)
        return
    for row in rows_of(sharing_of(thing), to).filter(content_object=thing, permission__codename=code):
        row.delete()


def check_may_share(thing: Any, *, by: User) -> None:
    """Raises `Denied` for an API token, and for whoever neither owns it nor holds `system:admin`."""
    require_person(by)
    if thing.owner_id != by.pk and not holds(by, Permission.SYSTEM_ADMIN):
        raise Denied(f"`{thing}` is shared by its owner, or by a holder of {Permission.SYSTEM_ADMIN.value}.")


def check_may_give(thing: Any, verb: str, *, by: User) -> None:
    """Raises `Denied` where `by` may not do with it what would be given or taken."""
    permission = Permission(f"{sharing_of(thing).noun}:{verb}")
    if not type(thing).objects.visible_to(by, permission).filter(pk=thing.pk).exists():
        raise Denied(f"You do not hold {permission.value} on `{thing}`.")
