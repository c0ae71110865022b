"""Who may use which secret, and who may know of it: reads."""

from collections.abc import Collection, Iterable, Iterator
from functools import cached_property
from typing import Any, Literal

from django.db.models import Q, QuerySet

from apps.accounts.models import User
from apps.accounts.permissions import Permission, holds, roles_of, scope_of
from apps.vault.models import Secret
from apps.workflows.models import WorkflowVersion
from apps.workflows.selectors.graphs import graph_of


def usable_by(user: Any) -> QuerySet[Secret]:
    """The secrets that what this account saves may use: its own, those shared with it or with a role of its.

    Holders of `system:admin` may use all, a disabled account none. Of an API token it is asked who its owner is:
    whoever may save a workflow in somebody's name may have it use that account's secrets.
    """
    account = user if scope_of(user) is None else User.objects.get(pk=user.pk)
    if not isinstance(account, User) or not account.is_active:
        return Secret.objects.none()
    if holds(account, Permission.SYSTEM_ADMIN):
        return Secret.objects.all()
    shared = Secret.users.through.objects.filter(user_id=account.pk).values("secret_id")
    who = Q(owner=account) | Q(pk__in=shared)
    for role in roles_of(account):
        who |= Q(roles__has_element=role)
    return Secret.objects.filter(who)


def visible_to(user: Any) -> QuerySet[Secret]:
    """The secrets whose names and metadata this caller is shown: those that he may use; a token's, if it may save."""
    if scope_of(user) is None or holds(user, Permission.WORKFLOW_CREATE) or holds(user, Permission.SYSTEM_ADMIN):
        return usable_by(user)
    return Secret.objects.none()


def may_change(user: Any, secret: Secret) -> bool:
    """Whether this caller may replace, share and remove it: its owner, or who holds `system:admin`."""
    if holds(user, Permission.SYSTEM_ADMIN):
        return True
    trusted = scope_of(user) is None or holds(user, Permission.WORKFLOW_CREATE)
    return trusted and user.is_authenticated and secret.owner_id == user.pk


class UsableNames(Collection[str]):
    """The names of the secrets that somebody may use; read when first asked for."""

    def __init__(self, user: Any) -> None:
        self._user = user

    @cached_property
    def _names(self) -> frozenset[str]:
        return frozenset(usable_by(self._user).values_list("name", flat=True))

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._names))

    def __len__(self) -> int:
        return len(self._names)


def missing_secrets(names: Iterable[str], usable: Collection[str]) -> Iterator[tuple[Literal["secret"], str]]:
    """A finding for each of these secrets that is not there, or that whoever saved the version may not use."""
    for name in sorted(names):
        if name not in usable:
            fix = "make it, share it with that account, or save the workflow anew in the name of one that may use it"
            yield "secret", f"there is no secret `{name}` that the account which saved this version may use: {fix}"


def uses_secrets(version: WorkflowVersion) -> bool:
    """Whether a step of it is given a secret."""
    return any(step.secrets for step in graph_of(version.pk).steps.values())
