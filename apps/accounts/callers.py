"""Who sent a request: a bearer token, or the session of a browser.

DRF's authentication classes and the decorators of plain views ask here, so that there is one answer.
"""

from typing import cast

from django.conf import settings
from django.contrib.auth.models import AnonymousUser
from django.http import HttpRequest
from django.middleware.csrf import CsrfViewMiddleware

from apps.accounts.models import User
from apps.accounts.tokens import Claims, read_access_token, user_of
from apps.core.api.problems import csrf_denied
from apps.core.errors import Unauthenticated

_CLAIMS = "_bearer_claims"


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


def claims_of(request: HttpRequest) -> Claims | None:
    """The signed claims this request brings, checked once a request; `None` without a bearer credential.

    Raises `Unauthenticated`.
    """
    known: Claims | None = getattr(request, _CLAIMS, None)
    if known is not None:
        return known
    raw = bearer_of(request.META.get("HTTP_AUTHORIZATION", ""))
    if raw is None:
        return None
    claims = read_access_token(raw)
    setattr(request, _CLAIMS, claims)
    return claims


def identify(request: HttpRequest, *, page: bool) -> User | AnonymousUser:
    """The caller of a plain view. A session counts on pages, and on the API while `BROWSABLE_API` is on.

    Raises `Unauthenticated` for a bearer token that does not hold, `Denied` for a write with a session and no CSRF
    token.
    """
    claims = claims_of(request)
    if claims is not None:
        return user_of(claims)
    if not (page or settings.ENV.BROWSABLE_API):
        return AnonymousUser()
    user = getattr(request, "user", None)
    if user is None or not user.is_authenticated:
        return AnonymousUser()
    check_csrf(request)
    return cast("User", user)


def refreshed(user: User) -> User:
    """The user as the database has it now, for connections that outlive a request.

    Raises `Unauthenticated` where it was removed, disabled, or its tokens and sessions were ended since.
    """
    current = User.objects.filter(pk=user.pk, is_active=True, token_version=user.token_version).first()
    if current is None:
        raise Unauthenticated("The account was disabled or its sessions were ended.", code="invalid_token")
    return current


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
