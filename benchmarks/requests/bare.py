"""Bare DRF views to compare with: the platform's JWT authentication, and one row read or written."""

from django.urls import path
from django.utils import timezone
from rest_framework import serializers
from rest_framework.permissions import IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from apps.accounts.api.authentication import BearerAuthentication
from apps.workflows.models import Execution


class Body(serializers.Serializer[dict[str, object]]):
    """What a report has."""

    workflow_id = serializers.CharField(max_length=100)
    percent_complete = serializers.FloatField(min_value=0, max_value=100)
    status = serializers.CharField()
    message = serializers.CharField()


class Bare(APIView):
    """One execution's row."""

    authentication_classes = [BearerAuthentication]
    permission_classes = [IsAuthenticated]

    def get(self, _request: Request, workflow_id: str) -> Response:
        """Read it."""
        row = Execution.objects.select_related("workflow").filter(workflow__slug=workflow_id).latest("id")
        return Response(
            {
                "workflow_id": row.workflow.slug,
                "execution_id": str(row.pk),
                "status": row.status,
                "percent_complete": row.percent,
                "message": row.message,
                "updated_at": row.updated_at,
            }
        )

    def post(self, request: Request, workflow_id: str) -> Response:
        """Write it."""
        body = Body(data=request.data)
        body.is_valid(raise_exception=True)
        told = body.validated_data
        changed = Execution.objects.filter(workflow__slug=workflow_id).update(
            message=told["message"], updated_at=timezone.now()
        )
        return Response({"workflow_id": workflow_id, "changed": changed})


urlpatterns = [path("bare/<str:workflow_id>", Bare.as_view())]
