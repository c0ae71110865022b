"""How DRF finds the caller: a bearer token, or a browser's session with CSRF (while `BROWSABLE_API` is on)."""

from rest_framework import authentication
from rest_framework.request import Request

from apps.accounts.callers import check_csrf, claims_of
from apps.accounts.models import User
from apps.accounts.tokens import Claims, user_of


class BearerAuthentication(authentication.BaseAuthentication):
    """`Authorization: Bearer <access token>`; `request.auth` becomes the token's `Claims`."""

    def authenticate(self, request: Request) -> tuple[User, Claims] | None:
        """The user and the claims; `None` without a bearer credential. Raises `Unauthenticated` for a bad one."""
        claims = claims_of(request._request)
        return None if claims is None else (user_of(claims), claims)

    def authenticate_header(self, request: Request) -> str:  # noqa: ARG002
        """What a 401 tells the caller to bring."""
        return "Bearer"


class SessionAuthentication(authentication.SessionAuthentication):
    """The session of the login page; every write needs the CSRF token."""

    def enforce_csrf(self, request: Request) -> None:
        """Raises `Denied` (403 `csrf_failed`)."""
        check_csrf(request._request if isinstance(request, Request) else request)
