"""How DRF finds the caller: a bearer token, or a browser's session with CSRF (while `BROWSABLE_API` is on)."""

from rest_framework import authentication
from rest_framework.request import Request

from apps.accounts.callers import Bearer, bearer_in, check_csrf, owner_in
from apps.accounts.models import User


class BearerAuthentication(authentication.BaseAuthentication):
    """`Authorization: Bearer TOKEN`; `request.auth` becomes the `Claims` of a JWT or the `ApiKey` of an API token."""

    def authenticate(self, request: Request) -> tuple[User, Bearer] | None:
        """The user and what was presented; `None` without one. Raises `Unauthenticated` for what does not hold."""
        bearer, owner = bearer_in(request._request), owner_in(request._request)
        return None if bearer is None or owner is None else (owner, bearer)

    def authenticate_header(self, request: Request) -> str:  # noqa: ARG002
        """What a 401 tells the caller to bring."""
        return "Bearer"


class SessionAuthentication(authentication.SessionAuthentication):
    """The session of the login page; every write needs the CSRF token."""

    def enforce_csrf(self, request: Request) -> None:
        """Raises `Denied` (403 `csrf_failed`)."""
        check_csrf(request._request if isinstance(request, Request) else request)
