"""What the OpenAPI document says of every operation, so that no view has to."""

from typing import Any

from drf_spectacular import openapi
from drf_spectacular.utils import OpenApiParameter

_KEY = OpenApiParameter(
    "Idempotency-Key",
    str,
    OpenApiParameter.HEADER,
    description="The same key with the same request has one effect within 24 hours, and the first answer is repeated.",
)


class AutoSchema(openapi.AutoSchema):
    """drf-spectacular's, with a summary of each operation, and the headers that a whole family of views takes."""

    def get_summary(self) -> str | None:
        """The first line of what an operation says of itself: what is read before one of them is opened."""
        said: str | None = super().get_summary()
        return said or self.get_description().strip().partition("\n")[0] or None

    def get_override_parameters(self) -> list[Any]:
        """The header `Idempotency-Key`, of the views that say they take it, wherever something is changed."""
        found: list[Any] = super().get_override_parameters()
        takes = getattr(self.view, "takes_idempotency_key", False)
        return [*found, _KEY] if takes and self.method in ("POST", "PUT", "PATCH", "DELETE") else found
