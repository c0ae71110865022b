"""The endpoints of alerts: what fires, the rules, silences, and a page for each alert."""

import uuid
from collections.abc import Mapping

from django.db import Error
from django.http import HttpResponse
from django.shortcuts import render
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from apps.accounts.permissions import Permission
from apps.core.api.renderers import JSONRenderer
from apps.core.api.viewsets import GenericAPIView
from apps.core.errors import Invalid, NotFound, Problem, Unavailable
from apps.monitoring.alerts import answers
from apps.monitoring.alerts.catalogue import BY_NAME, SEVERITIES
from apps.monitoring.api import alert_serializers as serializers
from apps.monitoring.api.views import AnyAccept

_STATES = ("pending", "firing", "silenced")
FILTERS = [
    OpenApiParameter("state", str, enum=_STATES),
    OpenApiParameter("severity", str, enum=SEVERITIES),
    OpenApiParameter("name", str, description="Of the alert: `NoWorkers`."),
]


class AlertsView(GenericAPIView):
    """Current alerts."""

    required_permissions = {"GET": Permission.MONITORING_READ}
    serializer_class = serializers.AlertsSerializer

    @extend_schema(operation_id="monitoring_alerts", parameters=FILTERS)
    def get(self, request: Request) -> Response:
        """What is pending, fires or is silenced, the worst first; with an Alertmanager, what it says as well."""
        allowed: Mapping[str, tuple[str, ...]] = {
            "state": _STATES, "severity": tuple(SEVERITIES), "name": tuple(BY_NAME),
        }  # fmt: skip
        chosen = _chosen(request, allowed)
        try:
            found = answers.alerts()
        except Error as error:
            raise Unavailable("The database does not answer, so the rules cannot be carried out.") from error
        found["alerts"] = [one for one in found["alerts"] if all(one[key] == value for key, value in chosen.items())]
        return Response(self.get_serializer(found).data)


class RulesView(GenericAPIView):
    """The rules."""

    required_permissions = {"GET": Permission.MONITORING_READ}
    serializer_class = serializers.RulesSerializer

    @extend_schema(operation_id="monitoring_rules")
    def get(self, request: Request) -> Response:  # noqa: ARG002
        """Every alert that there is, as `monitoring/alerting_rules.yml` has it, with its present state."""
        try:
            return Response(self.get_serializer({"rules": answers.rules()}).data)
        except Error as error:
            raise Unavailable("The database does not answer, so the rules cannot be carried out.") from error


class SilencesView(GenericAPIView):
    """Silences."""

    required_permissions = {"GET": Permission.MONITORING_READ, "POST": Permission.MONITORING_UPDATE}
    serializer_class = serializers.SilenceSerializer

    @extend_schema(operation_id="monitoring_silences", responses=serializers.SilencesSerializer)
    def get(self, request: Request) -> Response:  # noqa: ARG002
        """Those that hold or will; the Alertmanager's where there is one."""
        return Response(serializers.SilencesSerializer(answers.silences()).data)

    @extend_schema(operation_id="monitoring_silence", request=serializers.NewSilenceSerializer)
    def post(self, request: Request) -> Response:
        """Have alerts told to nobody for a time; with an Alertmanager it is made there."""
        given = serializers.NewSilenceSerializer(data=request.data)
        given.is_valid(raise_exception=True)
        return Response(self.get_serializer(answers.silence(given.validated_data, by=request.user)).data, status=201)


class SilenceView(GenericAPIView):
    """One silence."""

    required_permissions = {"DELETE": Permission.MONITORING_UPDATE}
    serializer_class = serializers.SilenceSerializer

    @extend_schema(operation_id="monitoring_silence_end", responses={204: None})
    def delete(self, request: Request, silence_id: uuid.UUID) -> Response:  # noqa: ARG002
        """End it now."""
        answers.expire(silence_id)
        return Response(status=204)


class RunbookView(GenericAPIView):
    """The page of an alert."""

    required_permissions = {"GET": Permission.MONITORING_READ}
    renderer_classes = [JSONRenderer]
    content_negotiation_class = AnyAccept
    serializer_class = serializers.RunbookSerializer

    @extend_schema(
        operation_id="monitoring_runbook",
        responses={(200, "application/json"): serializers.RunbookSerializer, (200, "text/html"): OpenApiTypes.STR},
    )
    def get(self, request: Request, alert: str) -> HttpResponse | Response:
        """What it means, what may have caused it, what to do, and its value now: a page, or JSON."""
        if alert not in BY_NAME:
            raise NotFound("There is no alert of this name; `/monitoring/rules` lists them.", code="unknown_alert")
        try:
            page = answers.runbook(BY_NAME[alert])
        except Error:
            page = {**answers.runbook_text(BY_NAME[alert]), "state": "unknown", "values": []}
        if "text/html" in request.headers.get("Accept", ""):
            return render(request._request, "monitoring/runbook.html", {"page": page})
        return Response(self.get_serializer(page).data)


def _chosen(request: Request, allowed: Mapping[str, tuple[str, ...]]) -> dict[str, str]:
    """The filters that were given. Raises `Invalid` for unknown ones, and values that can never be."""
    problems = []
    for key, value in request.query_params.items():
        if key not in allowed:
            problems.append(Problem(pointer=f"/{key}", code="unknown", message=f"use {', '.join(allowed)}"))
        elif key != "name" and value not in allowed[key]:
            problems.append(Problem(pointer=f"/{key}", code="invalid", message=f"use {', '.join(allowed[key])}"))
    if problems:
        raise Invalid("; ".join(f"{one.pointer[1:]}: {one.message}" for one in problems), problems=problems)
    return {key: str(value) for key, value in request.query_params.items()}
