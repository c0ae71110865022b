"""`/executions` and `/tasks`: what runs, what ran, and the way to stop it."""

import json
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
from apps.core.errors import Invalid, Problem
from apps.workflows.api import serializers
from apps.workflows.api.gate import GatedViewSet, callers_trace
from apps.workflows.engine.states import Status
from apps.workflows.models import Event, Execution, LogChunk, Task
from apps.workflows.services import adhoc, executions

UUID = "[0-9a-fA-F]{8}-?[0-9a-fA-F]{4}-?[0-9a-fA-F]{4}-?[0-9a-fA-F]{4}-?[0-9a-fA-F]{12}"
STATUSES = [(status.value, status.value) for status in Status]
MAX_ROWS = 1000
AFTER = [
    OpenApiParameter("after", int, description="Only what comes after this number."),
    OpenApiParameter("limit", int, description=f"At most so many, up to {MAX_ROWS:,}."),
]


class ExecutionFilter(FilterSet):
    """`?status=`, `?workflow_id=`, `?tag=` (of the workflow), `?created_after=`, `?created_before=`."""

    status = MultipleChoiceFilter(choices=STATUSES)
    workflow_id = CharFilter(field_name="workflow__slug")
    tag = CharFilter(method="tagged")
    created_after = IsoDateTimeFilter(field_name="created_at", lookup_expr="gte")
    created_before = IsoDateTimeFilter(field_name="created_at", lookup_expr="lt")

    class Meta:
        model = Execution
        fields: list[str] = []

    def tagged(self, rows: QuerySet[Execution], _name: str, tag: str) -> QuerySet[Execution]:
        """Those of workflows with this tag: in JSON text a tag stands between quotes."""
        return rows.filter(workflow__tags__icontains=json.dumps(tag))


class ExecutionViewSet(mixins.ListModelMixin, mixins.RetrieveModelMixin, GatedViewSet):
    """Runs of workflows."""

    required_permissions = {
        "list": Permission.WORKFLOW_READ,
        "retrieve": Permission.WORKFLOW_READ,
        "cancel": Permission.TASK_DELETE,
        "tasks": Permission.TASK_READ,
        "events": Permission.WORKFLOW_READ,
        "logs": Permission.TASK_READ,
    }
    gated_actions = frozenset(required_permissions)
    queryset = Execution.objects.none()
    lookup_field = "pk"
    lookup_url_kwarg = "id"
    lookup_value_regex = UUID
    filterset_class = ExecutionFilter
    filter_backends = [DjangoFilterBackend]
    serializer_class = serializers.ExecutionSerializer

    def get_queryset(self) -> QuerySet[Execution]:
        """What the caller may see for the present action."""
        reading = self.permission() if self.action in ("tasks", "logs") else Permission.WORKFLOW_READ
        rows = Execution.objects.visible_to(self.request.user, reading)
        return rows.select_related("workflow", "version", "requested_by")

    @extend_schema(request=None, responses={202: serializers.ExecutionSerializer})
    @action(detail=True, methods=["post"])
    def cancel(self, request: Request, id: str) -> Response:  # noqa: A002, ARG002 (the route's word)
        """Ask it to stop: nothing new starts, what runs is told. 409 with the lawful moves when it has ended."""
        execution = self.get_object()
        self.require(execution, Permission.TASK_DELETE)
        executions.cancel(execution, by=self.account())
        execution.refresh_from_db()
        return Response(self.get_serializer(execution).data, status=202)

    @extend_schema(responses=serializers.TaskSerializer(many=True))
    @action(detail=True, filterset_class=None)
    def tasks(self, request: Request, id: str) -> Response:  # noqa: A002, ARG002
        """Its tasks, in the order of the definition."""
        rows = Task.objects.filter(execution=self.get_object()).select_related("execution__workflow")
        self.paginator.ordering = "id"  # type: ignore[union-attr]  # ids follow the definition
        page = self.paginate_queryset(rows)
        return self.get_paginated_response(serializers.TaskSerializer(page, many=True).data)

    @extend_schema(responses=serializers.EventSerializer(many=True), parameters=AFTER)
    @action(detail=True, pagination_class=None, filterset_class=None)
    def events(self, request: Request, id: str) -> Response:  # noqa: A002, ARG002
        """Its journal, in order."""
        after, limit = whole(request, "after", 0), whole(request, "limit", MAX_ROWS)
        rows = Event.objects.filter(execution=self.get_object(), seq__gt=after).order_by("seq")[: min(limit, MAX_ROWS)]
        return Response(serializers.EventSerializer(rows, many=True).data)

    @extend_schema(
        responses=serializers.LogSerializer(many=True),
        parameters=[OpenApiParameter("step_id", str, description="Only this step's."), AFTER[1]],
    )
    @action(detail=True, pagination_class=None, filterset_class=None)
    def logs(self, request: Request, id: str) -> Response:  # noqa: A002, ARG002
        """What its steps wrote: by task and attempt, in order."""
        rows = LogChunk.objects.filter(task__execution=self.get_object()).select_related("task")
        if step := request.query_params.get("step_id"):
            rows = rows.filter(task__step_id=step.replace("\0", ""))
        rows = rows.order_by("task_id", "fence", "number")[: min(whole(request, "limit", MAX_ROWS), MAX_ROWS)]
        return Response(serializers.LogSerializer(rows, many=True).data)


class TaskFilter(FilterSet):
    """`?status=`, `?workflow_id=`, `?execution_id=`, `?queue=`."""

    status = MultipleChoiceFilter(choices=STATUSES)
    workflow_id = CharFilter(field_name="execution__workflow__slug")
    execution_id = UUIDFilter(field_name="execution_id")
    queue = CharFilter()

    class Meta:
        model = Task
        fields: list[str] = []


class TaskViewSet(mixins.ListModelMixin, mixins.RetrieveModelMixin, GatedViewSet):
    """Steps of executions."""

    required_permissions = {
        "list": Permission.TASK_READ,
        "retrieve": Permission.TASK_READ,
        "create": Permission.TASK_CREATE,
    }
    gated_actions = frozenset({"list", "retrieve"})
    queryset = Task.objects.none()
    lookup_field = "pk"
    lookup_url_kwarg = "id"
    lookup_value_regex = UUID
    filterset_class = TaskFilter
    filter_backends = [DjangoFilterBackend]
    serializer_class = serializers.TaskSerializer

    def get_queryset(self) -> QuerySet[Task]:
        """What the caller may read."""
        rows: QuerySet[Task] = Task.objects.visible_to(self.request.user, Permission.TASK_READ)
        return rows.select_related("execution__workflow")

    @extend_schema(request=OpenApiTypes.OBJECT, responses={202: serializers.TaskStartedSerializer})
    def create(self, request: Request) -> Response:
        """Execute one step, defined as in a workflow (without `id` too), perhaps with `inputs` and `priority`."""
        step, asked = _split(request.data)
        given = serializers.ExecuteSerializer(data=asked)
        given.is_valid(raise_exception=True)
        execution, task = adhoc.start(step, by=self.account(), trace_id=callers_trace(), **given.validated_data)
        answer = {
            "execution_id": execution.pk,
            "task_id": task.pk,
            "workflow_id": execution.workflow.slug,
            "status": execution.status,
        }
        return Response(serializers.TaskStartedSerializer(answer).data, status=202)


def _split(body: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """A task's definition, and what its execution is given. Raises `Invalid` for what is no object."""
    if not isinstance(body, dict):
        raise Invalid("The body must be an object: one step, as in a workflow.")
    asked = {name: body[name] for name in ("inputs", "priority") if name in body}
    return {name: value for name, value in body.items() if name not in asked}, asked


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
