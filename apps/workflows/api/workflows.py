"""`/workflows`: definitions and their versions, and the way to execute them."""

from collections.abc import Mapping
from typing import Any, cast

from django.db.models import Q, QuerySet
from django_filters.filters import CharFilter, ChoiceFilter
from django_filters.filterset import FilterSet
from django_filters.rest_framework.backends import DjangoFilterBackend
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework import mixins
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from apps.accounts.permissions import Permission
from apps.core.api.parsers import JSONParser
from apps.core.api.viewsets import GenericViewSet
from apps.workflows.api import serializers
from apps.workflows.api.executions import MAX_SEARCH, MAX_TAG, started
from apps.workflows.api.parsers import DEFINITION_PARSERS
from apps.workflows.api.plans import PlanActions
from apps.workflows.api.renderers import DefinitionRenderer
from apps.workflows.api.traces import callers_trace
from apps.workflows.definition.schema import json_schema
from apps.workflows.models import Execution, Workflow, WorkflowVersion
from apps.workflows.selectors.relations import for_a_page, with_parents
from apps.workflows.services import executions, workflows

SLUG = "[A-Za-z0-9_-]+"
DEFINITION = {"application/json": OpenApiTypes.OBJECT, "application/yaml": OpenApiTypes.STR}


class WorkflowFilter(FilterSet):
    """`?tag=`, `?search=` (name, id and description), `?kind=` (default: all but ad-hoc tasks)."""

    tag = CharFilter(method="tagged", max_length=MAX_TAG)
    search = CharFilter(method="found", max_length=MAX_SEARCH)
    kind = ChoiceFilter(choices=Workflow.Kind.choices)

    class Meta:
        model = Workflow
        fields: list[str] = []

    def tagged(self, rows: QuerySet[Workflow], _name: str, tag: str) -> QuerySet[Workflow]:
        """Those with just this tag."""
        return rows.filter(tags__has_element=tag)

    def found(self, rows: QuerySet[Workflow], _name: str, text: str) -> QuerySet[Workflow]:
        """Those with these words."""
        return rows.filter(Q(name__icontains=text) | Q(slug__icontains=text) | Q(description__icontains=text))


class WorkflowViewSet(mixins.ListModelMixin, mixins.RetrieveModelMixin, PlanActions):
    """Named definitions."""

    required_permissions = {
        "list": Permission.WORKFLOW_READ,
        "retrieve": Permission.WORKFLOW_READ,
        "create": Permission.WORKFLOW_CREATE,
        "update": Permission.WORKFLOW_UPDATE,
        "destroy": Permission.WORKFLOW_DELETE,
        "validate": Permission.WORKFLOW_READ,
        "versions": Permission.WORKFLOW_READ,
        "diff": Permission.WORKFLOW_READ,
        "plan": Permission.WORKFLOW_READ,
        "plan_with": Permission.WORKFLOW_READ,
        "execute": Permission.WORKFLOW_EXECUTE,
        "executions": Permission.WORKFLOW_READ,
    }
    gated_actions = frozenset({
        "list", "retrieve", "update", "destroy", "versions", "diff", "plan", "plan_with", "execute", "executions",
    })  # fmt: skip
    untold = frozenset({"validate", "plan_with", "create", "update", "destroy"})  # the services tell of the last three
    together = frozenset({"execute"})
    queryset = Workflow.objects.none()
    lookup_field = "slug"
    lookup_url_kwarg = "id"
    lookup_value_regex = SLUG
    filterset_class = WorkflowFilter
    filter_backends = [DjangoFilterBackend]
    serializer_class = serializers.WorkflowSerializer

    def get_queryset(self) -> QuerySet[Workflow]:
        """What the caller may read."""
        rows = Workflow.objects.visible_to(self.request.user, Permission.WORKFLOW_READ).select_related("owner")
        if self.action == "list" and not self.request.query_params.get("kind"):
            rows = rows.exclude(kind=Workflow.Kind.TASKS)
        return rows

    def get_parsers(self) -> list[Any]:
        """Definitions may be YAML."""
        takes_definition = getattr(self, "action", None) in ("create", "update", "validate")
        return [parser() for parser in (DEFINITION_PARSERS if takes_definition else [JSONParser])]

    def get_renderers(self) -> list[Any]:
        """One workflow may be asked for as the YAML of its definition."""
        found: list[Any] = super().get_renderers()
        return [*found, DefinitionRenderer()] if getattr(self, "action", None) == "retrieve" else found

    def initialize_request(self, request: Any, *args: Any, **kwargs: Any) -> Any:
        """The action is known before the parsers are chosen."""
        self.action = self.action_map.get(request.method.lower(), "")
        return super().initialize_request(request, *args, **kwargs)

    def get_serializer_class(self) -> Any:
        """One workflow is shown with its definition."""
        detailed = self.action in ("retrieve", "create", "update")
        return serializers.WorkflowDetailSerializer if detailed else serializers.WorkflowSerializer

    def _allowed(self) -> Workflow:
        workflow: Workflow = self.get_object()
        self.require(workflow, self.permission())
        return workflow

    @extend_schema(
        responses={
            (200, "application/json"): serializers.WorkflowDetailSerializer,
            (200, "application/yaml"): OpenApiTypes.STR,
        }
    )
    def retrieve(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """One workflow with its definition; with `Accept: application/yaml` its definition alone, as a file."""
        return super().retrieve(request, *args, **kwargs)

    @extend_schema(request=DEFINITION, responses={201: serializers.WorkflowDetailSerializer})
    def create(self, request: Request) -> Response:
        """Save a definition; a wrong one is answered with every problem at once."""
        workflow = workflows.create(_definition(request), by=self.account())
        return Response(self.get_serializer(workflow).data, status=201)

    @extend_schema(request=DEFINITION)
    def update(self, request: Request, id: str) -> Response:  # noqa: A002, ARG002 (the route's word)
        """Save a new version; executions that run keep theirs."""
        workflow = workflows.update(self._allowed(), _definition(request), by=self.account())
        return Response(self.get_serializer(workflow).data)

    @extend_schema(responses={204: None})
    def destroy(self, request: Request, id: str) -> Response:  # noqa: A002, ARG002
        """Delete it with its executions; refused while some run."""
        workflows.delete(self._allowed())
        return Response(status=204)

    @extend_schema(request=DEFINITION, responses=serializers.ValidationSerializer)
    @action(detail=False, methods=["post"])
    def validate(self, request: Request) -> Response:
        """Every problem of a definition at once; nothing is saved or executed."""
        found = workflows.problems(request.data, by=request.user)
        errors = [{"pointer": p.pointer, "code": p.code, "message": p.message} for p in found]
        return Response({"valid": not errors, "errors": errors})

    @extend_schema(responses=serializers.VersionSerializer(many=True))
    @action(detail=True, pagination_class=None, filterset_class=None)
    def versions(self, request: Request, id: str) -> Response:  # noqa: A002, ARG002
        """Its versions, newest first (the last hundred)."""
        rows = WorkflowVersion.objects.filter(workflow=self.get_object()).select_related("created_by")
        return Response(serializers.VersionSerializer(rows.order_by("-number")[:100], many=True).data)

    @extend_schema(request=serializers.ExecuteSerializer, responses={202: serializers.StartedSerializer})
    @action(detail=True, methods=["post"])
    def execute(self, request: Request, id: str) -> Response:  # noqa: A002, ARG002
        """Start an execution of the newest version; what is answered is durable."""
        workflow = self._allowed()
        given = serializers.ExecuteSerializer(data=request.data)
        given.is_valid(raise_exception=True)
        execution = executions.start(
            workflow,
            by=self.account(),
            inputs=given.validated_data.get("inputs"),
            priority=given.validated_data.get("priority"),
            **callers_trace(),
        )
        return started(execution)

    @extend_schema(responses=serializers.ExecutionSerializer(many=True))
    @action(detail=True, filterset_class=None)
    def executions(self, request: Request, id: str) -> Response:  # noqa: A002, ARG002
        """Its executions, newest first."""
        rows = Execution.objects.filter(workflow=self.get_object())
        page = self.paginate_queryset(with_parents(for_a_page(rows), self.request.user))
        return self.get_paginated_response(serializers.ExecutionSerializer(page, many=True).data)


class DefinitionSchemaViewSet(GenericViewSet):
    """`/schema/workflow.json`."""

    required_permissions = {"list": Permission.WORKFLOW_READ}
    serializer_class = serializers.ValidationSerializer
    pagination_class = None

    @extend_schema(responses=OpenApiTypes.OBJECT, operation_id="definition_schema")
    def list(self, request: Request) -> Response:
        """The JSON Schema of definitions."""
        return Response(json_schema(base_url=request.build_absolute_uri("/")))


def _definition(request: Request) -> Mapping[str, Any]:
    """What was sent, whatever it is: `services` tells everything that is wrong with it."""
    return cast(Mapping[str, Any], request.data)
