"""The protocol of agents: claim by long poll, heartbeat, reports. A route is open to the agent that it names alone."""

import tempfile
from collections.abc import Sequence
from typing import Any, cast
from uuid import UUID

from django.http import HttpResponseBase, StreamingHttpResponse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiExample, OpenApiParameter, extend_schema
from rest_framework.parsers import BaseParser
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.settings import api_settings

from apps.agents import ledger, waiting
from apps.agents.api import serializers
from apps.agents.api.authentication import AgentAuthentication, AgentCaller
from apps.agents.models import Agent
from apps.core.api.parsers import read_bounded
from apps.core.api.renderers import JSONRenderer
from apps.core.api.viewsets import AGENT, GenericAPIView
from apps.core.errors import NotFound
from apps.workflows.api.artifacts import ArtifactSerializer
from apps.workflows.services import artifacts
from apps.workflows.services.ledger import ClaimedTask, LogLine

_TASK = "019a7c9e-5f0e-7d53-9c62-6b0c2f5d1a77"
_OUTPUTS = OpenApiExample("Done", value={"attempt": 1, "outputs": {"verdict": "good"}}, request_only=True)
_BEAT = OpenApiExample("It has one task", value={"tasks": [{"task_id": _TASK, "attempt": 1}]}, request_only=True)


class ProtocolView(GenericAPIView):
    """One route of the protocol."""

    # The others only tell who was refused: no account gets in here.
    authentication_classes = [AgentAuthentication, *cast("Any", api_settings.DEFAULT_AUTHENTICATION_CLASSES)]
    required_permissions = {"POST": AGENT}
    untold = frozenset({"POST"})
    pagination_class = None

    @property
    def agent(self) -> Agent:
        """The agent that asks. Raises `NotFound` where it asks for another's."""
        agent = cast("AgentCaller", self.request.user).agent
        if self.kwargs["id"] != agent.pk:
            raise NotFound("there is no such agent, or it is not you")
        return agent

    def asked(self, request: Request) -> dict[str, Any]:
        """What the body says. Raises `ValidationError`."""
        agent = self.agent
        given = self.get_serializer(data=request.data)
        given.is_valid(raise_exception=True)
        return {"agent": agent, **given.validated_data}


class ClaimView(ProtocolView):
    """Claims."""

    serializer_class = serializers.ClaimSerializer

    @extend_schema(operation_id="agent_claim", responses=serializers.ClaimsSerializer)
    def post(self, request: Request, id: UUID) -> HttpResponseBase:  # noqa: A002, ARG002 (the route's word)
        """Take tasks for which its labels and slots suffice; without any it waits up to `wait_seconds` for the first.

        The answer's head comes at once, its body when there is something, or nothing in time.
        """
        given = self.asked(request)
        agent, most = given["agent"], given["max"]
        ledger.arrive(agent)
        tasks = ledger.claim(agent, most)
        if tasks or not given["wait_seconds"]:
            return Response(_answer(tasks))
        later = waiting.later(agent, most, given["wait_seconds"], _written)
        return StreamingHttpResponse(later, content_type="application/json")


class HeartbeatView(ProtocolView):
    """Heartbeats."""

    serializer_class = serializers.HeartbeatSerializer

    @extend_schema(operation_id="agent_heartbeat", responses=serializers.BeatSerializer, examples=[_BEAT])
    def post(self, request: Request, id: UUID) -> Response:  # noqa: A002, ARG002
        """Keep the leases of all that it names; at least every third of a lease. What it leaves out goes to others."""
        given = self.asked(request)
        named = [(one["task_id"], one["attempt"]) for one in given["tasks"]]
        answer = ledger.heartbeat(given["agent"], named, load=given.get("load"))
        return Response(serializers.BeatSerializer(answer).data)


class ProgressView(ProtocolView):
    """Progress of a task."""

    serializer_class = serializers.ProgressSerializer

    @extend_schema(operation_id="agent_progress", responses={204: None})
    def post(self, request: Request, id: UUID, task_id: UUID) -> Response:  # noqa: A002, ARG002
        """How far it is; a percentage never falls."""
        given = self.asked(request)
        ledger.progress(given["agent"], task_id, given["attempt"], given["percent_complete"], given["message"])
        return Response(status=204)


class CompleteView(ProtocolView):
    """The good end of a task."""

    serializer_class = serializers.CompleteSerializer

    @extend_schema(operation_id="agent_complete", responses=serializers.RecordedSerializer, examples=[_OUTPUTS])
    def post(self, request: Request, id: UUID, task_id: UUID) -> Response:  # noqa: A002, ARG002
        """It is done: its outputs are recorded, once. Asking again about the same attempt changes nothing."""
        given = self.asked(request)
        recorded = ledger.complete(given["agent"], task_id, given["attempt"], given["outputs"])
        return Response({"recorded": recorded})


class FailView(ProtocolView):
    """The bad end of a task."""

    serializer_class = serializers.FailSerializer

    @extend_schema(operation_id="agent_fail", responses=serializers.RecordedSerializer)
    def post(self, request: Request, id: UUID, task_id: UUID) -> Response:  # noqa: A002, ARG002
        """It failed: where that is `retryable`, the step's own rules say whether it is tried again."""
        given = self.asked(request)
        recorded = ledger.fail(
            given["agent"], task_id, given["attempt"], given["error"], retryable=given["retryable"]
        )  # fmt: skip
        return Response({"recorded": recorded})


class LogsView(ProtocolView):
    """The log of a task."""

    serializer_class = serializers.LogsSerializer

    @extend_schema(operation_id="agent_logs", responses={204: None})
    def post(self, request: Request, id: UUID, task_id: UUID) -> Response:  # noqa: A002, ARG002
        """Append to its log, in numbered pieces; one that is sent twice is kept once."""
        given = self.asked(request)
        ledger.log(given["agent"], task_id, given["attempt"], [LogLine(**line) for line in given["lines"]])
        return Response(status=204)


class FileParser(BaseParser):
    """A file as the body, of whatever type."""

    media_type = "*/*"

    def parse(self, stream: Any, media_type: str | None = None, parser_context: Any = None) -> Any:  # noqa: ARG002
        """Its bytes. Raises `TooLarge`."""
        return read_bounded(stream, parser_context)


class ArtifactsView(ProtocolView):
    """Files of a task."""

    serializer_class = serializers.FileSerializer
    parser_classes = [FileParser]

    @extend_schema(
        operation_id="agent_artifacts",
        request={"application/octet-stream": OpenApiTypes.BINARY},
        parameters=[
            OpenApiParameter("attempt", int, required=True),
            OpenApiParameter("name", str, required=True, description="Its name within the attempt: `report.pdf`."),
        ],
        responses={201: ArtifactSerializer},
    )
    def post(self, request: Request, id: UUID, task_id: UUID) -> Response:  # noqa: A002, ARG002
        """Keep the body as a file that the task left; of at most 4 MiB, its type as `Content-Type` says."""
        agent = self.agent
        given = self.get_serializer(data=request.query_params.dict())
        given.is_valid(raise_exception=True)
        body = cast("bytes", request.data or b"")
        with tempfile.SpooledTemporaryFile(max_size=1 << 20) as source:
            source.write(body)
            source.seek(0)
            file = artifacts.Left(
                name=given.validated_data["name"],
                source=cast("Any", source),
                size=len(body),
                content_type=(request.content_type or "application/octet-stream")[:100],
            )
            kept = ledger.leave_file(agent, task_id, given.validated_data["attempt"], file)
        return Response(ArtifactSerializer(kept).data, status=201)


def _answer(tasks: Sequence[ClaimedTask]) -> dict[str, Any]:
    return dict(serializers.ClaimsSerializer({"tasks": tasks}).data)


def _written(tasks: Sequence[ClaimedTask]) -> bytes:
    return JSONRenderer().render(_answer(tasks))
