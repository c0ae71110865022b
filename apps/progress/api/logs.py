"""`/executions/{id}/logs/stream`: what steps write, as Server-Sent Events while they write it.

An event's id is the piece's cursor. The caller's right is asked for again with each look, so it ends within seconds of
it; a peer that does not read is waited for, and nothing is gathered for it meanwhile.
"""

import asyncio
import json
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from time import monotonic
from typing import Any
from uuid import UUID

from django.http import StreamingHttpResponse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.request import Request

from apps.accounts.permissions import Permission
from apps.core.api.renderers import JSONRenderer
from apps.core.api.viewsets import GenericAPIView
from apps.core.errors import Denied, Invalid, NotFound, PlatformError, Problem
from apps.progress.api import stream
from apps.progress.api.views import EventStreamRenderer, OnSomeWorkflow, credential_of
from apps.progress.credentials import Credential, users_behind
from apps.progress.feed import in_thread
from apps.progress.session import ending_of
from apps.progress.wire import CONGESTED, PEER, Peer
from apps.workflows.api.serializers import LogSerializer
from apps.workflows.engine.states import TERMINAL
from apps.workflows.models import Execution, LogChunk
from apps.workflows.selectors import logs
from apps.workflows.selectors.progress import execution_key

SOON, LATER = 0.5, 2.0  # seconds to the next look: after one that found something, and at most


class LogStreamView(GenericAPIView):
    """The log of an execution as it grows."""

    required_permissions = {"GET": Permission.TASK_READ}
    permission_classes = [OnSomeWorkflow]
    renderer_classes = [EventStreamRenderer, JSONRenderer]
    serializer_class = LogSerializer

    @extend_schema(
        operation_id="executions_logs_stream",
        parameters=[
            OpenApiParameter("step_id", str, description="Only this step's."),
            OpenApiParameter("after", str, description="Only what was written after the piece with this `cursor`."),
            OpenApiParameter(
                "Last-Event-ID", str, OpenApiParameter.HEADER, description="The same; browsers send it by themselves."
            ),
        ],
        responses={(200, stream.MEDIA_TYPE): OpenApiTypes.STR},
    )
    def get(self, request: Request, id: str) -> StreamingHttpResponse:  # noqa: A002 (the route's word)
        """Live tail as Server-Sent Events: every piece once, those that are there first; `end` after the last."""
        key = execution_key(id)
        visible = Execution.objects.visible_to(request.user, Permission.TASK_READ)
        if key is None or not visible.filter(pk=key).exists():
            raise NotFound("There is no such thing, or you may not know of it.")
        after = request.headers.get("Last-Event-ID", "").strip() or request.query_params.get("after", "")
        following = Following(
            execution=key,
            tail=logs.Tail(key, step=request.query_params.get("step_id", "").replace("\0", ""), after=_cursor(after)),
            credential=credential_of(request),
        )
        response = StreamingHttpResponse(_stream(following, PEER.get() or Peer()), content_type=stream.MEDIA_TYPE)
        response["Cache-Control"] = "no-store"
        response["X-Accel-Buffering"] = "no"  # nginx would keep it until it has a buffer full
        return response


@dataclass(frozen=True, slots=True, kw_only=True)
class Following:
    """Whose log is followed, and by whom."""

    execution: UUID
    tail: logs.Tail
    credential: Credential

    def look(self) -> tuple[list[LogChunk], str]:
        """What is new, and the status of an execution that has ended ("" of one that goes on). Uses the database.

        Raises PlatformError where the caller may not read it any more.
        """
        user = users_behind({self.credential})[self.credential]
        if isinstance(user, PlatformError):
            raise user
        visible = Execution.objects.visible_to(user, Permission.TASK_READ).filter(pk=self.execution)
        status = visible.values_list("status", flat=True).first()
        if status is None:
            raise Denied("You may no longer read this, or it was deleted.")
        # Read before the pieces: with the end of an execution its last ones are there.
        return self.tail.look(), status if status in TERMINAL else ""


async def _stream(following: Following, peer: Peer) -> AsyncGenerator[bytes, None]:
    yield f"retry: {stream.RETRY_MS}\n\n".encode()
    pause, told = SOON, monotonic()
    try:
        while True:
            found, ended = await in_thread(following.look)
            if found:
                pause, told = SOON, monotonic()
                yield b"".join(map(_event, found))
                while peer.held() > CONGESTED:
                    await asyncio.sleep(SOON)
            elif ended:
                yield _plain("end", {"status": ended})
                return
            else:
                await asyncio.sleep(pause)
                pause = min(LATER, pause * 1.5)
            peer.alive()
            if monotonic() - told > stream.KEEPALIVE_SECONDS:
                told = monotonic()
                yield b": nothing new\n\n"
    except Exception as error:
        ending = ending_of(error)
        yield _plain("error", {"code": ending.code, "message": ending.message})


def _event(chunk: LogChunk) -> bytes:
    data: Any = LogSerializer(chunk).data
    return f"id: {data['cursor']}\ndata: {json.dumps(data)}\n\n".encode()


def _plain(kind: str, data: dict[str, str]) -> bytes:
    return f"event: {kind}\ndata: {json.dumps(data)}\n\n".encode()


def _cursor(text: str) -> logs.Cursor | None:
    try:
        return logs.read_cursor(text) if text else None
    except ValueError:
        message = "give the `cursor` of a piece of log, as `after` or as Last-Event-ID"
        problem = Problem(pointer="/after", code="invalid", message=message)
        raise Invalid(f"The query parameter `after`: {message}.", problems=[problem]) from None
