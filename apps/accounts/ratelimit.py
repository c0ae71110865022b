"""Rate limits: requests of one caller, and failed logins from one address. The only module that knows django-ratelimit.

A caller is a user where a signed token or a session says so, else an address; so nobody spends another's allowance.
An API token has an allowance of its own besides, so that one script does not spend all that its owner has; the
credential of an agent has that one alone.
Failed logins are counted by address alone: a guesser locks out himself, never his victim elsewhere.

Where the shared cache (`REDIS_URL`) does not answer, requests are let through uncounted and logins are refused (503).
"""

import ipaddress
import logging
import time
from collections.abc import Awaitable, Callable
from functools import lru_cache
from typing import Any

from asgiref.sync import iscoroutinefunction, markcoroutinefunction, sync_to_async
from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django_ratelimit.core import get_usage
from redis.exceptions import RedisError

from apps.accounts.api_tokens import ApiKey
from apps.accounts.callers import agent_token_in, bearer_in, owner_in
from apps.core.api.problems import problem_response
from apps.core.errors import TooMany, Unauthenticated, Unavailable

logger = logging.getLogger(__name__)

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


def _count(request: HttpRequest | None, group: str, key: str, rate: str, *, increment: bool = True) -> dict[str, Any]:
    """`{count, limit, should_limit, time_left}` of the present window. Raises `Unavailable` without the cache."""
    try:
        usage: dict[str, Any] | None = get_usage(  # type: ignore[no-untyped-call]
            request, group=group, key=lambda *_: key, rate=rate, increment=increment
        )
    except RedisError as error:
        raise Unavailable("The cache that counts attempts does not answer; try again in a moment.") from error
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


def count_code(request: HttpRequest | None, user_pk: object) -> None:
    """One code of a second factor, counted for its account: only who knows its password comes so far.

    Raises `TooMany`.
    """
    if settings.ENV.RATE_LIMIT_ENABLED:
        usage = _count(request, "codes", f"user:{user_pk}", settings.ENV.RATE_LIMIT_LOGIN)
        if usage["should_limit"]:
            raise TooMany("Too many codes for this account.", retry_after=max(1, usage["time_left"]))


def count_handshake(request: HttpRequest) -> None:
    """The handshake of a socket, which no middleware sees: one request of whoever its credential names.

    One by a cookie, a ticket or nothing counts for its address. Raises `TooMany`.
    """
    if settings.ENV.RATE_LIMIT_ENABLED:
        usage = _usage(request, _signed_key(request) or _api_key(request) or _session_key(request, None))
        if usage is not None and usage["should_limit"]:
            raise TooMany("Too many handshakes.", retry_after=max(1, usage["time_left"]))


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
        usage = None
        if settings.ENV.RATE_LIMIT_ENABLED:
            key = _signed_key(request) or _api_key(request)
            key = key or _session_key(request, request.user if _has_session(request) else None)
            usage = _usage(request, key)
        response = _refusal(request, usage) or self.get_response(request)
        assert isinstance(response, HttpResponseBase)  # noqa: S101  # for the type checker: the sync road
        return _told(response, usage)

    async def _answer_async(self, request: HttpRequest) -> HttpResponseBase:
        usage = None
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
            usage = _usage(request, key) if self.is_local else await sync_to_async(_usage)(request, key)
        return _told(_refusal(request, usage) or await self.get_response(request), usage)  # type: ignore[misc]


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
    """The owner of an API token, or an agent, as only the database knows; an unknown one counts for its address."""
    try:
        if agent := agent_token_in(request):
            return f"agent:{agent.pk}"
        owner = owner_in(request)
    except Unauthenticated:
        return f"address:{client_address(request)}"
    return f"user:{owner.pk}" if owner else None


def _session_key(request: HttpRequest, user: Any) -> str:
    if user is not None and user.is_authenticated:
        return f"user:{user.pk}"
    return f"address:{client_address(request)}"


def _usage(request: HttpRequest, key: str) -> dict[str, Any] | None:
    """The allowance that is nearest its end, after this request was counted; `None` where nothing can be counted."""
    try:
        if key.startswith("agent:"):
            return _count(request, "tokens", key, settings.ENV.RATE_LIMIT_TOKEN)
        if token := _token_of(request, key):
            own = _count(request, "tokens", token, settings.ENV.RATE_LIMIT_TOKEN)
            if own["should_limit"]:
                return own  # what is refused costs the owner nothing
            return min(own, _count(request, "requests", key, settings.ENV.RATE_LIMIT_USER), key=_left)
        return _count(request, "requests", key, settings.ENV.RATE_LIMIT_USER)
    except Unavailable:
        _warn()
        return None


def _token_of(request: HttpRequest, key: str) -> str | None:
    """The API token of a request that counts for its owner."""
    bearer = bearer_in(request) if key.startswith("user:") else None
    return bearer.digest if isinstance(bearer, ApiKey) else None


def _left(usage: dict[str, Any]) -> int:
    return -1 if usage["should_limit"] else max(0, int(usage["limit"]) - int(usage["count"]))


def _refusal(request: HttpRequest, usage: dict[str, Any] | None) -> HttpResponse | None:
    if usage is None or not usage["should_limit"]:
        return None
    return problem_response(
        request,
        TooMany("Too many requests; wait as long as Retry-After says.", retry_after=max(1, usage["time_left"])),
    )


def _told(response: HttpResponseBase, usage: dict[str, Any] | None) -> HttpResponseBase:
    """What is left of the allowance, in the headers that clients look for; `RateLimit-Reset` in seconds."""
    if usage is not None:
        response.headers["RateLimit-Limit"] = str(usage["limit"])
        response.headers["RateLimit-Remaining"] = str(max(0, _left(usage)))
        response.headers["RateLimit-Reset"] = str(max(0, int(usage["time_left"])))
    return response


_warned_at = 0.0


def _warn() -> None:
    """Once a minute and process: requests go on, and nobody counts them."""
    global _warned_at  # noqa: PLW0603
    now = time.monotonic()
    if now - _warned_at > 60:
        _warned_at = now
        logger.error("requests are not counted: the cache at REDIS_URL does not answer")
