"""Who opens a socket, and what for: read from the handshake, before anything is accepted.

A token is never taken from the query, where logs and histories would keep it. A cookie is sent by the browser whoever
made the page, so it counts only from an allowed Origin; so does everything else but a header credential, which no
foreign page can send.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, urlsplit

from django.conf import settings
from django.contrib.auth.models import AnonymousUser
from django.http import parse_cookie
from django.http.request import split_domain_port, validate_host

from apps.accounts.callers import bearer_of, read_bearer
from apps.accounts.models import User
from apps.accounts.ratelimit import count_handshake
from apps.core.errors import Denied, Invalid, Unauthenticated
from apps.progress import tickets
from apps.progress.credentials import Credential, may_watch, user_behind
from apps.progress.noting import request_of

_FORBIDDEN = frozenset({"token", "access_token", "refresh_token", "authorization"})
_KNOWN = frozenset({"workflow_id", "since", "include_completed", "include_failed", "coalesce", "ticket"})
_TRUE = frozenset({"true", "1", "yes", "on", ""})
_FALSE = frozenset({"false", "0", "no", "off"})
_DEFAULT_PORTS = {"http": "80", "https": "443"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Admission:
    """Whoever was let in, by which credential, and the subprotocol to answer with."""

    credential: Credential
    user: User | AnonymousUser
    subprotocol: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What the query asks for. `without` are the terminal statuses that shall not be told.

    `coalesce`: a reader that falls behind would rather have a snapshot than every event or the end.
    """

    workflow_id: str | None
    since: int | None
    without: frozenset[str]
    coalesce: bool = False


def admit(scope: Mapping[str, Any]) -> Admission:
    """Let the caller in (uses the database). Raises `Unauthenticated`, `Denied` or `TooMany`."""
    _count(scope)
    query = _query(scope)
    if _FORBIDDEN & {name.lower() for name in query}:
        raise Denied("A token in the query would be kept in logs; send a header, a subprotocol or a ticket.")
    headers = _headers(scope)
    if len(headers.get("authorization", ())) > 1 or len(headers.get("origin", ())) > 1:
        raise Denied("A header is given twice.")
    raw = bearer_of(headers.get("authorization", [""])[0])
    origin = headers.get("origin", [None])[0]
    if raw is None and origin is not None and not _allowed(origin, headers):
        raise Denied("This Origin is not allowed.")
    subprotocols = list(scope.get("subprotocols") or ())
    by_protocol = len(subprotocols) == 2 and subprotocols[0].lower() == "bearer"
    if raw is not None:
        credential = Credential(bearer=read_bearer(raw))
    elif by_protocol:
        credential = Credential(bearer=read_bearer(subprotocols[1]))
    elif "ticket" in query:
        credential = _of_ticket(query["ticket"])
    else:
        credential = _of_cookie(headers, origin)
    user = user_behind(credential)
    if not may_watch(user):
        if not user.is_authenticated:
            raise Unauthenticated("Authentication credentials were not provided.")
        raise Denied("This needs the permission progress:read.")
    return Admission(credential=credential, user=user, subprotocol=subprotocols[0] if by_protocol else None)


def _count(scope: Mapping[str, Any]) -> None:
    """One request of the caller's allowance, before anything is asked of the database about it. Raises `TooMany`."""
    request, headers, subprotocols = request_of(scope), _headers(scope), list(scope.get("subprotocols") or ())
    token = f"Bearer {subprotocols[1]}" if len(subprotocols) == 2 else ""
    request.META["HTTP_AUTHORIZATION"] = headers.get("authorization", [token])[0]
    count_handshake(request)


def wish(scope: Mapping[str, Any]) -> Wish:
    """What the query of a handshake asks for. Raises `Invalid`."""
    return wish_of(_query(scope))


def wish_of(query: Mapping[str, Sequence[str]]) -> Wish:
    """What a query asks for. Raises `Invalid`."""
    for name, values in query.items():
        if name in _KNOWN and len(values) > 1:
            raise Invalid(f"`{name}` is given more than once.")
    without: set[str] = set()
    if not _flag(query, "include_completed", default=True):
        without |= {"completed"}
    if not _flag(query, "include_failed", default=True):
        without |= {"failed", "timed_out"}
    return Wish(
        workflow_id=query["workflow_id"][0] if "workflow_id" in query else None,
        since=cursor(query["since"][0]) if "since" in query else None,
        without=frozenset(without),
        coalesce=_flag(query, "coalesce", default=False),
    )


def cursor(text: str) -> int:
    """The number of the last event that somebody has. Raises `Invalid`."""
    if not (text.isascii() and text.isdigit() and len(text) <= 18):
        raise Invalid("`since` must be a whole number from 0: the `seq` of the last event you have.")
    return int(text)


def _query(scope: Mapping[str, Any]) -> dict[str, list[str]]:
    raw = bytes(scope.get("query_string") or b"")
    try:
        return parse_qs(raw.decode("ascii"), keep_blank_values=True, max_num_fields=20)
    except ValueError:
        raise Denied("The query cannot be read.") from None


def _flag(query: Mapping[str, Sequence[str]], name: str, *, default: bool) -> bool:
    value = query.get(name, [str(default)])[0].lower()
    if value not in _TRUE | _FALSE:
        raise Invalid(f"`{name}` must be true or false.")
    return value in _TRUE


def _headers(scope: Mapping[str, Any]) -> dict[str, list[str]]:
    headers: dict[str, list[str]] = {}
    for name, value in scope.get("headers") or ():
        headers.setdefault(name.decode("latin1").lower(), []).append(value.decode("latin1"))
    return headers


def _allowed(origin: str, headers: Mapping[str, Sequence[str]]) -> bool:
    """Whether a page of this Origin may open a socket: one of this host, or one that operators named."""
    if origin in settings.CORS_ALLOWED_ORIGINS:
        return True
    try:
        page = urlsplit(origin)
        port = page.port
    except ValueError:
        return False
    hosts = headers.get("host", ())
    if page.scheme not in _DEFAULT_PORTS or not page.hostname or len(hosts) != 1:
        return False
    domain, our_port = split_domain_port(hosts[0])
    known = list(settings.ALLOWED_HOSTS) or (["localhost", "127.0.0.1", "[::1]"] if settings.DEBUG else [])
    if not domain or not validate_host(domain, known):
        return False
    default = _DEFAULT_PORTS[page.scheme]
    same_port = (str(port) if port else default) == (our_port or default)
    return page.hostname.lower() == domain.strip("[]").lower() and same_port


def _of_ticket(values: Sequence[str]) -> Credential:
    credential = tickets.redeem(values[0]) if len(values) == 1 else None
    if credential is None:
        raise Unauthenticated("The ticket is unknown, used or expired.", code="invalid_ticket")
    return credential


def _of_cookie(headers: Mapping[str, Sequence[str]], origin: str | None) -> Credential:
    """The session of the browser, or nothing. A cookie without an Origin comes from no page of a browser's."""
    cookies = parse_cookie("; ".join(headers.get("cookie", ())))
    key = cookies.get(settings.SESSION_COOKIE_NAME)
    if not key:
        return Credential()
    if origin is None:
        raise Denied("A cookie counts only with an Origin.")
    return Credential(session_key=key)
