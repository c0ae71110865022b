"""Base classes of API views: what is not declared is refused, what is not known is an error."""

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any, ClassVar

from django.http import QueryDict
from rest_framework import generics, serializers, viewsets

from apps.core.api.access import AUTHENTICATED, OPEN

__all__ = [
    "AUTHENTICATED",
    "OPEN",
    "Declared",
    "GenericAPIView",
    "GenericViewSet",
    "Strict",
    "StrictModelSerializer",
    "StrictSerializer",
    "ViewSet",
]


class Declared:
    """A view that names, for each action (or HTTP method, where it has no actions), the permission it asks for.

    Whatever is missing in `required_permissions` is refused at run time, and a contract test fails for it.
    """

    required_permissions: ClassVar[Mapping[str, str]] = {}
    # OPTIONS would describe the fields to callers who may not read them (a CORS preflight never comes this far).
    metadata_class: Any = None  # OPTIONS would describe the fields to callers who may not read them
    http_method_names: Any = ["get", "post", "put", "patch", "delete", "head"]


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
