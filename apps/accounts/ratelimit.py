"""Rate limits: requests of one caller, and failed logins from one address. The only module that knows django-ratelimit.

A caller is a user where a signed token or a session says so, else an address; so nobody spends another's allowance.
Failed logins are counted by address alone: a guesser locks out himself, never his victim elsewhere.
"""

import ipaddress
from collections.abc import Awaitable, Callable
from functools import lru_cache
from typing import Any

from asgiref.sync import iscoroutinefunction, markcoroutinefunction, sync_to_async
from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django_ratelimit.core import get_usage

from apps.accounts.api_tokens import ApiKey
from apps.accounts.callers import bearer_in, owner_in
from apps.core.api.problems import problem_response
from apps.core.errors import TooMany, Unauthenticated

IPV6_PREFIX = 64
"""One IPv6 customer has a /64: all its addresses are one caller."""


@lru_cache(maxsize=16)
def _networks(names: tuple[str, ...]) -> tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]:
    return tuple(ipaddress.ip_network(name, strict=False) for name in names)


def _trusted(address: str) -> bool:
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return False
    return any(parsed in network for network in _networks(tuple(settings.ENV.TRUSTED_PROXIES)))


def client_address(request: HttpRequest) -> str:
    """The address that counts as the caller's.

    `X-Forwarded-For` is believed only as far as `TRUSTED_PROXIES` wrote it: from its right end up to the first address
    that is none of them. From anybody else the header is only text.
    """
    peer = str(request.META.get("REMOTE_ADDR", ""))
    if settings.ENV.TRUSTED_PROXIES and _trusted(peer):
        for hop in reversed(request.META.get("HTTP_X_FORWARDED_FOR", "").split(",")):
            address = hop.strip()
            if not address:
                continue
            try:
                ipaddress.ip_address(address)
            except ValueError:
                break
            peer = address
            if not _trusted(address):
                break
    return _normal(peer)


def _normal(address: str) -> str:
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return "unknown"
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed.ipv4_mapped:
            return str(parsed.ipv4_mapped)
        return str(ipaddress.ip_network((parsed, IPV6_PREFIX), strict=False).network_address)
    return str(parsed)


def _count(request: HttpRequest, group: str, key: str, rate: str, *, increment: bool = True) -> dict[str, Any]:
    """`{count, limit, should_limit, time_left}` of the present window."""
    usage: dict[str, Any] | None = get_usage(  # type: ignore[no-untyped-call]
        request, group=group, key=lambda *_: key, rate=rate, increment=increment
    )
    return usage or {"count": 0, "limit": 0, "should_limit": False, "time_left": 0}


class LoginAttempt:
    """One attempt to log in, counted before the password is looked at.

    Counting first is what holds against parallel guesses. `succeeded()` takes the attempt back, so that only failed
    ones use up the allowance.
    """

    def __init__(self, request: HttpRequest) -> None:
        """Raises `TooMany` where this address has used up its failed logins."""
        self._request = request
        self._key = client_address(request)
        self._enabled = bool(settings.ENV.RATE_LIMIT_ENABLED)
        if not self._enabled:
            return
        rate = settings.ENV.RATE_LIMIT_LOGIN
        # The window of a key depends on the key alone, so both counts are of the same window. What was taken back is
        # read first: what others take back after this attempt was counted must not make room for it.
        passed = _count(request, "login-passed", self._key, rate, increment=False)
        tried = _count(request, "login", self._key, rate)
        if tried["count"] - passed["count"] > tried["limit"]:
            # A refused attempt was not tried at all and uses up nothing.
            self.succeeded()
            raise TooMany("Too many failed logins from this address.", retry_after=max(1, tried["time_left"]))

    def succeeded(self) -> None:
        """The password was right: this attempt does not count."""
        if self._enabled:
            _count(self._request, "login-passed", self._key, settings.ENV.RATE_LIMIT_LOGIN)


class RateLimitMiddleware:
    """Answers 429 with Retry-After where a caller exceeds `RATE_LIMIT_USER`."""

    sync_capable = True
    async_capable = True

    def __init__(
        self,
        get_response: Callable[[HttpRequest], HttpResponseBase] | Callable[[HttpRequest], Awaitable[HttpResponseBase]],
    ) -> None:
        self.get_response = get_response
        self.is_async = iscoroutinefunction(get_response)
        # A cache in this process answers in microseconds; one over the network must not hold up the event loop.
        self.is_local = not settings.ENV.REDIS_URL
        if self.is_async:
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> HttpResponseBase | Awaitable[HttpResponseBase]:
        """Count, then answer or refuse."""
        if self.is_async:
            return self._answer_async(request)
        if settings.ENV.RATE_LIMIT_ENABLED:
            key = _signed_key(request) or _api_key(request)
            key = key or _session_key(request, request.user if _has_session(request) else None)
            if refusal := _refusal(request, key):
                return refusal
        return self.get_response(request)

    async def _answer_async(self, request: HttpRequest) -> HttpResponseBase:
        if settings.ENV.RATE_LIMIT_ENABLED:
            key = _signed_key(request)
            if key is None and _has_bearer(request):
                key = await sync_to_async(_api_key)(request)
            elif key is None:
                user = None
                if _has_session(request):
                    # Found once for the whole request: the views read it from here.
                    request.user = user = await request.auser()
                key = _session_key(request, user)
            assert key is not None  # noqa: S101  # a bearer credential that is no JWT is an API token
            check = _refusal if self.is_local else sync_to_async(_refusal)
            refusal = check(request, key)
            if not self.is_local:
                refusal = await refusal  # type: ignore[misc]
            if refusal:
                return refusal  # type: ignore[return-value]
        return await self.get_response(request)  # type: ignore[misc, no-any-return]


def _has_session(request: HttpRequest) -> bool:
    return settings.SESSION_COOKIE_NAME in request.COOKIES


def _has_bearer(request: HttpRequest) -> bool:
    return bearer_in(request) is not None


def _signed_key(request: HttpRequest) -> str | None:
    """The user of a well-signed token (no database); a forged or expired one counts for its address."""
    try:
        bearer = bearer_in(request)
    except Unauthenticated:
        return f"address:{client_address(request)}"
    return None if bearer is None or isinstance(bearer, ApiKey) else f"user:{bearer.user_id}"


def _api_key(request: HttpRequest) -> str | None:
    """The owner of an API token, which only the database knows; an unknown one counts for its address."""
    try:
        owner = owner_in(request)
    except Unauthenticated:
        return f"address:{client_address(request)}"
    return f"user:{owner.pk}" if owner else None


def _session_key(request: HttpRequest, user: Any) -> str:
    if user is not None and user.is_authenticated:
        return f"user:{user.pk}"
    return f"address:{client_address(request)}"


def _refusal(request: HttpRequest, key: str) -> HttpResponse | None:
    usage = _count(request, "requests", key, settings.ENV.RATE_LIMIT_USER)
    if not usage["should_limit"]:
        return None
    return problem_response(
        request,
        TooMany("Too many requests; wait as long as Retry-After says.", retry_after=max(1, usage["time_left"])),
    )
