"""The endpoints under /monitoring: metrics as text, health, and what runs container steps."""

from collections.abc import Iterable
from typing import Any

from django.db import Error
from django.http import HttpResponse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from prometheus_client import REGISTRY
from prometheus_client.registry import Collector, CollectorRegistry
from rest_framework.authentication import BaseAuthentication
from rest_framework.negotiation import BaseContentNegotiation
from rest_framework.renderers import BaseRenderer
from rest_framework.request import Request
from rest_framework.response import Response

from apps.accounts.callers import identify
from apps.accounts.permissions import Permission, holds
from apps.core.api.renderers import JSONRenderer
from apps.core.api.viewsets import OPEN, GenericAPIView
from apps.core.errors import NotFound, PlatformError, Unavailable
from apps.monitoring import collectors, health, runtime
from apps.monitoring.api import serializers
from apps.monitoring.collectors import Filled
from apps.monitoring.exposition import registered, rendered

TEXT = {
    (200, "text/plain"): OpenApiTypes.STR,
    (200, "application/openmetrics-text"): OpenApiTypes.STR,
}


class AnyAccept(BaseContentNegotiation):
    """Never 406: a scraper gets metrics whatever it accepts, and an error is JSON."""

    def select_parser(self, request: Request, parsers: Iterable[Any]) -> Any:  # noqa: ARG002
        """The first; nothing is posted here."""
        return next(iter(parsers))

    def select_renderer(
        self,
        request: Request,  # noqa: ARG002
        renderers: Iterable[BaseRenderer],
        format_suffix: str | None = None,  # noqa: ARG002
    ) -> tuple[BaseRenderer, str]:
        """The first."""
        first = next(iter(renderers))
        return first, str(first.media_type)


class _TextView(GenericAPIView):
    """An endpoint that answers metrics."""

    required_permissions = {"GET": Permission.MONITORING_READ}
    content_negotiation_class = AnyAccept
    renderer_classes = [JSONRenderer]

    def text(
        self, request: Request, filled: Iterable[Filled], registry: CollectorRegistry | Collector | None = None
    ) -> HttpResponse:
        """The families in the format that the caller prefers."""
        try:
            body, content_type = rendered(filled, accept=request.headers.get("Accept", ""), registry=registry)
        except Error as error:
            raise Unavailable("The database does not answer, so its facts cannot be told.") from error
        return HttpResponse(body, content_type=content_type)

    def one(self, request: Request, name: str, *, own_only: bool) -> HttpResponse:
        """A single family. Raises NotFound."""
        try:
            found = collectors.find(name)
        except Error as error:
            raise Unavailable("The database does not answer, so its facts cannot be told.") from error
        if found is not None:
            return self.text(request, [found])
        other = None if own_only else registered(name)
        if other is None:
            raise NotFound("There is no metric of this name; `/monitoring/metrics` lists them.", code="unknown_metric")
        return self.text(request, [], other)


class MetricsView(_TextView):
    """Every metric."""

    @extend_schema(responses=TEXT, operation_id="monitoring_metrics")
    def get(self, request: Request) -> HttpResponse:
        """Facts from the database (at most a second old), then this server process: HTTP, Python, the host."""
        return self.text(request, collectors.ours(), REGISTRY)


class MetricView(_TextView):
    """One metric of all."""

    @extend_schema(responses=TEXT, operation_id="monitoring_metric")
    def get(self, request: Request, name: str) -> HttpResponse:
        """One metric with its HELP and TYPE; `name` is a family's or that of one of its samples."""
        return self.one(request, name, own_only=False)


class DaggerMetricsView(_TextView):
    """The platform's own metrics."""

    @extend_schema(responses=TEXT, operation_id="monitoring_dagger_metrics")
    def get(self, request: Request) -> HttpResponse:
        """The metrics whose names begin with `dagger_`."""
        return self.text(request, collectors.ours())


class DaggerMetricView(_TextView):
    """One of the platform's own metrics."""

    @extend_schema(responses=TEXT, operation_id="monitoring_dagger_metric")
    def get(self, request: Request, name: str) -> HttpResponse:
        """One metric whose name begins with `dagger_`, with its HELP and TYPE."""
        return self.one(request, name, own_only=True)


class DaggerStatusView(GenericAPIView):
    """What runs container steps."""

    required_permissions = {"GET": Permission.MONITORING_READ}
    serializer_class = serializers.RuntimeSerializer

    @extend_schema(operation_id="monitoring_dagger_status")
    def get(self, request: Request) -> Response:  # noqa: ARG002
        """What runs container steps, the engine's version and whether it answers, and if not what to do."""
        return Response(self.get_serializer(runtime.engine()).data)


class LiveView(GenericAPIView):
    """Liveness."""

    required_permissions = {"GET": OPEN}
    authentication_classes = []  # a stale token has no say here
    renderer_classes = [JSONRenderer]
    content_negotiation_class = AnyAccept
    serializer_class = serializers.LiveSerializer

    @extend_schema(operation_id="monitoring_health_live", auth=[])
    def get(self, request: Request) -> Response:  # noqa: ARG002
        """The process answers; a restart would not help it."""
        return Response({"status": "ok"})


class AnyCredential(BaseAuthentication):
    """The caller where a credential holds; one that does not, or cannot be checked, is nobody and spoils no probe."""

    def authenticate(self, request: Request) -> tuple[Any, None] | None:
        """The user of a bearer token or a session."""
        try:
            return identify(request._request, page=False), None
        except (PlatformError, Error):
            return None


class ReadyView(GenericAPIView):
    """Readiness."""

    required_permissions = {"GET": OPEN}
    authentication_classes = [AnyCredential]
    renderer_classes = [JSONRenderer]
    content_negotiation_class = AnyAccept
    serializer_class = serializers.HealthSerializer

    @extend_schema(
        operation_id="monitoring_health_ready",
        auth=[{}, {"bearer": []}, {"session": []}],  # type: ignore[list-item]  # the stub knows names only
        responses={200: serializers.HealthSerializer, 503: serializers.HealthSerializer},
    )
    def get(self, request: Request) -> Response:
        """Whether requests can be served: the database answers and the disk has room.

        Callers with `monitoring:read` see each check with its time and reason, the workers' among them.
        """
        found = health.checks()
        ready = health.is_ready(found)
        answer: dict[str, Any] = {"status": "ok" if ready else "unavailable"}
        if _may_see_checks(request):
            answer["checks"] = found
        return Response(self.get_serializer(answer).data, status=200 if ready else 503)


def _may_see_checks(request: Request) -> bool:
    """Where the database is what is down, a permission cannot be looked up: nothing is shown."""
    try:
        return holds(request.user, Permission.MONITORING_READ)
    except Error:
        return False
