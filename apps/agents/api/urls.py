"""Routes of agents. No trailing slashes."""

from django.urls import URLPattern, URLResolver, path

from apps.agents.api import protocol
from apps.agents.api.agents import AgentGrantViewSet, AgentViewSet

_TASK = "agents/<uuid:id>/tasks/<uuid:task_id>"

urlpatterns: list[URLPattern | URLResolver] = [
    path("agents", AgentViewSet.as_view({"get": "list", "post": "create"}), name="agents"),
    path(
        "agents/<uuid:id>",
        AgentViewSet.as_view({"get": "retrieve", "patch": "partial_update", "delete": "destroy"}),
        name="agent",
    ),
    path("agents/<uuid:id>/rotate", AgentViewSet.as_view({"post": "rotate"}), name="agent-rotate"),
    path(
        "agents/<uuid:id>/grants",
        AgentGrantViewSet.as_view({"get": "list", "put": "update", "delete": "destroy"}),
        name="agent-grants",
    ),
    path("agents/<uuid:id>/claim", protocol.ClaimView.as_view(), name="agent-claim"),
    path("agents/<uuid:id>/heartbeat", protocol.HeartbeatView.as_view(), name="agent-heartbeat"),
    path(f"{_TASK}/progress", protocol.ProgressView.as_view(), name="agent-progress"),
    path(f"{_TASK}/complete", protocol.CompleteView.as_view(), name="agent-complete"),
    path(f"{_TASK}/fail", protocol.FailView.as_view(), name="agent-fail"),
    path(f"{_TASK}/logs", protocol.LogsView.as_view(), name="agent-logs"),
    path(f"{_TASK}/artifacts", protocol.ArtifactsView.as_view(), name="agent-artifacts"),
]
