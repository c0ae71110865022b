"""`/executions`: what runs, what ran, and what may be asked of it."""

import json
import re
import uuid
from collections.abc import Mapping
from typing import Any

from django.db.models import QuerySet
from django_filters.filters import CharFilter, IsoDateTimeFilter, MultipleChoiceFilter, UUIDFilter
from django_filters.filterset import FilterSet
from django_filters.rest_framework.backends import DjangoFilterBackend
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import mixins
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from apps.accounts.permissions import Permission
from apps.core.errors import Invalid, Problem, TooLarge
from apps.workflows.api import serializers
from apps.workflows.api.artifacts import WrittenActions
from apps.workflows.engine.states import Status
from apps.workflows.models import Event, Execution, Task, Trigger, Workflow
from apps.workflows.selectors.relations import for_a_page, key_of, of_parent, of_step, with_parents
from apps.workflows.selectors.why import why_execution
from apps.workflows.services import executions, priorities

UUID = "[0-9a-fA-F]{8}-?[0-9a-fA-F]{4}-?[0-9a-fA-F]{4}-?[0-9a-fA-F]{4}-?[0-9a-fA-F]{12}"
STATUSES = [(status.value, status.value) for status in Status]
MAX_ROWS = 1000
MAX_TAG = 64
MAX_SEARCH = 200
MAX_PAYLOAD = 64 * 1024  # bytes of JSON
AFTER = [
    OpenApiParameter("after", int, description="Only what comes after this number."),
    OpenApiParameter("limit", int, description=f"At most so many, up to {MAX_ROWS:,}."),
]


NAME = re.compile(r"[A-Za-z0-9_-]{1,100}")


class ExecutionFilter(FilterSet):
    """By status, workflow, its tag, a search for its name or id, time, what made it, and what it is related to."""

    status = MultipleChoiceFilter(choices=STATUSES, distinct=False)
    trigger = MultipleChoiceFilter(choices=Trigger.choices, distinct=False)
    origin_id = UUIDFilter(field_name="origin_id")
    parent_id = UUIDFilter(method="of_parent")
    schedule_id = UUIDFilter(field_name="schedule_id")
    workflow_id = CharFilter(method="of_workflow")
    tag = CharFilter(method="tagged", max_length=MAX_TAG)
    search = CharFilter(method="found", max_length=MAX_SEARCH)
    created_after = IsoDateTimeFilter(field_name="created_at", lookup_expr="gte")
    created_before = IsoDateTimeFilter(field_name="created_at", lookup_expr="lt")

    class Meta:
        model = Execution
        fields: list[str] = []

    def of_workflow(self, rows: QuerySet[Execution], _name: str, slug: str) -> QuerySet[Execution]:
        """Those of the workflow of this id."""
        return rows.filter(workflow=key_of(slug))

    def of_parent(self, rows: QuerySet[Execution], _name: str, parent: uuid.UUID) -> QuerySet[Execution]:
        """Those that are steps of this execution, where the caller may read that."""
        known = Execution.objects.visible_to(self.request.user, Permission.WORKFLOW_READ)
        return rows.filter(of_parent(parent)) if known.filter(pk=parent).exists() else rows.none()

    def tagged(self, rows: QuerySet[Execution], _name: str, tag: str) -> QuerySet[Execution]:
        """Those of workflows with just this tag."""
        return rows.filter(workflow__in=Workflow.objects.tagged(tag))

    def found(self, rows: QuerySet[Execution], _name: str, text: str) -> QuerySet[Execution]:
        """Those of workflows whose name or id holds this text."""
        return rows.filter(workflow__in=Workflow.objects.named_like(text))


class ExecutionViewSet(mixins.ListModelMixin, mixins.RetrieveModelMixin, WrittenActions):
    """Runs of workflows."""

    required_permissions = {
        "list": Permission.WORKFLOW_READ,
        "retrieve": Permission.WORKFLOW_READ,
        "partial_update": Permission.TASK_UPDATE,
        "cancel": Permission.TASK_DELETE,
        "pause": Permission.WORKFLOW_EXECUTE,
        "resume": Permission.WORKFLOW_EXECUTE,
        "signal": Permission.TASK_EXECUTE,
        "retry": Permission.WORKFLOW_EXECUTE,
        "fork": Permission.WORKFLOW_EXECUTE,
        "why": Permission.TASK_READ,
        "tasks": Permission.TASK_READ,
        "events": Permission.WORKFLOW_READ,
        "logs": Permission.TASK_READ,
        "logs_text": Permission.TASK_READ,
        "artifacts": Permission.WORKFLOW_READ,
        "artifact": Permission.WORKFLOW_READ,
    }
    gated_actions = frozenset(required_permissions)
    together = frozenset({"partial_update", "cancel", "pause", "resume", "signal", "retry", "fork"})
    queryset = Execution.objects.none()
    lookup_field = "pk"
    lookup_url_kwarg = "id"
    lookup_value_regex = UUID
    filterset_class = ExecutionFilter
    filter_backends = [DjangoFilterBackend]
    serializer_class = serializers.ExecutionSerializer

    def get_queryset(self) -> QuerySet[Execution]:
        """What the caller may see for the present action."""
        reading = (
            self.permission() if self.action in ("tasks", "logs", "logs_text", "why") else Permission.WORKFLOW_READ
        )
        rows: QuerySet[Execution] = Execution.objects.visible_to(self.request.user, reading)
        named = (
            for_a_page(rows) if self.action == "list" else rows.select_related("workflow", "version", "requested_by")
        )
        return with_parents(named, self.request.user)

    def get_serializer_class(self) -> Any:
        """One execution is shown with its sub-workflows."""
        return serializers.ExecutionDetailSerializer if self.detail else serializers.ExecutionSerializer

    def _allowed(self) -> Execution:
        execution: Execution = self.get_object()
        self.require(execution, self.permission())
        return execution

    def _accepted(self, execution: Execution) -> Response:
        return Response(self.get_serializer(execution).data, status=202)

    @extend_schema(request=serializers.PrioritySerializer, responses=serializers.ExecutionDetailSerializer)
    def partial_update(self, request: Request, id: str) -> Response:  # noqa: A002, ARG002 (the route's word)
        """Give it another priority, and with it another place in line. 409 when it has ended."""
        execution = self._allowed()
        priorities.change(execution, priority_of(request), by=self.account())
        return Response(self.get_serializer(execution).data)

    @extend_schema(request=None, responses={202: serializers.ExecutionDetailSerializer})
    @action(detail=True, methods=["post"])
    def cancel(self, request: Request, id: str) -> Response:  # noqa: A002, ARG002
        """Ask it to stop: nothing new starts, what runs is told. 409 with the lawful moves when it has ended."""
        execution = self._allowed()
        executions.cancel(execution, by=self.account())
        execution.refresh_from_db()
        return self._accepted(execution)

    @extend_schema(request=None, responses={202: serializers.ExecutionDetailSerializer})
    @action(detail=True, methods=["post"])
    def pause(self, request: Request, id: str) -> Response:  # noqa: A002, ARG002
        """Start nothing new of it; what runs goes on, and so do times. 409 with the lawful moves when it has ended."""
        execution = self._allowed()
        executions.pause(execution, by=self.account())
        return self._accepted(execution)

    @extend_schema(request=None, responses={202: serializers.ExecutionDetailSerializer})
    @action(detail=True, methods=["post"])
    def resume(self, request: Request, id: str) -> Response:  # noqa: A002, ARG002
        """Go on with it. 409 with the lawful moves when it is not paused."""
        execution = self._allowed()
        executions.resume(execution, by=self.account())
        return self._accepted(execution)

    @extend_schema(
        request=OpenApiTypes.OBJECT,
        responses={202: serializers.ExecutionDetailSerializer},
        parameters=[OpenApiParameter("name", str, "path", description="Letters, digits, `_` and `-`.")],
    )
    @action(detail=True, methods=["post"], url_path="signal/(?P<name>[^/]+)")
    def signal(self, request: Request, id: str, name: str) -> Response:  # noqa: A002, ARG002
        """Give it a named signal with a JSON object; the first payload of a name stands. 409 when it has ended."""
        execution = self._allowed()
        executions.signal(execution, _signal_name(name), _payload(request.data), by=self.account())
        return self._accepted(execution)

    @extend_schema(request=None, responses={202: serializers.StartedSerializer})
    @action(detail=True, methods=["post"])
    def retry(self, request: Request, id: str) -> Response:  # noqa: A002, ARG002
        """A new execution that keeps its good results; 409 with the lawful moves unless it ended other than well."""
        execution, by = self._allowed(), self.account()
        return started(executions.retry(execution, by=by))

    @extend_schema(request=serializers.ForkSerializer, responses={202: serializers.StartedSerializer})
    @action(detail=True, methods=["post"])
    def fork(self, request: Request, id: str) -> Response:  # noqa: A002, ARG002
        """A new execution that does one step, or one item (`load[3]`), and all that rests on it again."""
        execution, by = self._allowed(), self.account()
        given = serializers.ForkSerializer(data=request.data)
        given.is_valid(raise_exception=True)
        step = given.validated_data["step_id"]
        return started(executions.fork(execution, step, by=by))

    @extend_schema(responses=serializers.WhyExecutionSerializer)
    @action(detail=True, pagination_class=None, filterset_class=None)
    def why(self, request: Request, id: str) -> Response:  # noqa: A002, ARG002
        """Why its open tasks do not run: for each of the first hundred every reason, with its fix."""
        return Response(why_execution(self.request.user, self.get_object()))

    @extend_schema(
        responses=serializers.TaskSerializer(many=True),
        parameters=[OpenApiParameter("step_id", str, description="Only this step's: its own and those of its items.")],
    )
    @action(detail=True, filterset_class=None)
    def tasks(self, request: Request, id: str) -> Response:  # noqa: A002, ARG002
        """Its tasks, in the order of the definition; those of items come behind."""
        execution: Execution = self.get_object()
        rows: QuerySet[Task] = Task.objects.filter(execution=execution)
        if step := request.query_params.get("step_id"):
            rows = of_step(rows, step.replace("\0", ""))
        self.paginator.ordering = "id"  # type: ignore[union-attr]  # ids follow the definition
        page = self.paginate_queryset(rows) or []
        for task in page:
            task.execution = execution  # read once, and its inputs with it: they may be megabytes
        context = self.get_serializer_context()
        return self.get_paginated_response(serializers.TaskSerializer(page, many=True, context=context).data)

    @extend_schema(responses=serializers.EventSerializer(many=True), parameters=AFTER)
    @action(detail=True, pagination_class=None, filterset_class=None)
    def events(self, request: Request, id: str) -> Response:  # noqa: A002, ARG002
        """Its journal, in order."""
        after, limit = whole(request, "after", 0), whole(request, "limit", MAX_ROWS)
        rows = Event.objects.filter(execution=self.get_object(), seq__gt=after).order_by("seq")[: min(limit, MAX_ROWS)]
        context = self.get_serializer_context()
        return Response(serializers.EventSerializer(rows, many=True, context=context).data)


def _signal_name(name: str) -> str:
    if not NAME.fullmatch(name):
        message = "the name of a signal is 1 to 100 letters, digits, `_` and `-`"
        raise Invalid(message, problems=[Problem(pointer="/name", code="bad_name", message=message)])
    return name


def _payload(data: Any) -> Mapping[str, Any]:
    if not isinstance(data, Mapping):
        message = "the payload of a signal is a JSON object"
        raise Invalid(message, problems=[Problem(pointer="", code="not_an_object", message=message)])
    if len(json.dumps(data, ensure_ascii=False, separators=(",", ":")).encode()) > MAX_PAYLOAD:
        raise TooLarge(f"the payload of a signal may have {MAX_PAYLOAD:,} bytes of JSON")
    return dict(data)


def priority_of(request: Request) -> int:
    """The priority in a request's body. Raises what DRF raises for anything else."""
    given = serializers.PrioritySerializer(data=request.data)
    given.is_valid(raise_exception=True)
    return int(given.validated_data["priority"])


def started(execution: Execution) -> Response:
    """The answer for a new execution."""
    workflow = execution.workflow.slug
    answer = {"execution_id": str(execution.pk), "workflow_id": workflow, "status": execution.status}
    return Response(answer, status=202)


def whole(request: Request, name: str, default: int) -> int:
    """A query parameter that is a number from 0 on. Raises `Invalid` naming it."""
    text = request.query_params.get(name, "")
    if not text:
        return default
    if not (text.isascii() and text.isdigit()) or len(text) > 18:
        message = "give a whole number from 0 on"
        raise Invalid(
            f"The query parameter `{name}`: {message}.",
            problems=[Problem(pointer=f"/{name}", code="invalid", message=message)],
        )
    return int(text)
