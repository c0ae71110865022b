"""Routes of workflows, executions, tasks and schedules. No trailing slashes."""

from django.urls import URLPattern, URLResolver, path
from rest_framework.routers import SimpleRouter

from apps.workflows.api.executions import ExecutionViewSet, TaskViewSet
from apps.workflows.api.schedules import ScheduleViewSet
from apps.workflows.api.workflows import DefinitionSchemaViewSet, WorkflowViewSet

router = SimpleRouter(trailing_slash=False)
router.register("workflows", WorkflowViewSet, basename="workflow")
router.register("executions", ExecutionViewSet, basename="execution")
router.register("tasks", TaskViewSet, basename="task")
router.register("schedules", ScheduleViewSet, basename="schedule")

urlpatterns: list[URLPattern | URLResolver] = [
    path("schema/workflow.json", DefinitionSchemaViewSet.as_view({"get": "list"}), name="definition-schema"),
    *router.urls,
]
