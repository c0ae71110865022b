"""`/workflows/{id}/plan` and `/workflows/{id}/versions/diff`: what would happen, and what was changed."""

from collections.abc import Mapping
from itertools import islice
from typing import Any

from drf_spectacular.utils import OpenApiParameter, extend_schema, extend_schema_field
from rest_framework import serializers
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from apps.core.api.viewsets import StrictSerializer
from apps.core.errors import Invalid, NotFound, Problem
from apps.workflows.api.executions import whole
from apps.workflows.api.gate import GatedViewSet
from apps.workflows.definition.diff import changes
from apps.workflows.models import Workflow, WorkflowVersion
from apps.workflows.selectors.plan import plan_of

CHANGES = 1000  # an answer tells this many and counts the rest
_ANY = {"description": "any JSON value"}


class PlanRequestSerializer(StrictSerializer):
    """What the plan is made for."""

    inputs = serializers.DictField(required=False, help_text="Values for the definition's inputs, all or some.")


@extend_schema_field({"oneOf": [{"type": "boolean"}, {"const": "unknown"}]})
class _Truth(serializers.Field[Any, Any, Any, Any]):
    """True, false or "unknown"."""


@extend_schema_field({"oneOf": [{"type": "integer"}, {"const": "unknown"}, {"type": "null"}]})
class _Count(serializers.Field[Any, Any, Any, Any]):
    """A number, "unknown" or null."""


@extend_schema_field(_ANY)
class _Anything(serializers.Field[Any, Any, Any, Any]):
    """Any JSON value."""


class PlannedStepSerializer(serializers.Serializer[Any]):
    """One step as it would be begun."""

    id = serializers.CharField()
    kind = serializers.CharField()
    depends_on = serializers.ListField(child=serializers.CharField())
    on = serializers.CharField()
    when = _Truth(help_text="Whether its condition holds.")
    items = _Count(help_text="How many items its `for_each` has; null without one.")
    queue = serializers.CharField()
    requires = serializers.ListField(child=serializers.CharField())
    timeout_seconds = serializers.FloatField(allow_null=True)
    retries = serializers.IntegerField()
    expected_seconds = serializers.FloatField(allow_null=True, help_text="Median of its last successful attempts.")
    config = serializers.DictField(help_text="Filled in where it rests on inputs alone, else as it is written.")


class CriticalPathSerializer(serializers.Serializer[Any]):
    """The longest chain of steps."""

    steps = serializers.ListField(child=serializers.CharField())
    expected_seconds = serializers.FloatField(allow_null=True)


class MissingSerializer(serializers.Serializer[Any]):
    """Something that is not there, with the fix."""

    step_id = serializers.CharField(allow_null=True)
    what = serializers.CharField()
    message = serializers.CharField()


class PlanSerializer(serializers.Serializer[Any]):
    """What would happen."""

    workflow_id = serializers.CharField()
    version = serializers.IntegerField()
    inputs = serializers.DictField()
    waves = serializers.ListField(child=serializers.ListField(child=serializers.CharField()))
    steps = PlannedStepSerializer(many=True)
    critical_path = CriticalPathSerializer()
    missing = MissingSerializer(many=True)
    missing_total = serializers.IntegerField()
    executions_basis = serializers.IntegerField(help_text="How many executions `expected_seconds` rests on.")


class ChangeSerializer(serializers.Serializer[Any]):
    """One difference between two versions."""

    pointer = serializers.CharField()
    op = serializers.ChoiceField(choices=["add", "remove", "replace"])
    step_id = serializers.CharField(allow_null=True)
    before = _Anything()
    after = _Anything()


DiffSerializer = type(
    "DiffSerializer",
    (serializers.Serializer,),
    {
        "__doc__": "What was changed.",
        "from": serializers.IntegerField(),
        "to": serializers.IntegerField(),
        "changes": ChangeSerializer(many=True),
        "changes_total": serializers.IntegerField(),
    },
)  # `from` is a word of Python


class PlanActions(GatedViewSet):
    """The two for the viewset of workflows."""

    @extend_schema(responses=PlanSerializer)
    @action(detail=True, pagination_class=None, filterset_class=None)
    def plan(self, request: Request, id: str) -> Response:  # noqa: A002, ARG002 (the route's word)
        """What would happen if it were executed now with its default inputs, and what is missing; nothing is run."""
        return Response(plan_of(self.get_object(), user=request.user))

    @extend_schema(request=PlanRequestSerializer, responses=PlanSerializer)
    @plan.mapping.post
    def plan_with(self, request: Request, id: str) -> Response:  # noqa: A002, ARG002
        """The same with these inputs: conditions and values that rest on them are filled in."""
        workflow: Workflow = self.get_object()
        given = PlanRequestSerializer(data=request.data)
        given.is_valid(raise_exception=True)
        return Response(plan_of(workflow, user=request.user, inputs=given.validated_data.get("inputs")))

    @extend_schema(
        responses=DiffSerializer,
        parameters=[
            OpenApiParameter("from", int, required=True, description="Number of the one version."),
            OpenApiParameter("to", int, required=True, description="Number of the other."),
        ],
    )
    @action(detail=True, url_path="versions/diff", pagination_class=None, filterset_class=None)
    def diff(self, request: Request, id: str) -> Response:  # noqa: A002, ARG002
        """What was changed from one version to another; steps are compared by id."""
        workflow: Workflow = self.get_object()
        numbers = [_version(request, name) for name in ("from", "to")]
        before, after = (_definition(workflow, number) for number in numbers)
        found = changes(before, after)
        told = [
            {"pointer": c.pointer, "op": c.op, "step_id": c.step_id, "before": c.before, "after": c.after}
            for c in islice(found, CHANGES)
        ]
        total = len(told) + sum(1 for _ in found)
        return Response({"from": numbers[0], "to": numbers[1], "changes": told, "changes_total": total})


def _version(request: Request, name: str) -> int:
    number = whole(request, name, 0)
    if number == 0:
        message = "give the number of a version, from 1 on"
        raise Invalid(
            f"The query parameter `{name}`: {message}.",
            problems=[Problem(pointer=f"/{name}", code="missing", message=message)],
        )
    return number


def _definition(workflow: Workflow, number: int) -> Mapping[str, Any]:
    rows = WorkflowVersion.objects.filter(workflow=workflow, number=number)
    found: Mapping[str, Any] | None = rows.values_list("definition", flat=True).first()
    if found is None:
        raise NotFound(f"There is no version {number}; there are 1 to {workflow.version_number}.")
    return found
