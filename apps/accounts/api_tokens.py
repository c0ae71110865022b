"""API tokens: made, read, revoked. Long-lived credentials for scrapers and scripts that may less than their owner.

A token's rights are what both its scope and its owner hold at the moment of a request, so whatever is taken from the
owner is taken from his tokens. It outlives a change of password; disabling or deleting the owner removes it.

The credential of an agent is a token of another audience: it has no rights of its owner's and opens nothing on the API.
"""

import hashlib
import secrets
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from apps.accounts import permissions
from apps.accounts.audit import present_actor, record
from apps.accounts.models import ApiToken, User
from apps.accounts.permissions import OF_WORKFLOWS, Scope, permissions_of, require_person
from apps.core.errors import Conflict, Denied, Invalid, Problem, Unauthenticated

PREFIXES = {"aop_": ApiToken.Audience.API, "aoa_": ApiToken.Audience.AGENT}
MAX_DAYS = 365
MAX_TOKENS = 100
"""Of one account."""
COARSE = timedelta(minutes=10)
"""How exact `last_used_at` is: a write in so long a time, not one for each request."""
_LENGTH = 4 + 43  # of a prefix and token_urlsafe(32)


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKey:
    """An API token as a caller presents it; whether there is one of this digest is in the database."""

    digest: str
    audience: str = ApiToken.Audience.API


def parse(raw: str) -> ApiKey | None:
    """The key in a bearer credential; `None` for one that is no API token. Raises `Unauthenticated` for a bad one."""
    audience = PREFIXES.get(raw[:4])
    if audience is None:
        return None
    if len(raw) != _LENGTH or not raw.isascii():
        raise _unknown()
    return ApiKey(digest=_digest(raw), audience=audience)


def user_of(key: ApiKey) -> User:
    """The owner, narrowed to the token's scope, while both hold (one query). Raises `Unauthenticated`.

    An agent's credential speaks for nobody.
    """
    if key.audience != ApiToken.Audience.API:
        raise _unknown()
    row = row_of(key)
    workflows = frozenset(row.workflows) if row.workflows else None
    permissions.narrow(row.owner, Scope(token_id=row.pk, permissions=frozenset(row.permissions), workflows=workflows))
    return row.owner


def row_of(key: ApiKey) -> ApiToken:
    """The token of a key, while it and its owner hold (one query). Raises `Unauthenticated`."""
    now = timezone.now()
    row = (
        ApiToken.objects.select_related("owner")
        .filter(digest=key.digest, audience=key.audience, expires_at__gt=now, owner__is_active=True)
        .first()
    )
    if row is None:
        raise _unknown()
    _note_use(row, now)
    return row


@transaction.atomic
def create(
    *, by: User, name: str, wanted: Collection[str], expires_in_days: int, workflows: Collection[str] = ()
) -> tuple[ApiToken, str]:
    """A token of `by`'s and its text, which is nowhere else. `wanted` are codes of permissions.

    Raises `Denied` for a permission that `by` does not hold, `Invalid` for one that means nothing on single
    workflows, `Conflict` beyond `MAX_TOKENS`. On single workflows `by` may hold it as owner or by a grant, which the
    gate of workflows asks at each request.
    """
    require_person(by)
    asked = frozenset(wanted)
    if not workflows and (beyond := asked - permissions_of(by)):
        raise Denied(f"You do not hold {', '.join(sorted(beyond))}.")
    if workflows and (foreign := asked - OF_WORKFLOWS):
        message = f"{', '.join(sorted(foreign))} cannot be had on single workflows; leave `workflows` or these out"
        raise Invalid(message, problems=[Problem(pointer="/permissions", code="not_of_workflows", message=message)])
    # The owner's lock puts parallel makers in a row, so that the bound holds.
    if not User.objects.select_for_update().filter(pk=by.pk, is_active=True).exists():
        raise _unknown()
    if ApiToken.objects.filter(owner=by, audience=ApiToken.Audience.API).count() >= MAX_TOKENS:
        raise Conflict(f"An account has at most {MAX_TOKENS} API tokens: delete one.", code="too_many_tokens")
    scope = {"permissions": sorted(asked), "workflows": sorted(set(workflows))}
    row, raw = _made(by, name, "aop_", timedelta(days=expires_in_days), **scope)
    if present_actor() is not None:
        record("api_token.created", obj=row, object_type="api_token", after=scope)
    return row, raw


def create_for_agent(name: str, *, by: User) -> tuple[ApiToken, str]:
    """The credential of an agent, good for `MAX_DAYS`, and its text; `by` answers for it. Raises `Denied`."""
    require_person(by)
    return _made(by, f"agent {name}", "aoa_", timedelta(days=MAX_DAYS))


def _made(owner: User, name: str, prefix: str, lasts: timedelta, **scope: list[str]) -> tuple[ApiToken, str]:
    raw = prefix + secrets.token_urlsafe(32)
    row = ApiToken.objects.create(
        owner=owner,
        name=name,
        audience=PREFIXES[prefix],
        digest=_digest(raw),
        expires_at=timezone.now() + lasts,
        **scope,
    )
    return row, raw


@transaction.atomic
def revoke(token: ApiToken) -> None:
    """End it; its next request is refused, its sockets close within seconds."""
    ended, _ = ApiToken.objects.filter(pk=token.pk).delete()
    if ended and token.audience == ApiToken.Audience.API and present_actor() is not None:
        scope = {"permissions": token.permissions, "workflows": token.workflows}
        record("api_token.revoked", obj=token, object_type="api_token", before=scope)


def revoke_all(owners: Iterable[User]) -> int:
    """End every API token of these accounts; how many there were."""
    return ApiToken.objects.filter(owner__in=list(owners)).delete()[0]


def _note_use(row: ApiToken, now: datetime) -> None:
    if row.last_used_at is None or row.last_used_at < now - COARSE:
        stale = Q(last_used_at=None) | Q(last_used_at__lt=now - COARSE)
        ApiToken.objects.filter(stale, pk=row.pk).update(last_used_at=now)


def _digest(raw: str) -> str:
    # A plain digest is enough for what is random and long; a slow one would only make each request slow.
    return hashlib.sha256(raw.encode()).hexdigest()


def _unknown() -> Unauthenticated:
    return Unauthenticated("The token is invalid or has expired.", code="invalid_token")
