"""`/executions/{id}/artifacts` and `/executions/{id}/logs`: what steps left as files, and what they wrote."""

import asyncio
import re
from collections.abc import AsyncIterator, Iterator
from typing import Any
from uuid import UUID

from asgiref.sync import sync_to_async
from django.http import HttpResponse, HttpResponseBase, StreamingHttpResponse
from django.utils.http import content_disposition_header
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from apps.core.errors import Invalid, NotFound, Problem, Unavailable
from apps.vault import blobs
from apps.workflows.api.gate import GatedViewSet
from apps.workflows.api.serializers import LogSerializer
from apps.workflows.models import Artifact
from apps.workflows.selectors import logs

AS_THEY_ARE = frozenset({
    "application/gzip", "application/json", "application/pdf", "application/zip", "image/gif", "image/jpeg",
    "image/png", "image/webp", "text/csv", "text/plain",
})  # fmt: skip
"""Types that no browser executes; a file of another is `application/octet-stream`. None is shown in a page."""

_RANGE = re.compile(r"bytes=(?:(\d{1,18})-(\d{0,18})|-(\d{1,18}))")
MAX_ROWS = 1000


class ArtifactSerializer(serializers.ModelSerializer[Artifact]):
    """A file that an attempt left; `spilled`: an output that was too large for its place."""

    step_id = serializers.CharField(source="task.step_id", read_only=True)
    attempt = serializers.IntegerField(source="fence", read_only=True)
    sha256 = serializers.CharField(source="blob_id", read_only=True)

    class Meta:
        model = Artifact
        fields = [
            "id", "name", "step_id", "attempt", "size", "content_type", "sha256", "spilled", "created_at",
        ]  # fmt: skip
        read_only_fields = fields


class WrittenActions(GatedViewSet):
    """The actions for the viewset of executions."""

    @extend_schema(responses=ArtifactSerializer(many=True))
    @action(detail=True, filterset_class=None)
    def artifacts(self, request: Request, id: str) -> Response:  # noqa: A002, ARG002 (the route's word)
        """Files that its steps left, newest first; each is downloaded below its `id`."""
        rows = Artifact.objects.filter(execution=self.get_object()).select_related("task")
        page = self.paginate_queryset(rows)
        return self.get_paginated_response(ArtifactSerializer(page, many=True).data)

    @extend_schema(
        responses={(200, "application/octet-stream"): OpenApiTypes.BINARY},
        parameters=[OpenApiParameter("artifact", OpenApiTypes.UUID, "path")],
    )
    @action(
        detail=True, url_path="artifacts/(?P<artifact>[0-9a-fA-F-]{36})", pagination_class=None, filterset_class=None
    )
    def artifact(self, request: Request, id: str, artifact: str) -> HttpResponseBase:  # noqa: A002, ARG002
        """Download one; `Range: bytes=…` gives a part (206). It is never shown in a page of this origin."""
        try:
            key = UUID(artifact)
        except ValueError:
            raise NotFound("there is no such artifact") from None
        row = Artifact.objects.filter(execution=self.get_object(), pk=key).first()
        if row is None:
            raise NotFound("there is no such artifact")
        return _download(row, request)

    @extend_schema(
        responses=LogSerializer(many=True),
        parameters=[
            OpenApiParameter("step_id", str, description="Only this step's."),
            OpenApiParameter("after", str, description="Only what was written after the piece with this `cursor`."),
            OpenApiParameter("limit", int, description=f"At most so many, up to {MAX_ROWS:,}."),
        ],
    )
    @action(detail=True, pagination_class=None, filterset_class=None)
    def logs(self, request: Request, id: str) -> Response:  # noqa: A002, ARG002
        """What its steps wrote, in the order of writing; ask again with the last `cursor` to follow it."""
        after = _cursor(request.query_params.get("after", ""))
        limit = request.query_params.get("limit") or str(MAX_ROWS)
        if not (limit.isascii() and limit.isdigit() and len(limit) < 19):
            raise _wrong("limit", "give a whole number from 0 on")
        step = request.query_params.get("step_id", "").replace("\0", "")
        rows = logs.written(self.get_object(), step=step, after=after)[: min(int(limit), MAX_ROWS)]
        return Response(LogSerializer(rows, many=True).data)

    @extend_schema(
        responses={(200, "text/plain"): OpenApiTypes.STR},
        parameters=[OpenApiParameter("step_id", str, description="Only this step's.")],
    )
    @action(detail=True, url_path="logs.txt", pagination_class=None, filterset_class=None)
    def logs_text(self, request: Request, id: str) -> HttpResponseBase:  # noqa: A002, ARG002
        """The same as a file of text, with whatever colours it has; one attempt of a task after the other."""
        execution = self.get_object()
        step = request.query_params.get("step_id", "").replace("\0", "")
        answer = StreamingHttpResponse(
            _queried(logs.as_text(execution, step=step)), content_type="text/plain; charset=utf-8"
        )
        _never_in_a_page(answer, f"{execution.pk}.log")
        return answer


def _download(row: Artifact, request: Request) -> HttpResponseBase:
    tag = f'"{row.blob_id}"'
    if request.headers.get("If-None-Match") == tag:
        return HttpResponse(status=304, headers={"ETag": tag})
    start, stop = 0, row.size
    asked = request.headers.get("Range", "") if request.headers.get("If-Range", tag) == tag else ""
    if found := _RANGE.fullmatch(asked.strip()):
        first, last, suffix = found.groups()
        start = max(0, row.size - int(suffix)) if suffix else int(first)
        stop = min(row.size, int(last) + 1) if last else row.size
        if start >= stop:
            return HttpResponse(status=416, headers={"Content-Range": f"bytes */{row.size}"})
    try:
        pieces = blobs.read(row.blob_id, start, stop - start)
    except FileNotFoundError:
        raise NotFound("the bytes of this artifact are gone from the storage") from None
    except OSError:
        raise Unavailable("the storage of artifacts does not answer: try again") from None
    kind = row.content_type.partition(";")[0]
    kind = (f"{kind}; charset=utf-8" if kind.startswith("text/") else kind) if kind in AS_THEY_ARE else ""
    answer = StreamingHttpResponse(
        _streamed(pieces), status=206 if found else 200, content_type=kind or "application/octet-stream"
    )
    answer["Content-Length"] = str(stop - start)
    answer["Accept-Ranges"] = "bytes"
    answer["ETag"] = tag
    if found:
        answer["Content-Range"] = f"bytes {start}-{stop - 1}/{row.size}"
    _never_in_a_page(answer, row.name.rpartition("/")[2])
    return answer


def _never_in_a_page(answer: HttpResponseBase, name: str) -> None:
    disposition = content_disposition_header(as_attachment=True, filename=re.sub(r"[\x00-\x1f\x7f]", "_", name))
    answer["Content-Disposition"] = disposition or "attachment"
    answer["X-Content-Type-Options"] = "nosniff"
    answer["Content-Security-Policy"] = "default-src 'none'; sandbox"
    answer["Cache-Control"] = "private, no-store"


async def _streamed(pieces: Iterator[Any]) -> AsyncIterator[Any]:
    """One piece after the other, read by a thread: the event loop waits for no disk."""
    while (piece := await asyncio.to_thread(next, pieces, None)) is not None:
        yield piece


async def _queried(pieces: Iterator[Any]) -> AsyncIterator[Any]:
    """The same of what comes out of the database: by the thread that has the request's connection."""
    following = sync_to_async(lambda: next(pieces, None))
    while (piece := await following()) is not None:
        yield piece


def _cursor(text: str) -> logs.Cursor | None:
    try:
        return logs.read_cursor(text) if text else None
    except ValueError:
        raise _wrong("after", "give the `cursor` of a piece of log") from None


def _wrong(name: str, message: str) -> Invalid:
    problem = Problem(pointer=f"/{name}", code="invalid", message=message)
    return Invalid(f"The query parameter `{name}`: {message}.", problems=[problem])
