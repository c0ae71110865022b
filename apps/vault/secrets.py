"""Secrets as rows: written, replaced, removed, opened. Who may do so is decided above."""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from django.db import IntegrityError, transaction

from apps.core.clock import database_now
from apps.core.errors import Conflict, Invalid, Problem, Unavailable
from apps.core.sealing import UNKNOWN_KEY, seal, unseal
from apps.vault.masking import SHORTEST
from apps.vault.models import Secret

MAX_VALUE = 16_384  # characters
NAME = "[A-Za-z_][A-Za-z0-9_-]{0,99}"


def create(
    *, name: str, value: str, description: str, roles: Iterable[str], users: Iterable[Any], owner: Any
) -> Secret:
    """A new secret. Raises `Invalid` for a value that cannot be kept or masked, `Conflict` ("name_taken")."""
    check_value(value)
    now = database_now()
    try:
        with transaction.atomic():
            made = Secret.objects.create(
                name=name, description=description, sealed=_sealed(name, value), roles=sorted(set(roles)), owner=owner,
                created_at=now, updated_at=now, value_at=now,
            )  # fmt: skip
            made.users.set(users)
    except IntegrityError:
        raise Conflict(f"there is a secret `{name}` already; choose another name", code="name_taken") from None
    return made


def update(
    secret: Secret,
    *,
    value: str | None = None,
    description: str | None = None,
    roles: Iterable[str] | None = None,
    users: Iterable[Any] | None = None,
) -> Secret:
    """Change what is given; steps that start from now on are given the new value. Raises `Invalid`."""
    now = database_now()
    changes: dict[str, Any] = {"updated_at": now}
    if value is not None:
        check_value(value)
        changes |= {"sealed": _sealed(secret.name, value), "value_at": now}
    if description is not None:
        changes["description"] = description
    if roles is not None:
        changes["roles"] = sorted(set(roles))
    with transaction.atomic():
        Secret.objects.filter(pk=secret.pk).update(**changes)
        if users is not None:
            secret.users.set(users)
    secret.refresh_from_db()
    return secret


def delete(secret: Secret) -> None:
    """Remove it; steps that ask for it from now on fail."""
    Secret.objects.filter(pk=secret.pk).delete()


def open_all(rows: Iterable[Secret]) -> Mapping[str, str]:
    """The values by name. Raises `Unavailable` ("unknown_vault_key") where one cannot be opened."""
    return {row.name: _opened(row) for row in rows}


def check_value(value: str) -> None:
    """Raises `Invalid` for a value that cannot be kept, or is too short to be masked without hiding common words."""
    problem = ""
    if not SHORTEST <= len(value) <= MAX_VALUE:
        problem = f"a secret has {SHORTEST} to {MAX_VALUE:,} characters: a shorter one could not be masked in logs"
    elif "\0" in value or not value.strip():
        problem = "give text without NUL that is more than blanks"
    if problem:
        raise Invalid(f"value: {problem}.", problems=[Problem(pointer="/value", code="invalid", message=problem)])


def _sealed(name: str, value: str) -> str:
    # With its name: a sealed text that is put into another row opens nothing there.
    return seal(json.dumps([name, value]))


def _opened(row: Secret) -> str:
    name, value = json.loads(unseal(row.sealed))
    if name != row.name:
        raise Unavailable(f"the row of the secret `{row.name}` holds another secret: store it anew", code=UNKNOWN_KEY)
    return str(value)
