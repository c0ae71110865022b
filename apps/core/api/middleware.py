"""The outermost frame of a request: its id, the security headers, and errors that rise out of plain views.

Native on both roads (sync and async): an async view pays no thread for it.
"""

import os
import re
import uuid
from collections.abc import Awaitable, Callable

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase

from apps.core.api.problems import MEDIA_TYPE, UNREACHABLE, problem_response
from apps.core.errors import Invalid, PlatformError
from apps.core.logs import current_request, request_id

HEADER = "X-Request-ID"
_ACCEPTED_ID = re.compile(r"[A-Za-z0-9-]{8,64}")

CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'self'",
        "img-src 'self' data:",
        "style-src 'self'",
        "script-src 'self'",
        # 'self' covers ws: and wss: of the same host and port (CSP 3); a bare `ws:` would allow every host.
        "connect-src 'self'",
        "frame-ancestors 'none'",
        "base-uri 'none'",
        "object-src 'none'",
        "form-action 'self'",
    )
)
"""No `unsafe-inline` anywhere: Django admin and the browsable API have no inline script, and Swagger UI's start script
is served from an address of its own (`SpectacularSwaggerSplitView`). What the policy refuses there are a few `style`
attributes of the browsable API, which `static/ui/api.css` says instead."""

GetResponse = Callable[[HttpRequest], HttpResponseBase] | Callable[[HttpRequest], Awaitable[HttpResponseBase]]


class RequestMiddleware:
    """Gives each request an id and each answer its headers; renders `PlatformError` of views outside DRF."""

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response
        self.is_async = iscoroutinefunction(get_response)
        if self.is_async:
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> HttpResponseBase | Awaitable[HttpResponseBase]:
        """Answer the request inside its id."""
        if self.is_async:
            return self._answer_async(request)
        token, answering = request_id.set(_id_of(request)), current_request.set(request)
        try:
            response = _refusal(request) or self.get_response(request)
            assert isinstance(response, HttpResponseBase)  # noqa: S101  # for the type checker: the sync road
            return _finish(response)
        finally:
            current_request.reset(answering)
            request_id.reset(token)

    async def _answer_async(self, request: HttpRequest) -> HttpResponseBase:
        token, answering = request_id.set(_id_of(request)), current_request.set(request)
        try:
            response = _refusal(request) or await self.get_response(request)  # type: ignore[misc]
            return _finish(response)
        finally:
            current_request.reset(answering)
            request_id.reset(token)

    def process_exception(self, request: HttpRequest, exception: Exception) -> HttpResponse | None:
        """An error of ours, or of the database, as its answer; all else is Django's (logged, then `handler500`)."""
        foreseen = isinstance(exception, (PlatformError, *UNREACHABLE))
        return problem_response(request, exception) if foreseen else None


def _id_of(request: HttpRequest) -> str:
    """The caller's id where it is harmless in a header and a log, or a new one."""
    given = request.headers.get(HEADER, "")
    return given if _ACCEPTED_ID.fullmatch(given) else str(uuid.uuid4())


def _measure(request: HttpRequest) -> None:
    """A chunked body has no declared length, and DRF takes such a request for an empty one: measure what arrived."""
    if "HTTP_TRANSFER_ENCODING" in request.META and "CONTENT_LENGTH" not in request.META:
        stream = getattr(request, "_stream", None)  # the ASGI handler has collected it in a (spooled) file
        if stream is not None and hasattr(stream, "seek"):
            request.META["CONTENT_LENGTH"] = str(stream.seek(0, os.SEEK_END))
            stream.seek(0)


def _refusal(request: HttpRequest) -> HttpResponse | None:
    """NUL is in no path or query of ours, and PostgreSQL answers it with an error deep inside; so do libraries that
    read a length which is no number."""
    declared = str(request.META.get("CONTENT_LENGTH") or "0")
    if not (declared.isascii() and declared.isdigit() and len(declared) < 20):
        return problem_response(request, Invalid("The header Content-Length must be a whole number."))
    _measure(request)
    if "\0" in request.path_info or "%00" in request.META.get("QUERY_STRING", ""):
        return problem_response(request, Invalid("NUL is not allowed in a path or a query."))
    return None


def _finish(response: HttpResponseBase) -> HttpResponseBase:
    headers = response.headers
    headers[HEADER] = request_id.get()
    headers.setdefault("Content-Security-Policy", CONTENT_SECURITY_POLICY)
    headers.setdefault("X-Content-Type-Options", "nosniff")
    headers.setdefault("Permissions-Policy", "camera=(), geolocation=(), microphone=()")
    kind = headers.get("Content-Type", "")
    if kind.startswith(("application/json", MEDIA_TYPE, "application/vnd.oai.openapi")):
        headers.setdefault("Cache-Control", "no-store")
    return response
