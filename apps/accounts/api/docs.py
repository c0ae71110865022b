"""The OpenAPI document and Swagger UI, served from our own host under the strict content policy."""

from collections.abc import Mapping
from typing import ClassVar

from drf_spectacular.views import SpectacularAPIView, SpectacularSwaggerSplitView
from rest_framework.views import APIView

from apps.accounts.permissions import Permission


class SchemaView(SpectacularAPIView):
    """`GET /schema`: OpenAPI 3.1 as YAML or JSON."""

    permission_classes = APIView.permission_classes
    authentication_classes = APIView.authentication_classes
    required_permissions: ClassVar[Mapping[str, str]] = {"GET": Permission.WORKFLOW_READ}


class DocsView(SpectacularSwaggerSplitView):
    """`GET /docs`: Swagger UI; its start script has an address of its own, so the page needs no inline script."""

    permission_classes = APIView.permission_classes
    authentication_classes = APIView.authentication_classes
    required_permissions: ClassVar[Mapping[str, str]] = {"GET": Permission.WORKFLOW_READ}
    template_name = "accounts/docs.html"
