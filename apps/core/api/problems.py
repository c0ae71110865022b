"""Every error of every surface as one RFC 9457 answer; the only module that knows which error has which status.

An answer says what was wrong and how to fix it, and never where in the program it happened.
"""

import logging
import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

from django.conf import settings
from django.contrib.auth import get_user
from django.contrib.auth.views import redirect_to_login
from django.core import exceptions as django_errors
from django.db import IntegrityError, InterfaceError, OperationalError
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse, UnreadablePostError
from django.shortcuts import resolve_url
from django.template.loader import render_to_string
from django.utils.html import escape
from django_ratelimit.exceptions import Ratelimited
from rest_framework import exceptions as drf_errors
from rest_framework.renderers import BrowsableAPIRenderer
from rest_framework.response import Response
from rest_framework.settings import api_settings

from apps.core import errors
from apps.core.errors import Problem
from apps.core.logs import request_id

MEDIA_TYPE = "application/problem+json"
PAGE_PREFIXES = ("/ui", "/admin", "/docs", "/monitoring/runbooks/")
"""Where a browser that asks for HTML gets a page and not JSON."""

_STATUS: tuple[tuple[type[errors.PlatformError], int], ...] = (
    (errors.Unauthenticated, 401),
    (errors.Denied, 403),
    (errors.NotFound, 404),
    (errors.Conflict, 409),
    (errors.TooLarge, 413),
    (errors.Unprocessable, 422),
    (errors.TooMany, 429),
    (errors.Unavailable, 503),
    (errors.Full, 507),
    (errors.PlatformError, 400),
)

_DJANGO: tuple[tuple[type[Exception], int, Mapping[str, str]], ...] = (
    (Http404, 404, {}),  # its own text would name the model
    (Ratelimited, 429, {"Retry-After": "60"}),
    (django_errors.PermissionDenied, 403, {}),
    (django_errors.RequestDataTooBig, 413, {}),
    (django_errors.SuspiciousOperation, 400, {}),
    (django_errors.BadRequest, 400, {}),
    (UnreadablePostError, 400, {}),
)

_DEFAULTS: Mapping[int, tuple[str, str]] = {
    400: ("bad_request", "The request cannot be understood."),
    401: ("not_authenticated", "Authentication credentials were not provided."),
    403: ("permission_denied", "You may not do this."),
    404: ("not_found", "There is no such thing, or you may not know of it."),
    413: ("too_large", "The body is larger than allowed."),
    429: ("rate_limited", "Too many requests; wait as long as Retry-After says."),
    500: ("internal_error", "Something went wrong on our side; quote the request_id when you report it."),
    503: ("database_unavailable", "The database does not answer; try again as Retry-After says."),
    507: ("storage_full", "The database's disk is full, and nothing was changed; try again when there is room."),
}

UNREACHABLE = (OperationalError, InterfaceError)
"""The database is away, or cannot take it now. Nothing was changed, or (a lost answer) the same request may be sent
again: with an `Idempotency-Key` it has one effect."""
_DELETED = "What this refers to was deleted meanwhile, and nothing was changed."
_RETRY_SECONDS = {503: "2", 507: "30"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Description:
    """An error in the words of HTTP."""

    status: int
    code: str
    detail: str
    problems: Sequence[Problem] = ()
    allowed_actions: Sequence[str] | None = None
    headers: Mapping[str, str] = field(default_factory=dict)

    def body(self) -> dict[str, Any]:
        """The members of the answer, with the id of the present request."""
        body: dict[str, Any] = {
            "type": "about:blank",
            "title": HTTPStatus(self.status).phrase,
            "status": self.status,
            "code": self.code,
            "detail": self.detail,
            "errors": [{"pointer": p.pointer, "code": p.code, "message": p.message} for p in self.problems],
            "request_id": request_id.get(),
        }
        if self.allowed_actions is not None:
            body["allowed_actions"] = list(self.allowed_actions)
        return body


def describe(error: BaseException) -> Description | None:
    """What `error` means to a caller; `None` for one nobody foresaw (a 500)."""
    if isinstance(error, errors.PlatformError):
        return _of_platform(error)
    if isinstance(error, drf_errors.APIException):
        return _of_drf(error)
    if isinstance(error, django_errors.ValidationError):
        return Description(status=400, code="invalid", detail="What was sent is not valid.", problems=_of_django(error))
    if isinstance(error, UNREACHABLE):
        return _of_database(error)
    if isinstance(error, IntegrityError) and _refers_to_nothing(error):
        return Description(status=409, code="deleted_meanwhile", detail=_DELETED)
    return next((_plain(status, headers=headers) for kind, status, headers in _DJANGO if isinstance(error, kind)), None)


def problem_response(request: HttpRequest, error: BaseException) -> HttpResponse:
    """`error` as an answer, for views, middleware and handlers outside DRF.

    A browser that asks for HTML on a page (`PAGE_PREFIXES`) gets HTML, and is led to the login page where it has no
    credential; everybody else gets `application/problem+json`.
    """
    description = describe(error) or _plain(500)
    if wants_page(request):
        return _page(request, description)
    return _with_headers(
        JsonResponse(description.body(), status=description.status, content_type=MEDIA_TYPE), description
    )


def exception_handler(error: Exception, context: Mapping[str, Any]) -> HttpResponse | Response | None:
    """DRF's `EXCEPTION_HANDLER`.

    `None` lets an unforeseen error rise to Django, which logs it and calls `handler500`.
    """
    description = describe(error)
    if description is None:
        return None
    from rest_framework.views import set_rollback  # DRF's views import our classes while they are imported themselves

    set_rollback()
    request = context["request"]
    if wants_page(request._request):
        return problem_response(request._request, error)
    renderer = getattr(request, "accepted_renderer", None)
    # Without a renderer none could be agreed on, and DRF would take the view's first, which need not know errors.
    if isinstance(renderer, BrowsableAPIRenderer) or getattr(renderer, "labels_problems", False):
        response = Response(description.body(), status=description.status)
        response.is_problem = True  # type: ignore[attr-defined]  # the renderer gives it its media type
        for name, value in description.headers.items():
            response[name] = value
        return response
    # Text formats (metrics, templates, event streams) have no form for an error of ours.
    return problem_response(request._request, error)


def handler400(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Django's answer to a request it cannot read."""
    return problem_response(request, exception if describe(exception) else django_errors.BadRequest())


def handler403(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Django's answer to a refusal; django-ratelimit raises one too, which is a 429."""
    return problem_response(request, exception)


def handler404(request: HttpRequest, exception: Exception) -> HttpResponse:  # noqa: ARG001
    """Django's answer to an unknown route; its own text would list the routes that exist."""
    return problem_response(request, Http404())


def handler500(request: HttpRequest) -> HttpResponse:
    """Django's answer to an error nobody foresaw; Django has logged the traceback under the same request id.

    What a middleware met on its way to the database comes here as well, and is foreseen.
    """
    error = sys.exc_info()[1]
    return problem_response(request, error if isinstance(error, UNREACHABLE) else RuntimeError())


def csrf_failure(request: HttpRequest, reason: str = "") -> HttpResponse:
    """`CSRF_FAILURE_VIEW`: a write with a cookie and without its token."""
    logging.getLogger("django.security.csrf").info("csrf check failed: %s", reason)
    return problem_response(request, csrf_denied())


def csrf_denied() -> errors.Denied:
    """The error of a write that a foreign page could have sent."""
    return errors.Denied(
        "The CSRF token is missing or wrong: load the page again, or send the X-CSRFToken header.", code="csrf_failed"
    )


def wants_page(request: HttpRequest) -> bool:
    """Whether this is a browser on one of our pages."""
    return request.path.startswith(PAGE_PREFIXES) and "text/html" in request.headers.get("Accept", "")


def pointer(*parts: str | int) -> str:
    """A JSON pointer (RFC 6901) to the member that `parts` lead to."""
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in parts)


def _plain(status: int, *, headers: Mapping[str, str] | None = None) -> Description:
    code, detail = _DEFAULTS[status]
    return Description(status=status, code=code, detail=detail, headers=headers or {})


def _refers_to_nothing(error: IntegrityError) -> bool:
    """Whether a row was to be written that refers to one which is gone by the time of the commit."""
    return getattr(error.__cause__, "sqlstate", "") == "23503" or "FOREIGN KEY constraint failed" in str(error)


def _of_database(error: BaseException) -> Description:
    full = "disk is full" in str(error) or getattr(error.__cause__, "sqlstate", "") == "53100"
    status = 507 if full else 503
    logging.getLogger(__name__).warning("the database %s: %s", "is full" if full else "does not answer", error)
    return _plain(status, headers={"Retry-After": _RETRY_SECONDS[status]})


def _of_platform(error: errors.PlatformError) -> Description:
    status = next(status for kind, status in _STATUS if isinstance(error, kind))
    headers = {}
    if isinstance(error, errors.TooMany):
        headers["Retry-After"] = str(max(1, error.retry_after))
    if isinstance(error, errors.Unauthenticated):
        headers["WWW-Authenticate"] = "Bearer"
    return Description(
        status=status,
        code=error.code,
        detail=error.detail,
        problems=error.problems,
        allowed_actions=error.allowed_actions if isinstance(error, errors.Conflict) else None,
        headers=headers,
    )


def _of_drf(error: drf_errors.APIException) -> Description:
    headers: dict[str, str] = {}
    if error.status_code == 401:
        headers["WWW-Authenticate"] = "Bearer"
    if isinstance(error, drf_errors.Throttled):
        headers["Retry-After"] = str(math.ceil(getattr(error, "wait", None) or 1))
        return _plain(429, headers=headers)
    if isinstance(error, drf_errors.NotFound):
        return _plain(404)
    if isinstance(error, drf_errors.ValidationError):
        return Description(
            status=400,
            code="invalid",
            detail="What was sent is not valid; `errors` lists every mistake.",
            problems=tuple(_of_detail(error.detail)),
        )
    code = error.get_codes()
    return Description(
        status=error.status_code,
        code=code if isinstance(code, str) else "error",
        detail=str(error.detail),
        headers=headers,
    )


def _of_detail(detail: Any, here: str = "") -> Iterator[Problem]:
    """DRF's nested error detail as flat problems with pointers."""
    if isinstance(detail, Mapping):
        for key, value in detail.items():
            inside = here if key == api_settings.NON_FIELD_ERRORS_KEY else here + pointer(str(key))
            yield from _of_detail(value, inside)
    elif isinstance(detail, list | tuple):
        for index, value in enumerate(detail):
            yield from _of_detail(value, here + pointer(index) if isinstance(value, Mapping | list | tuple) else here)
    else:
        yield Problem(pointer=here, code=str(getattr(detail, "code", None) or "invalid"), message=str(detail))


def _of_django(error: django_errors.ValidationError) -> tuple[Problem, ...]:
    if hasattr(error, "error_dict"):
        return tuple(
            Problem(
                pointer="" if name == django_errors.NON_FIELD_ERRORS else pointer(name), code="invalid", message=message
            )
            for name, messages in error.message_dict.items()
            for message in messages
        )
    return tuple(Problem(pointer="", code="invalid", message=message) for message in error.messages)


def _page(request: HttpRequest, description: Description) -> HttpResponse:
    # Who has a session and is refused all the same (one that opens no API) would be led round in a circle.
    if description.status == 401 and not (hasattr(request, "session") and get_user(request).is_authenticated):
        return redirect_to_login(request.get_full_path(), login_url=resolve_url(settings.LOGIN_URL))
    body = description.body()
    html: str
    try:
        html = render_to_string([f"{description.status}.html", "error.html"], {"problem": body}, request)
    except Exception:
        # A template that fails while an error is rendered must not hide the first error.
        logging.getLogger(__name__).exception("the template %s.html failed", description.status)
        html = (
            f"<!DOCTYPE html><title>{description.status}</title><h1>{description.status} {escape(body['title'])}</h1>"
        )
    return _with_headers(HttpResponse(html, status=description.status), description)


def _with_headers(response: HttpResponse, description: Description) -> HttpResponse:
    for name, value in description.headers.items():
        response[name] = value
    return response
