"""Routes of workflows, executions, tasks, queues and workers. No trailing slashes."""

from django.urls import URLPattern, URLResolver, path
from rest_framework.routers import SimpleRouter

from apps.workflows.api.executions import ExecutionViewSet
from apps.workflows.api.queues import QueueViewSet, WorkerViewSet
from apps.workflows.api.tasks import TaskViewSet
from apps.workflows.api.workflows import DefinitionSchemaViewSet, WorkflowViewSet

router = SimpleRouter(trailing_slash=False)
router.register("workflows", WorkflowViewSet, basename="workflow")
router.register("executions", ExecutionViewSet, basename="execution")
router.register("tasks", TaskViewSet, basename="task")
router.register("queues", QueueViewSet, basename="queue")
router.register("workers", WorkerViewSet, basename="worker")

urlpatterns: list[URLPattern | URLResolver] = [
    path("schema/workflow.json", DefinitionSchemaViewSet.as_view({"get": "list"}), name="definition-schema"),
    *router.urls,
]
