"""Who may open a page: the same answer as the API gives, with the session of a browser."""

import functools
from collections.abc import Callable
from typing import Any

from django.http import HttpRequest
from django.http.response import HttpResponseBase

from apps.accounts.callers import identify
from apps.accounts.permissions import Permission, require
from apps.core.api.access import OPEN

View = Callable[..., HttpResponseBase]


def page(permission: Permission) -> Callable[[View], View]:
    """Let in holders of `permission`, and any account besides: it may own a workflow, or have been granted one.

    What the page then shows comes from `visible_to` querysets. Callers without credentials need the permission by
    `ANONYMOUS_ROLE`; otherwise `Unauthenticated`, which a browser sees as the login page.
    """

    def decorate(view: View) -> View:
        @functools.wraps(view)
        def guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
            request.user = user = identify(request, page=True)
            if not user.is_authenticated:
                require(user, permission)
            return view(request, *args, **kwargs)

        guarded.required_permission = permission  # type: ignore[attr-defined]
        return guarded

    return decorate


def open_page(view: View) -> View:
    """Mark a page that asks for no credential: the matrix of permissions lists it as open."""
    view.required_permission = OPEN  # type: ignore[attr-defined]
    return view
