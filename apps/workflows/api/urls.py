"""Routes of workflows, what runs of them, what starts them, secrets, and who is told. No trailing slashes."""

from django.urls import URLPattern, URLResolver, path
from rest_framework.routers import SimpleRouter

from apps.workflows.api.breakers import BreakerViewSet
from apps.workflows.api.executions import ExecutionViewSet
from apps.workflows.api.grants import ExplainView, GrantViewSet
from apps.workflows.api.notifications import ReceiverViewSet
from apps.workflows.api.queues import QueueViewSet, WorkerViewSet
from apps.workflows.api.schedules import ScheduleViewSet
from apps.workflows.api.secrets import SecretViewSet
from apps.workflows.api.tasks import TaskViewSet
from apps.workflows.api.webhooks import WebhookViewSet
from apps.workflows.api.workflows import DefinitionSchemaViewSet, WorkflowViewSet

router = SimpleRouter(trailing_slash=False)
router.register("workflows", WorkflowViewSet, basename="workflow")
router.register("executions", ExecutionViewSet, basename="execution")
router.register("tasks", TaskViewSet, basename="task")
router.register("queues", QueueViewSet, basename="queue")
router.register("workers", WorkerViewSet, basename="worker")
router.register("circuit-breakers", BreakerViewSet, basename="circuit-breaker")
router.register("schedules", ScheduleViewSet, basename="schedule")
router.register("secrets", SecretViewSet, basename="secret")
router.register("notifications", ReceiverViewSet, basename="notification")

urlpatterns: list[URLPattern | URLResolver] = [
    # Explains grants on workflows, of which the floor of accounts knows nothing.
    path("auth/explain", ExplainView.as_view(), name="auth-explain"),
    path(
        "workflows/<slug:id>/grants",
        GrantViewSet.as_view({"get": "list", "put": "update", "delete": "destroy"}),
        name="workflow-grants",
    ),
    path("schema/workflow.json", DefinitionSchemaViewSet.as_view({"get": "list"}), name="definition-schema"),
    path("webhooks", WebhookViewSet.as_view({"get": "list", "post": "create"}), name="webhooks"),
    path(
        "webhooks/<uuid:id>",
        # One address, two meanings: GET, PUT and DELETE are its owner's, POST is the open door.
        WebhookViewSet.as_view({"get": "retrieve", "put": "update", "delete": "destroy", "post": "receive"}),
        name="webhook",
    ),
    path("webhooks/<uuid:id>/rotate", WebhookViewSet.as_view({"post": "rotate"}), name="webhook-rotate"),
    *router.urls,
]
