"""Secrets: who makes and shares them, and their values, given to a step at the last moment and to nobody else."""

from collections.abc import Collection, Iterable, Mapping
from typing import Any
from uuid import UUID

from django.db import transaction
from django.db.models import Model

from apps.accounts import second_factor
from apps.accounts.models import Role, User
from apps.core.errors import Denied, Invalid, Problem, Unavailable
from apps.core.sealing import reseal
from apps.vault import secrets
from apps.vault.models import Secret
from apps.workflows.models import Execution, Receiver, Webhook
from apps.workflows.selectors.secrets import may_change, usable_by

AT_ONCE = 500  # rows looked at together by `rotate`


def create(
    *, name: str, value: str, by: User, description: str = "", roles: Iterable[str] = (), users: Iterable[str] = ()
) -> Secret:
    """A secret of `by`'s, shared with these roles and accounts. Raises `Invalid` with every problem, `Conflict`."""
    names, accounts = _shared_with(roles, users)
    return secrets.create(
        name=name, value=value, description=description, roles=names or (), users=accounts or (), owner=by
    )


def update(
    secret: Secret, *, by: User, roles: Iterable[str] | None = None, users: Iterable[str] | None = None, **changes: Any
) -> Secret:
    """Change what is given: `value`, `description`, with whom it is shared. Raises `Denied`, `Invalid`."""
    _require(secret, by)
    names, accounts = _shared_with(roles, users)
    return secrets.update(secret, roles=names, users=accounts, **changes)


def delete(secret: Secret, *, by: User) -> None:
    """Remove it. Raises `Denied`."""
    _require(secret, by)
    secrets.delete(secret)


def reveal(execution: UUID, names: Collection[str]) -> Mapping[str, str]:
    """The values of these secrets for a step of this execution, by name.

    The account that saved the execution's version must be allowed to use them now. Raises `Denied` naming those that
    it may not use or that are not there, `Unavailable` where one cannot be opened.
    """
    found = Execution.objects.select_related("version__created_by").only("version__created_by")
    row = found.filter(pk=execution).first()
    saver = None if row is None else row.version.created_by
    usable = list(usable_by(saver).filter(name__in=names))
    if missing := sorted(set(names) - {secret.name for secret in usable}):
        told = ", ".join(f"`{name}`" for name in missing)
        who = f"the account {saver.get_username()}, which saved this version," if saver else "nobody's account"
        raise Denied(
            f"there is no secret {told} that {who} may use: make it, share it with that account, or save the workflow "
            "anew in the name of one that may use it"
        )
    return secrets.open_all(usable)


def rotate() -> tuple[int, int, list[str]]:
    """Seal all that is sealed under the first of `VAULT_KEYS`, while everything runs.

    Gives how many were sealed anew, how many were already, and which no key opens. What somebody changes meanwhile is
    sealed under the first key by that, and left alone.
    """
    anew, already, lost = second_factor.reseal()
    for model, fields in ((Secret, ("sealed",)), (Webhook, ("secret",)), (Receiver, ("target", "secret"))):
        for row in _rows(model):
            for field in fields:
                was = getattr(row, field)
                if not was:
                    continue
                try:
                    fresh = reseal(was)
                except Unavailable:
                    lost.append(f"{model._meta.verbose_name} {row}")
                    continue
                if fresh == was:
                    already += 1
                elif model._base_manager.filter(pk=row.pk, **{field: was}).update(**{field: fresh}):
                    anew += 1
    return anew, already, lost


def _rows(model: type[Model]) -> Iterable[Any]:
    last = None
    while True:
        rows = model._base_manager.order_by("pk")
        some = list((rows if last is None else rows.filter(pk__gt=last))[:AT_ONCE])
        yield from some
        if len(some) < AT_ONCE:
            return
        last = some[-1].pk


def _require(secret: Secret, by: User) -> None:
    if not may_change(by, secret):
        raise Denied("A secret is changed by its owner, or with the permission system:admin.")


def _shared_with(
    roles: Iterable[str] | None, users: Iterable[str] | None
) -> tuple[list[str] | None, list[User] | None]:
    """The names and accounts themselves. Raises `Invalid` naming those that there are not."""
    problems, found_roles, found_users = [], None, None
    with transaction.atomic():
        if roles is not None:
            found_roles = list(Role.objects.filter(name__in=(wanted := list(roles))).values_list("name", flat=True))
            problems += _absent("roles", wanted, found_roles)
        if users is not None:
            found_users = list(User.objects.filter(username__in=(asked := list(users))))
            problems += _absent("users", asked, [user.get_username() for user in found_users])
    if problems:
        raise Invalid("With whom the secret is to be shared cannot be said; `errors` lists it.", problems=problems)
    return found_roles, found_users


def _absent(field: str, wanted: list[str], found: list[str]) -> list[Problem]:
    return [
        Problem(pointer=f"/{field}/{at}", code=f"unknown_{field[:-1]}", message=f"there is no {field[:-1]} `{name}`")
        for at, name in enumerate(wanted)
        if name not in found
    ]
