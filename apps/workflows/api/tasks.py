"""`/tasks`: steps of executions, why they wait, and what people say to those that wait for an approval."""

from typing import Any

from django.db.models import Prefetch, QuerySet
from django_filters.filters import CharFilter, MultipleChoiceFilter, UUIDFilter
from django_filters.filterset import FilterSet
from django_filters.rest_framework.backends import DjangoFilterBackend
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework import mixins
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from apps.accounts.permissions import Permission
from apps.core.errors import Invalid
from apps.workflows.api import serializers
from apps.workflows.api.executions import STATUSES, UUID, priority_of, started
from apps.workflows.api.gate import GatedViewSet
from apps.workflows.api.traces import callers_trace
from apps.workflows.models import Execution, Task
from apps.workflows.selectors.relations import of_workflow
from apps.workflows.selectors.why import why
from apps.workflows.services import adhoc, approvals, priorities


class TaskFilter(FilterSet):
    """`?status=`, `?workflow_id=`, `?execution_id=`, `?queue=`, `?waiting_for=`."""

    status = MultipleChoiceFilter(choices=STATUSES, distinct=False)
    workflow_id = CharFilter(method="of_workflow")
    execution_id = UUIDFilter(field_name="execution_id")
    queue = CharFilter()
    waiting_for = CharFilter()

    class Meta:
        model = Task
        fields: list[str] = []

    def of_workflow(self, rows: QuerySet[Task], _name: str, slug: str) -> QuerySet[Task]:
        """Those of the workflow of this id."""
        return of_workflow(rows, slug)


class TaskViewSet(mixins.ListModelMixin, mixins.RetrieveModelMixin, GatedViewSet):
    """Steps of executions."""

    required_permissions = {
        "list": Permission.TASK_READ,
        "retrieve": Permission.TASK_READ,
        "create": Permission.TASK_CREATE,
        "partial_update": Permission.TASK_UPDATE,
        "why": Permission.TASK_READ,
        "approve": Permission.TASK_EXECUTE,
        "reject": Permission.TASK_EXECUTE,
    }
    gated_actions = frozenset(required_permissions) - {"create"}
    together = frozenset({"partial_update", "approve", "reject", "create"})
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
        if self.action != "list":
            return rows.select_related("execution__workflow")
        executions = Execution.objects.only("workflow__slug").select_related("workflow")
        return rows.prefetch_related(Prefetch("execution", executions))  # once the page is known

    def _allowed(self) -> Task:
        task: Task = self.get_object()
        self.require(task, self.permission())
        return task

    @extend_schema(request=OpenApiTypes.OBJECT, responses={202: serializers.TaskStartedSerializer})
    def create(self, request: Request) -> Response:
        """Execute one step, defined as in a workflow (without `id` too), perhaps with `inputs` and `priority`."""
        step, asked = _split(request.data)
        given = serializers.ExecuteSerializer(data=asked)
        given.is_valid(raise_exception=True)
        execution, task = adhoc.start(step, by=self.account(), **callers_trace(), **given.validated_data)
        answer = started(execution)
        answer.data["task_id"] = str(task.pk)
        return answer

    @extend_schema(request=serializers.PrioritySerializer, responses=serializers.TaskSerializer)
    def partial_update(self, request: Request, id: str) -> Response:  # noqa: A002, ARG002 (the route's word)
        """Give its execution another priority, and with it another place in line. 409 when that has ended."""
        task = self._allowed()
        priorities.change(task.execution, priority_of(request), by=self.account())
        return Response(self.get_serializer(task).data)

    @extend_schema(responses=serializers.WhySerializer)
    @action(detail=True, pagination_class=None, filterset_class=None)
    def why(self, request: Request, id: str) -> Response:  # noqa: A002, ARG002
        """Why it does not run: every reason that stands in its way now, with its fix."""
        return Response(why(self.request.user, self.get_object()))

    @extend_schema(request=serializers.ApproveSerializer, responses=serializers.TaskSerializer)
    @action(detail=True, methods=["post"])
    def approve(self, request: Request, id: str) -> Response:  # noqa: A002, ARG002
        """Say yes to what it waits for, with the form it asks for. 409 when somebody has decided before."""
        return self._decide(serializers.ApproveSerializer(data=request.data), approved=True)

    @extend_schema(request=serializers.RejectSerializer, responses=serializers.TaskSerializer)
    @action(detail=True, methods=["post"])
    def reject(self, request: Request, id: str) -> Response:  # noqa: A002, ARG002
        """Say no to what it waits for: it fails. 409 when somebody has decided before."""
        return self._decide(serializers.RejectSerializer(data=request.data), approved=False)

    def _decide(self, given: Any, *, approved: bool) -> Response:
        task = self._allowed()
        given.is_valid(raise_exception=True)
        said = given.validated_data
        by = self.account()
        approvals.decide(task, approved=approved, by=by, form=said.get("form"), reason=said.get("reason", ""))
        return Response(self.get_serializer(task).data)


def _split(body: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """A task's definition, and what its execution is given. Raises `Invalid` for what is no object."""
    if not isinstance(body, dict):
        raise Invalid("The body must be an object: one step, as in a workflow.")
    asked = {name: body[name] for name in ("inputs", "priority") if name in body}
    return {name: value for name, value in body.items() if name not in asked}, asked
