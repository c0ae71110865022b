"""Every HTTP route, app by app. No trailing slashes."""

from django.contrib import admin
from django.urls import URLPattern, URLResolver, include, path

from apps.accounts.api.audit import AuditViewSet
from apps.accounts.api.docs import DocsView, SchemaView
from apps.progress.api.logs import LogStreamView

handler400 = "apps.core.api.problems.handler400"
handler403 = "apps.core.api.problems.handler403"
handler404 = "apps.core.api.problems.handler404"
handler500 = "apps.core.api.problems.handler500"

urlpatterns: list[URLPattern | URLResolver] = [
    path("admin/", admin.site.urls),
    path("", include("apps.accounts.api.urls")),
    path("monitoring/", include("apps.monitoring.urls")),
    path("progress/", include("apps.progress.api.urls")),
    path("audit", AuditViewSet.as_view({"get": "list"}), name="audit"),
    path("schema", SchemaView.as_view(), name="schema"),
    path("docs", DocsView.as_view(), name="docs"),
    path("executions/<str:id>/logs/stream", LogStreamView.as_view(), name="execution-logs-stream"),
    path("", include("apps.workflows.api.urls")),
    path("", include("apps.agents.api.urls")),
    path("", include("apps.web.urls")),
]
