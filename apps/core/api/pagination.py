"""Lists by cursor: `{results, next, previous}`; no cost that grows with the page number, no page that skips a row."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from django.core.exceptions import ValidationError
from django.db.models import QuerySet
from django.db.utils import DataError
from rest_framework import pagination
from rest_framework.exceptions import NotFound
from rest_framework.request import Request
from rest_framework.response import Response

from apps.core.api.problems import pointer
from apps.core.errors import Invalid, Problem

if TYPE_CHECKING:  # DRF's views import this module while they are imported themselves
    from rest_framework.views import APIView

MAX_LIMIT = 1000


class CursorPagination(pagination.CursorPagination):
    """Newest first by id; `?limit=` up to 1,000.

    A view's own `ordering` names columns that are never null; the id is added at its end, so that the order is total.
    """

    page_size_query_param = "limit"
    page_size_query_description = f"Rows of a page, at most {MAX_LIMIT:,}."
    max_page_size = MAX_LIMIT
    ordering = "-id"

    def get_page_size(self, request: Request) -> int:
        """Rows of this page. Raises `Invalid` for what is no positive whole number; more than 1,000 are 1,000."""
        given = request.query_params.get("limit")
        if given is None or given == "":
            return self.page_size or MAX_LIMIT
        if not (given.isascii() and given.isdigit()) or not given.strip("0"):
            raise _invalid("limit", f"must be a whole number from 1 to {MAX_LIMIT}")
        return MAX_LIMIT if len(given.lstrip("0")) > len(str(MAX_LIMIT)) else min(int(given), MAX_LIMIT)

    def get_ordering(self, request: Request, queryset: QuerySet[Any], view: "APIView") -> tuple[str, ...]:
        """The view's order, ending in the id in the same direction."""
        ordering: Sequence[str] = super().get_ordering(request, queryset, view)
        if ordering[-1].lstrip("-") in ("id", "pk"):
            return tuple(ordering)
        return (*ordering, "-id" if ordering[0].startswith("-") else "id")

    def paginate_queryset(self, queryset: Any, request: Request, view: "APIView | None" = None) -> list[Any] | None:
        """One page. Raises `Invalid` for a cursor that is none of ours."""
        try:
            return super().paginate_queryset(queryset, request, view)
        except (NotFound, ValidationError, ValueError, TypeError, OverflowError, DataError) as error:
            if request.query_params.get(self.cursor_query_param):
                raise _invalid("cursor", "take it from `next` or `previous` of an answer") from error
            raise

    def get_paginated_response(self, data: Any) -> Response:
        """`{results, next, previous}`."""
        return Response({"results": data, "next": self.get_next_link(), "previous": self.get_previous_link()})


def _invalid(parameter: str, message: str) -> Invalid:
    return Invalid(
        f"The query parameter `{parameter}` {message}.",
        problems=[Problem(pointer=pointer(parameter), code="invalid", message=message)],
    )
