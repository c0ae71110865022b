"""JSON out: compact, strict (NaN and Infinity are an error of ours, never sent), problems with their media type.

And the pages of the API for a browser.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from rest_framework import renderers
from rest_framework.request import Request

from apps.core.api.problems import MEDIA_TYPE

if TYPE_CHECKING:  # DRF's views import this module while they are imported themselves
    from rest_framework.views import APIView


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
        # Within a page of the API this is a part of the page, which is no JSON.
        is_page = isinstance(getattr(response, "accepted_renderer", None), renderers.BrowsableAPIRenderer)
        if response is not None and getattr(response, "is_problem", False) and not is_page:
            response["Content-Type"] = MEDIA_TYPE
        rendered: bytes = super().render(data, accepted_media_type, renderer_context)
        return rendered


class BrowsableRenderer(renderers.BrowsableAPIRenderer):
    """DRF's pages of the API, also for views whose answer has `results` but whose rows are no queryset of their own."""

    def get_filter_form(self, data: Any, view: "APIView", request: Request) -> Any:
        """The form of the view's filters, where it has any."""
        return super().get_filter_form(data, view, request) if getattr(view, "filterset_class", None) else None
