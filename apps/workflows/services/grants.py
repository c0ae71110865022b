"""Grants on single workflows: what one person, one group or one role may do with one workflow beyond their roles."""

from collections.abc import Collection

from django.contrib.auth.models import Permission as DjangoPermission
from django.db import transaction
from guardian.shortcuts import assign_perm, remove_perm

from apps.accounts.models import Role, User
from apps.accounts.permissions import Permission, holds, require_person
from apps.core.errors import Denied
from apps.workflows.models import Workflow, WorkflowRolePermission
from apps.workflows.selectors.grants import Grantee, rows_of, verbs_of


@transaction.atomic
def grant(workflow: Workflow, to: Grantee, verbs: Collection[str], *, by: User) -> None:
    """Let `to` do exactly these of `VERBS` with `workflow`; none of them takes the grant away.

    Raises `Denied` unless `by` owns the workflow or holds `system:admin`, and for a verb to be given or taken that
    `by` may not do with it.
    """
    check_may_share(workflow, by=by)
    # Two who change the same grant at once come one after the other.
    Workflow.objects.select_for_update().get(pk=workflow.pk)
    before, after = verbs_of(workflow, to), frozenset(verbs)
    for verb in sorted(before ^ after):
        check_may_give(workflow, verb, by=by)
    for verb in after - before:
        _give(f"workflow:{verb}", to, workflow)
    for verb in before - after:
        _take(f"workflow:{verb}", to, workflow)


def _give(code: str, to: Grantee, workflow: Workflow) -> None:
    if not isinstance(to, Role):
        assign_perm(code, to, workflow)
        return
    permission = DjangoPermission.objects.get(
        codename=code, content_type__app_label="workflows", content_type__model="workflow"
    )
    WorkflowRolePermission.objects.create(role=to, permission=permission, content_object=workflow)


def _take(code: str, to: Grantee, workflow: Workflow) -> None:
    if not isinstance(to, Role):
        remove_perm(code, to, workflow)
        return
    for row in rows_of(to).filter(content_object=workflow, permission__codename=code):
        row.delete()


def check_may_share(workflow: Workflow, *, by: User) -> None:
    """Raises `Denied` for an API token, and for whoever neither owns it nor holds `system:admin`."""
    require_person(by)
    if workflow.owner_id != by.pk and not holds(by, Permission.SYSTEM_ADMIN):
        raise Denied(f"`{workflow}` is shared by its owner, or by a holder of {Permission.SYSTEM_ADMIN.value}.")


def check_may_give(workflow: Workflow, verb: str, *, by: User) -> None:
    """Raises `Denied` where `by` may not do with the workflow what would be given or taken."""
    permission = Permission(f"workflow:{verb}")
    if not Workflow.objects.visible_to(by, permission).filter(pk=workflow.pk).exists():
        raise Denied(f"You do not hold {permission.value} on `{workflow}`.")
