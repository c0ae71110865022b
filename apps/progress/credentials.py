"""What lets a socket in, and whether it still holds: a token, a session, or nothing (`ANONYMOUS_ROLE`)."""

from collections.abc import Collection
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from django.conf import settings
from django.contrib import auth
from django.contrib.auth.models import AnonymousUser
from django.http import HttpRequest
from django.utils import timezone

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
