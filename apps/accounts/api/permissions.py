"""The gate of every DRF view: what a view declares is asked of the caller, what it does not declare is refused."""

import logging
from typing import TYPE_CHECKING, Any

from rest_framework import permissions
from rest_framework.exceptions import MethodNotAllowed
from rest_framework.request import Request

from apps.accounts.permissions import holds
from apps.core.api.access import AGENT, AUTHENTICATED, OPEN

if TYPE_CHECKING:  # DRF's views import this module while they are imported themselves
    from rest_framework.views import APIView

__all__ = ["AGENT", "AUTHENTICATED", "OPEN", "DeclaredPermission", "declared"]

logger = logging.getLogger(__name__)


def declared(view: Any, method: str) -> str | None:
    """What `view` asks for under `method`: a permission's code, a word of `core.api.access`, `role:NAME`, or `None`.

    Looked up in `required_permissions` by action (viewsets) or HTTP method, then on the handler, where
    `@has_permission` and `@has_role` leave it.
    """
    required = getattr(view, "required_permissions", {})
    verb = "GET" if method == "HEAD" else method
    key = getattr(view, "action", None) or verb
    if key in required:
        return str(required[key])
    handler = getattr(view, verb.lower(), None)  # of a viewset: the one of its action
    if code := getattr(handler, "required_permission", None):
        return str(code)
    role = getattr(handler, "required_role", None)
    return f"role:{role}" if role else None


class DeclaredPermission(permissions.BasePermission):
    """Anonymous without the permission: 401; known without it: 403; nothing declared: 403 and an error in the log."""

    message = "You may not do this."

    def has_permission(self, request: Request, view: "APIView") -> bool:
        """Whether the caller holds what the view declares for this action."""
        if not _is_served(view, request):
            raise MethodNotAllowed(str(request.method))
        code = declared(view, str(request.method))
        if code is None:
            logger.error(
                "%s.%s declares no permission and is refused",
                type(view).__name__,
                getattr(view, "action", request.method),
            )
            return False
        if code == OPEN or code.startswith("role:"):
            return True  # the decorator on the handler asks for the role itself
        if code == AUTHENTICATED:
            return bool(request.user.is_authenticated)
        if code == AGENT:
            self.message = "Only the agent itself gets in here, with its own credential."
            return bool(getattr(request.user, "is_agent", False))
        self.message = f"This needs the permission {code}."
        return holds(request.user, code)


def _is_served(view: "APIView", request: Request) -> bool:
    """Whether this method leads anywhere; OPTIONS would describe fields and is not served."""
    if request.method == "OPTIONS":
        return False
    if hasattr(view, "action_map"):
        return getattr(view, "action", None) is not None
    return hasattr(view, str(request.method).lower())
