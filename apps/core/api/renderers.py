"""JSON out: compact, strict (NaN and Infinity are an error of ours, never sent), problems with their media type."""

from collections.abc import Mapping
from typing import Any

from rest_framework import renderers

from apps.core.api.problems import MEDIA_TYPE


class JSONRenderer(renderers.JSONRenderer):
    """DRF's renderer with compact output and without NaN, whatever the settings say."""

    labels_problems = True
    compact = True
    strict = True

    def render(
        self, data: Any, accepted_media_type: str | None = None, renderer_context: Mapping[str, Any] | None = None
    ) -> bytes:
        """`data` as bytes; an answer made by `exception_handler` is labelled `application/problem+json`."""
        response = (renderer_context or {}).get("response")
        if response is not None and getattr(response, "is_problem", False):
            response["Content-Type"] = MEDIA_TYPE
        rendered: bytes = super().render(data, accepted_media_type, renderer_context)
        return rendered
