"""Base classes of API views: what is not declared is refused, what is not known is an error."""

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from difflib import get_close_matches
from typing import Any, ClassVar

from django.db import transaction
from django.dispatch import Signal
from django.http import QueryDict
from rest_framework import generics, serializers, viewsets
from rest_framework.request import Request
from rest_framework.response import Response

from apps.core.api.access import AGENT, AUTHENTICATED, OPEN

__all__ = [
    "AGENT",
    "AUTHENTICATED",
    "OPEN",
    "Declared",
    "GenericAPIView",
    "GenericViewSet",
    "Strict",
    "StrictModelSerializer",
    "StrictSerializer",
    "ViewSet",
    "changed",
    "refused",
    "turned_away",
]

CHANGING = frozenset({"POST", "PUT", "PATCH", "DELETE"})

changed = Signal()
"""A request changed something: `view, request, response`. Sent within the transaction of `together` actions, else right
after the handler; a receiver may take note, never decide."""

refused = Signal()
"""A request was refused by an error: `view, request, error, response`. Sent after its transaction was undone."""

turned_away = Signal()
"""The handshake of a socket was refused by an error: `error`. There is no view, and no answer that could say why."""


class Declared:
    """A view that names, for each action (or HTTP method, where it has no actions), the permission it asks for.

    Whatever is missing in `required_permissions` is refused at run time, and a contract test fails for it.
    """

    required_permissions: ClassVar[Mapping[str, str]] = {}
    # OPTIONS would describe the fields to callers who may not read them (a CORS preflight never comes this far).
    metadata_class: Any = None  # OPTIONS would describe the fields to callers who may not read them
    http_method_names: Any = ["get", "post", "put", "patch", "delete", "head"]

    untold: ClassVar[frozenset[str]] = frozenset()
    """Actions (or methods) that change nothing anybody asks about later, or that are told where they happen."""
    together: ClassVar[frozenset[str]] = frozenset()
    """Actions that are one short transaction together with what hears of them. Not for those that wait, compute at
    length or speak to others: the transaction would keep every other writer of SQLite waiting."""

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        """Once the caller is let in, tell `changed` of what the handler does."""
        super().initial(request, *args, **kwargs)  # type: ignore[misc]  # APIView's: this stands before it
        method = str(request.method)
        if method in CHANGING and (action := getattr(self, "action", None) or method) not in self.untold:
            handler = getattr(self, method.lower())  # the gate has refused a method without one
            setattr(self, method.lower(), self._telling(handler, within=action in self.together))

    def _telling(self, handler: Callable[..., Response], *, within: bool) -> Callable[..., Response]:
        def handle(request: Request, *args: Any, **kwargs: Any) -> Response:
            with transaction.atomic() if within else nullcontext():
                response = handler(request, *args, **kwargs)
                if response.status_code < 400:
                    changed.send(sender=type(self), view=self, request=request, response=response)
                return response

        return handle

    def handle_exception(self, error: Exception) -> Response:
        """DRF's answer, told to `refused`."""
        response: Response = super().handle_exception(error)  # type: ignore[misc]
        refused.send_robust(
            sender=type(self), view=self, request=getattr(self, "request", None), error=error, response=response
        )
        return response


class ViewSet(Declared, viewsets.ViewSet):
    """A viewset without a queryset."""


class GenericViewSet(Declared, viewsets.GenericViewSet[Any]):
    """A viewset with a queryset; mix in what it does from `rest_framework.mixins`."""


class GenericAPIView(Declared, generics.GenericAPIView[Any]):
    """A single endpoint; `required_permissions` is keyed by HTTP method (HEAD counts as GET)."""


class Strict(serializers.BaseSerializer[Any]):
    """Refuses fields that a serializer does not know or that a caller may not set."""

    def to_internal_value(self, data: Any) -> Any:
        """The validated fields; unknown ones are reported beside every other mistake."""
        unknown = self._unknown(data) if isinstance(data, Mapping) else {}
        try:
            value = super().to_internal_value(data)
        except serializers.ValidationError as error:
            if unknown and isinstance(error.detail, Mapping):
                raise serializers.ValidationError({**error.detail, **unknown}) from None
            raise
        if unknown:
            raise serializers.ValidationError(unknown)
        return value

    def _unknown(self, data: Mapping[str, Any]) -> dict[str, list[serializers.ErrorDetail]]:
        fields: Mapping[str, serializers.Field[Any, Any, Any, Any]] = self.fields  # type: ignore[attr-defined]
        writable = [name for name, field in fields.items() if not field.read_only]
        found: dict[str, list[serializers.ErrorDetail]] = {}
        for name in data:
            if name in writable or (name == "csrfmiddlewaretoken" and isinstance(data, QueryDict)):
                continue
            if name in fields:
                found[name] = [serializers.ErrorDetail("this field cannot be set", code="read_only")]
                continue
            close = get_close_matches(str(name), writable, n=1)
            hint = f"; did you mean `{close[0]}`?" if close else ""
            found[str(name)] = [serializers.ErrorDetail(f"unknown field{hint}", code="unknown_field")]
        return found


class StrictSerializer(Strict, serializers.Serializer[Any]):
    """A serializer that knows all that it is sent."""


class StrictModelSerializer(Strict, serializers.ModelSerializer[Any]):
    """A model serializer that knows all that it is sent."""
