"""The endpoints under /progress: where an execution is, was and will be; reports from outside; tickets for sockets."""

from typing import TYPE_CHECKING, Any

from django.http import StreamingHttpResponse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, PolymorphicProxySerializer, extend_schema
from rest_framework.renderers import BaseRenderer
from rest_framework.request import Request
from rest_framework.response import Response

from apps.accounts.api.permissions import DeclaredPermission, declared
from apps.accounts.callers import bearer_in
from apps.accounts.models import User
from apps.accounts.permissions import Permission
from apps.core.api.problems import pointer
from apps.core.api.renderers import JSONRenderer
from apps.core.api.viewsets import GenericAPIView
from apps.core.errors import Invalid, Problem, TooLarge, Unauthenticated
from apps.progress import tickets
from apps.progress.api import serializers, stream
from apps.progress.credentials import Credential
from apps.progress.noting import noted
from apps.progress.wire import PEER, Peer
from apps.workflows.api.idempotency import Idempotent
from apps.workflows.models import Workflow
from apps.workflows.selectors import progress
from apps.workflows.services import estimates, trackers

if TYPE_CHECKING:
    from rest_framework.views import APIView

MAX_EVENTS = 1000
PAGE = 100
_MAX_SEQ = 2**63 - 1


class OnSomeWorkflow(DeclaredPermission):
    """As declared, by role; or on some workflow that is the caller's own or was granted: the object decides then.

    Where the address names one, the object alone decides for a known caller: what he may not read is not there.
    """

    def has_permission(self, request: Request, view: "APIView") -> bool:
        """Whether there is anything this caller could ask for here."""
        if super().has_permission(request, view):
            return True
        if request.method == "GET" and view.kwargs and isinstance(request.user, User):
            return True
        code = declared(view, str(request.method))
        return code is not None and Workflow.objects.visible_to(request.user, Permission(code)).exists()


class SnapshotView(GenericAPIView):
    """Where an execution is."""

    required_permissions = {"GET": Permission.PROGRESS_READ}
    permission_classes = [OnSomeWorkflow]
    serializer_class = serializers.SnapshotSerializer

    @extend_schema(operation_id="progress_read")
    def get(self, request: Request, workflow_id: str) -> Response:
        """The state of a workflow's newest execution, or of the execution of that id, with all its steps."""
        return Response(progress.snapshot(progress.target(request.user, workflow_id), just_read=True))


class HistoryView(GenericAPIView):
    """What happened in an execution."""

    required_permissions = {"GET": Permission.PROGRESS_READ}
    permission_classes = [OnSomeWorkflow]
    serializer_class = serializers.HistorySerializer

    @extend_schema(
        operation_id="progress_history",
        parameters=[
            OpenApiParameter("after", int, description="Events after this `seq`; 0 is the beginning."),
            OpenApiParameter("limit", int, description=f"Events of a page, at most {MAX_EVENTS:,}."),
        ],
    )
    def get(self, request: Request, workflow_id: str) -> Response:
        """The journal in order. `next` names the execution, so that pages stay within it when a newer one begins."""
        after = _whole(request, "after", 0, least=0, most=_MAX_SEQ)
        limit = _whole(request, "limit", PAGE, least=1, most=MAX_EVENTS)
        execution = progress.target(request.user, workflow_id)
        found = progress.events_after(execution.pk, after, limit + 1)
        results = found[:limit]
        more = None
        if len(found) > limit:
            more = request.build_absolute_uri(
                f"/progress/{execution.pk}/history?after={results[-1]['seq']}&limit={limit}"
            )
        return Response({"results": results, "next": more})


class EstimateView(GenericAPIView):
    """When an execution will be done."""

    required_permissions = {"GET": Permission.PROGRESS_READ}
    permission_classes = [OnSomeWorkflow]
    serializer_class = serializers.EstimateSerializer

    @extend_schema(operation_id="progress_estimate")
    def get(self, request: Request, workflow_id: str) -> Response:
        """Judged by earlier executions; null and a reason where nothing can be said."""
        return Response(estimates.serve(request.user, progress.target(request.user, workflow_id)))


class UpdateView(Idempotent, GenericAPIView):
    """Reports from outside."""

    required_permissions = {"POST": Permission.PROGRESS_UPDATE}
    untold = frozenset({"POST"})  # the journal of the execution tells
    permission_classes = [OnSomeWorkflow]
    serializer_class = serializers.UpdateSerializer

    @extend_schema(
        operation_id="progress_update",
        request=PolymorphicProxySerializer(
            component_name="ProgressUpdate",
            serializers=[serializers.UpdateSerializer, serializers.UpdateSerializer(many=True)],
            resource_type_field_name=None,
            many=False,
        ),
        responses=serializers.UpdatedSerializer,
    )
    def post(self, request: Request) -> Response:
        """One report or an array of up to 1,000, carried out together or not at all; an unknown id makes a tracker."""
        user, body = _account(request), request.data
        many = isinstance(body, list)
        updates = [serializers.update_of(given) for given in self._validated(body, many=many)]

        def act() -> Any:
            answers = [_answer(row) for row in trackers.update(updates, by=user)]
            return answers if many else answers[0]

        return Response(_one(act, many=many))

    def _validated(self, body: Any, *, many: bool) -> list[dict[str, Any]]:
        if many and len(body) > trackers.MAX_UPDATES:
            raise TooLarge(f"An array holds at most {trackers.MAX_UPDATES:,} reports.")
        if many and not body:
            raise Invalid("The array is empty: send at least one report.")
        serializer = self.get_serializer(data=body, many=many)
        serializer.is_valid(raise_exception=True)
        return list(serializer.validated_data) if many else [dict(serializer.validated_data)]


class EventStreamRenderer(BaseRenderer):
    """Lets clients ask for `text/event-stream`; errors are told as everywhere."""

    media_type = stream.MEDIA_TYPE
    format = "events"

    def render(self, *_: Any, **__: Any) -> bytes:
        """The stream is no `Response` and never comes here."""
        raise NotImplementedError


class StreamView(GenericAPIView):
    """The socket's stream as Server-Sent Events."""

    required_permissions = {"GET": Permission.PROGRESS_READ}
    permission_classes = [OnSomeWorkflow]
    renderer_classes = [EventStreamRenderer, JSONRenderer]
    serializer_class = serializers.HistorySerializer

    @extend_schema(
        operation_id="progress_stream",
        parameters=[
            OpenApiParameter("since", int, description="Every event after this `seq`, after a snapshot."),
            OpenApiParameter(
                "Last-Event-ID",
                str,
                OpenApiParameter.HEADER,
                description="The last event that you have; browsers send it.",
            ),
            OpenApiParameter("include_completed", bool),
            OpenApiParameter("include_failed", bool),
            OpenApiParameter("coalesce", bool, description="When you fall behind: a snapshot instead of the end."),
        ],
        responses={(200, stream.MEDIA_TYPE): OpenApiTypes.STR},
    )
    def get(self, request: Request, workflow_id: str) -> StreamingHttpResponse:
        """A snapshot, then every event once and in order, as Server-Sent Events; `Last-Event-ID` goes on."""
        asked = stream.asked(request._request, workflow_id)
        progress.target(request.user, workflow_id)  # what is not there is a 404 and no stream
        credential = credential_of(request)
        scope = getattr(request._request, "scope", None)
        if scope is not None:
            noted(scope, request.user, workflow_id)
        response = StreamingHttpResponse(
            stream.stream(asked, credential, request.user, PEER.get() or Peer()), content_type=stream.MEDIA_TYPE
        )
        response["Cache-Control"] = "no-store"
        response["X-Accel-Buffering"] = "no"  # nginx would keep it until it has a buffer full
        return response


class TicketView(GenericAPIView):
    """A way into the socket for pages that cannot send a header."""

    required_permissions = {"POST": Permission.PROGRESS_READ}
    untold = frozenset({"POST"})  # the socket that it opens is told of
    permission_classes = [OnSomeWorkflow]
    serializer_class = serializers.TicketSerializer

    @extend_schema(operation_id="progress_ticket", request=None)
    def post(self, request: Request) -> Response:
        """A single-use ticket: `/progress/ws?ticket=…`, within 30 seconds."""
        _account(request)
        ticket = tickets.issue(credential_of(request))
        return Response({"ticket": ticket, "expires_in": tickets.LIFETIME})


def credential_of(request: Request) -> Credential:
    """What the caller came by; what ends that ends a stream or a socket as well."""
    bearer = bearer_in(request._request)
    known = bearer is None and request.user.is_authenticated
    return Credential(bearer=bearer, session_key=request._request.session.session_key if known else None)


def _account(request: Request) -> User:
    if not request.user.is_authenticated:  # a role of the anonymous cannot own a tracker or make a ticket
        raise Unauthenticated("Authentication credentials were not provided.")
    return request.user


def _one(act: Any, *, many: bool) -> Any:
    """The answer of `act`; the pointers of a single report have no index."""
    try:
        return act()
    except Invalid as error:
        if many:
            raise
        problems = [
            Problem(pointer=p.pointer.removeprefix("/0"), code=p.code, message=p.message) for p in error.problems
        ]
        raise Invalid(error.detail, code=error.code, problems=problems) from None


def _answer(row: trackers.Standing) -> dict[str, Any]:
    return {
        "workflow_id": row.workflow_id,
        "execution_id": str(row.pk),
        "status": row.status,
        "percent_complete": row.percent,
        "seq": row.seq,
    }


def _whole(request: Request, name: str, default: int, *, least: int, most: int) -> int:
    """A whole number of the query. Raises `Invalid` for what is none; more than `most` is `most`."""
    text = request.query_params.get(name, "")
    if not text:
        return default
    if text.isascii() and text.isdigit():
        digits = text.lstrip("0") or "0"
        value = most if len(digits) > len(str(most)) else min(int(digits), most)
        if value >= least:
            return value
    message = f"must be a whole number from {least}"
    raise Invalid(
        f"The query parameter `{name}` {message}.",
        problems=[Problem(pointer=pointer(name), code="invalid", message=message)],
    )
