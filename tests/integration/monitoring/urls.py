"""Routes of these tests: monitoring as the platform mounts it, and the login that its callers need."""

from django.http import HttpResponse
from django.urls import include, path

from apps.accounts.api.docs import SchemaView

handler400 = "apps.core.api.problems.handler400"
handler403 = "apps.core.api.problems.handler403"
handler404 = "apps.core.api.problems.handler404"
handler500 = "apps.core.api.problems.handler500"


def broken(request):
    raise ValueError("what a user wrote")


def plain(request):
    return HttpResponse("ok")


urlpatterns = [
    path("monitoring/", include("apps.monitoring.urls")),
    path("schema", SchemaView.as_view(), name="schema"),
    path("plain", plain),
    path("broken", broken),
]
