"""What lets a socket in, and whether it still holds: a token, a session, or nothing (`ANONYMOUS_ROLE`)."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from importlib import import_module
from typing import Any
from uuid import UUID

from django.conf import settings
from django.contrib import auth
from django.contrib.auth.models import AnonymousUser
from django.http import HttpRequest
from django.utils import timezone

from apps.accounts.api_tokens import ApiKey
from apps.accounts.callers import Bearer, user_of
from apps.accounts.models import User
from apps.accounts.permissions import Permission, holds, know
from apps.accounts.tokens import Claims, users_of
from apps.core.errors import PlatformError, Unauthenticated
from apps.workflows.models import Workflow


@dataclass(frozen=True, slots=True, kw_only=True)
class Credential:
    """Exactly one of the two, or neither: a caller without credentials."""

    bearer: Bearer | None = None
    session_key: str | None = None


def written(credential: Credential) -> dict[str, Any]:
    """A credential as a JSON value, for `read`. It holds no token, only what one says."""
    match credential.bearer:
        case Claims() as claims:
            said = {
                "user_id": str(claims.user_id),
                "version": claims.version,
                "family_id": str(claims.family_id),
                "jti": str(claims.jti),
                "expires_at": claims.expires_at.isoformat(),
            }
            return {"claims": said}
        case ApiKey(digest=digest):
            return {"api_key": digest}
        case None:
            return {"session_key": credential.session_key}


def read(value: Mapping[str, Any]) -> Credential:
    """The credential that `written` has made this of."""
    if "claims" in value:
        said = value["claims"]
        claims = Claims(
            user_id=UUID(said["user_id"]),
            version=said["version"],
            family_id=UUID(said["family_id"]),
            jti=UUID(said["jti"]),
            expires_at=datetime.fromisoformat(said["expires_at"]),
        )
        return Credential(bearer=claims)
    if "api_key" in value:
        return Credential(bearer=ApiKey(digest=value["api_key"]))
    return Credential(session_key=value["session_key"])


def user_behind(credential: Credential) -> User | AnonymousUser:
    """The account as it is now, read from the database. Raises `Unauthenticated` where the credential has ended."""
    bearer = credential.bearer
    if bearer is not None:
        if isinstance(bearer, Claims) and bearer.expires_at <= timezone.now():
            raise Unauthenticated("The token has expired.", code="invalid_token")
        return user_of(bearer)
    if credential.session_key is not None:
        user = _user_of_session(credential.session_key)
        if user is None:
            raise Unauthenticated("The session has ended.", code="invalid_session")
        return user
    return AnonymousUser()


def users_behind(credentials: Collection[Credential]) -> dict[Credential, User | AnonymousUser | PlatformError]:
    """`user_behind` for many at once: each one's account with its roles, or why the credential has ended.

    Logins, which are nearly all, cost three queries together; each API token and each session costs its own.
    """
    now = timezone.now()
    claims = [one.bearer for one in credentials if isinstance(one.bearer, Claims) and one.bearer.expires_at > now]
    accounts = users_of(claims)
    found: dict[Credential, User | AnonymousUser | PlatformError] = {}
    for one in credentials:
        known = accounts.get(one.bearer) if isinstance(one.bearer, Claims) else None
        try:
            found[one] = known or user_behind(one)
        except PlatformError as error:
            found[one] = error
    know(user for user in found.values() if isinstance(user, User))
    return found


def may_watch(user: User | AnonymousUser) -> bool:
    """Whether `user` may read progress at all: by role, or on some workflow of their own or granted to them."""
    if holds(user, Permission.PROGRESS_READ):
        return True
    return Workflow.objects.visible_to(user, Permission.PROGRESS_READ).exists()


def _user_of_session(key: str) -> User | None:
    """The account of a session that exists, has not expired and was begun with the present password and version."""
    store: Any = import_module(settings.SESSION_ENGINE).SessionStore(key)
    request = HttpRequest()
    request.session = store
    user = auth.get_user(request)
    return user if isinstance(user, User) and user.is_active else None
