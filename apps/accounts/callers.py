"""Who sent a request: a bearer token (a JWT or an API token), or the session of a browser.

DRF's authentication classes and the decorators of plain views ask here, so that there is one answer.
"""

from typing import TypeAlias, cast

from django.conf import settings
from django.contrib.auth.models import AnonymousUser
from django.http import HttpRequest
from django.middleware.csrf import CsrfViewMiddleware

from apps.accounts import api_tokens, tokens
from apps.accounts.api_tokens import ApiKey
from apps.accounts.models import ApiToken, User
from apps.accounts.tokens import Claims
from apps.core.api.problems import csrf_denied
from apps.core.errors import Unauthenticated

Bearer: TypeAlias = Claims | ApiKey
"""What a bearer credential says; whether it still holds is in the database."""

_BEARER = "_bearer"
_OWNER = "_bearer_owner"
_AGENT = "_bearer_agent"


def bearer_of(header: str) -> str | None:
    """The token in an Authorization header; `None` where there is no bearer credential.

    Raises `Unauthenticated` for a bearer credential that is no single token.
    """
    scheme, _, token = header.strip().partition(" ")
    if scheme.lower() != "bearer":
        return None
    token = token.strip()
    if not token or " " in token:
        raise Unauthenticated("The Authorization header must be `Bearer <token>`.", code="invalid_token")
    return token


def read_bearer(raw: str) -> Bearer:
    """What a token says, of either kind; no database. Raises `Unauthenticated`."""
    return api_tokens.parse(raw) or tokens.read_access_token(raw)


def user_of(bearer: Bearer) -> User:
    """The account a bearer credential speaks for, while it holds. Raises `Unauthenticated`."""
    return api_tokens.user_of(bearer) if isinstance(bearer, ApiKey) else tokens.user_of(bearer)


def bearer_in(request: HttpRequest) -> Bearer | None:
    """What this request brings, checked once a request; `None` without a bearer credential. No database.

    Raises `Unauthenticated`.
    """
    known: Bearer | None = getattr(request, _BEARER, None)
    if known is not None:
        return known
    raw = bearer_of(request.META.get("HTTP_AUTHORIZATION", ""))
    if raw is None:
        return None
    bearer = read_bearer(raw)
    setattr(request, _BEARER, bearer)
    return bearer


def owner_in(request: HttpRequest) -> User | None:
    """The account that this request's bearer credential speaks for, found once a request. Raises `Unauthenticated`."""
    known: User | None = getattr(request, _OWNER, None)
    if known is not None:
        return known
    bearer = bearer_in(request)
    if bearer is None:
        return None
    user = user_of(bearer)
    setattr(request, _OWNER, user)
    return user


def agent_token_in(request: HttpRequest) -> ApiToken | None:
    """The credential of an agent that this request brings, found once a request; `None` for any other or none.

    Raises `Unauthenticated` for one that does not hold.
    """
    known: ApiToken | None = getattr(request, _AGENT, None)
    if known is not None:
        return known
    bearer = bearer_in(request)
    if not isinstance(bearer, ApiKey) or bearer.audience != ApiToken.Audience.AGENT:
        return None
    row = api_tokens.row_of(bearer)
    setattr(request, _AGENT, row)
    return row


def identify(request: HttpRequest, *, page: bool) -> User | AnonymousUser:
    """The caller of a plain view. A session counts on pages, and on the API while `BROWSABLE_API` is on.

    Raises `Unauthenticated` for a bearer token that does not hold, `Denied` for a write with a session and no CSRF
    token.
    """
    owner = owner_in(request)
    if owner is not None:
        return owner
    if not (page or settings.ENV.BROWSABLE_API):
        return AnonymousUser()
    user = getattr(request, "user", None)
    if user is None or not user.is_authenticated:
        return AnonymousUser()
    check_csrf(request)
    return cast("User", user)


class _CSRFCheck(CsrfViewMiddleware):
    """Django's check, with its verdict instead of its answer."""

    def _reject(self, request: HttpRequest, reason: str) -> str:  # noqa: ARG002
        return reason


def check_csrf(request: HttpRequest) -> None:
    """Raises `Denied` for a write that a foreign page could have made the browser send."""

    def nothing(_: HttpRequest) -> None:
        return None

    check = _CSRFCheck(nothing)  # type: ignore[arg-type]
    check.process_request(request)
    if check.process_view(request, nothing, (), {}):  # type: ignore[arg-type]
        raise csrf_denied()
