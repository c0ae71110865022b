"""`@has_permission` and `@has_role` for every kind of entry: plain views, viewset actions, consumers; sync and async.

They raise the errors of `apps.core.errors`; the frame (RequestMiddleware, DRF, a consumer) renders them.
"""

import functools
from collections.abc import Callable
from typing import Any, TypeVar, cast

from asgiref.sync import iscoroutinefunction, sync_to_async
from django.contrib.auth.models import AnonymousUser
from django.http import HttpRequest
from rest_framework.request import Request

from apps.accounts import permissions
from apps.accounts.callers import identify
from apps.accounts.permissions import Permission, Role

F = TypeVar("F", bound=Callable[..., Any])


def has_permission(permission: Permission, *, page: bool = False) -> Callable[[F], F]:
    """Let in only callers that hold `permission`.

    Decorates `view(request, …)`, `ViewSet.action(self, request, …)` and `Consumer.method(self, …)`. A plain view is
    authenticated here: by bearer token or session; CSRF is checked where a session is what identifies the caller.
    `page` is for HTML pages of a browser: their session counts also where `BROWSABLE_API` is off.
    """
    return _guard("required_permission", permission, permissions.require, permissions.arequire, page=page)


def has_role(role: Role | str, *, page: bool = False) -> Callable[[F], F]:
    """Let in only callers with `role` (or admins); otherwise as `has_permission`."""
    return _guard("required_role", str(role), permissions.require_role, permissions.arequire_role, page=page)


def _guard(
    mark: str, name: str, check: Callable[[Any, str], None], acheck: Callable[[Any, str], Any], *, page: bool
) -> Callable[[F], F]:
    def decorate(function: F) -> F:
        if iscoroutinefunction(function):

            @functools.wraps(function)
            async def guarded(*args: Any, **kwargs: Any) -> Any:
                user = _known(args)
                if user is None:
                    user = await sync_to_async(_identified)(args, page)
                await acheck(user, name)
                return await function(*args, **kwargs)
        else:

            @functools.wraps(function)
            def guarded(*args: Any, **kwargs: Any) -> Any:
                user = _known(args)
                check(_identified(args, page) if user is None else user, name)
                return function(*args, **kwargs)

        setattr(guarded, mark, name)
        # `identify` checks CSRF itself, and only for sessions: a bearer token cannot be sent by a foreign page.
        guarded.csrf_exempt = True  # type: ignore[attr-defined]
        return cast("F", guarded)

    return decorate


def _known(args: tuple[Any, ...]) -> Any:
    """The caller where a frame has already found it: DRF's request, or the scope of a socket."""
    for subject in args[:2]:
        if isinstance(subject, Request):
            return subject.user
        if isinstance(subject, HttpRequest):
            return None
    scope = getattr(args[0], "scope", None) if args else None
    if scope is None:
        raise TypeError("has_permission and has_role decorate views, viewset actions and consumers")
    return scope.get("user") or AnonymousUser()


def _identified(args: tuple[Any, ...], page: bool) -> Any:
    """The caller of a plain Django view, put where its code looks for it."""
    request = next(subject for subject in args[:2] if isinstance(subject, HttpRequest))
    user = identify(request, page=page)

    async def auser() -> Any:
        return user

    request.user = user
    request.auser = auser
    return user
