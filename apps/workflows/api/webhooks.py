"""`/webhooks`: doors for signed requests, and the way through them: `POST /webhooks/{id}`, open to callers without
credentials."""

from typing import IO, Any, cast
from uuid import UUID

from django.db.models import QuerySet
from django.urls import reverse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import mixins, serializers
from rest_framework.request import Request
from rest_framework.response import Response

from apps.accounts.permissions import Permission, holds
from apps.core.api.access import OPEN
from apps.core.api.parsers import read_bounded
from apps.core.api.viewsets import StrictSerializer
from apps.core.errors import Denied, Invalid, Problem
from apps.workflows.api.gate import GatedViewSet
from apps.workflows.api.serializers import StartedSerializer
from apps.workflows.api.traces import callers_trace
from apps.workflows.models import Webhook, Workflow
from apps.workflows.services import webhooks

TEMPLATES = "Templates by the name of an input; they read `${inputs.payload…}`."


class WebhookSerializer(serializers.ModelSerializer[Webhook]):
    """A door; its secret is told when it is made, and never again."""

    workflow_id = serializers.CharField(source="workflow.slug", read_only=True)
    inputs = serializers.DictField(read_only=True)
    owner = serializers.CharField(source="owner.username", default=None, read_only=True, allow_null=True)
    url = serializers.SerializerMethodField()

    class Meta:
        model = Webhook
        fields = [
            "id", "workflow_id", "name", "url", "inputs", "paused", "owner", "last_at", "created_at", "updated_at",
        ]  # fmt: skip
        read_only_fields = fields

    def get_url(self, webhook: Webhook) -> str:
        """Where requests are sent."""
        request: Request = self.context["request"]
        return request.build_absolute_uri(reverse("webhook", args=[webhook.pk]))


class WebhookSecretSerializer(WebhookSerializer):
    """A door with its new secret."""

    secret = serializers.CharField(read_only=True, help_text="Shown this once.")

    class Meta(WebhookSerializer.Meta):
        fields = [*WebhookSerializer.Meta.fields, "secret"]
        read_only_fields = fields


class WebhookChangeSerializer(StrictSerializer):
    """What may be changed; what is not given stays."""

    name = serializers.CharField(max_length=100, required=False)
    inputs = serializers.DictField(required=False, help_text=TEMPLATES)
    paused = serializers.BooleanField(required=False, help_text="Refuse every request until it is false again.")


class NewWebhookSerializer(StrictSerializer):
    """A new door."""

    workflow_id = serializers.CharField(max_length=100)
    name = serializers.CharField(max_length=100)
    inputs = serializers.DictField(required=False, default=dict, help_text=TEMPLATES)


class WebhookViewSet(mixins.ListModelMixin, mixins.RetrieveModelMixin, GatedViewSet):
    """Doors for signed requests from outside."""

    required_permissions = {
        "list": Permission.WORKFLOW_READ,
        "retrieve": Permission.WORKFLOW_READ,
        "create": Permission.WORKFLOW_EXECUTE,
        "update": Permission.WORKFLOW_EXECUTE,
        "destroy": Permission.WORKFLOW_EXECUTE,
        "rotate": Permission.WORKFLOW_EXECUTE,
        "receive": OPEN,
    }
    gated_actions = frozenset(required_permissions) - {"receive"}
    untold = frozenset({"receive"})  # the execution tells what started it
    together = frozenset({"create", "update", "destroy", "rotate"})
    queryset = Webhook.objects.none()
    lookup_field = "pk"
    lookup_url_kwarg = "id"
    serializer_class = WebhookSerializer

    def get_queryset(self) -> QuerySet[Webhook]:
        """What the caller may read."""
        rows: QuerySet[Webhook] = Webhook.objects.visible_to(self.request.user, Permission.WORKFLOW_READ)
        return rows.select_related("workflow", "owner")

    def initialize_request(self, request: Any, *args: Any, **kwargs: Any) -> Any:
        """The action is known before the authenticators are chosen."""
        self.action = self.action_map.get(request.method.lower(), "")
        return super().initialize_request(request, *args, **kwargs)

    def get_authenticators(self) -> list[Any]:
        """Through the open door no credential has a say: neither a cookie nor a stale token."""
        return [] if getattr(self, "action", None) == "receive" else super().get_authenticators()

    def _changeable(self) -> Webhook:
        """The webhook, where the caller may change it: his own, or any with `system:update`. Raises `Denied`.

        Nobody without the right to execute: whoever knows its secret starts the workflow.
        """
        webhook: Webhook = self.get_object()
        user = self.account()
        self.require(webhook.workflow, Permission.WORKFLOW_EXECUTE)
        if webhook.owner_id != user.pk and not holds(user, Permission.SYSTEM_UPDATE):
            raise Denied(f"this needs its owner, or the permission {Permission.SYSTEM_UPDATE.value}")
        return webhook

    def _with_secret(self, webhook: Webhook, secret: str, *, status: int) -> Response:
        return Response({**self.get_serializer(webhook).data, "secret": secret}, status=status)

    @extend_schema(request=NewWebhookSerializer, responses={201: WebhookSecretSerializer})
    def create(self, request: Request) -> Response:
        """Open a door to a workflow, owned by the caller; the answer has its secret, this once."""
        by = self.account()
        asked = _validated(NewWebhookSerializer, request)
        readable = Workflow.objects.visible_to(by, Permission.WORKFLOW_READ)
        workflow = readable.filter(slug=asked["workflow_id"]).first()
        if workflow is None:
            message = "there is no such workflow, or you may not know of it"
            problem = Problem(pointer="/workflow_id", code="unknown_workflow", message=message)
            raise Invalid(f"workflow_id: {message}.", problems=[problem])
        self.require(workflow, Permission.WORKFLOW_EXECUTE)
        made, secret = webhooks.create(workflow, name=asked["name"], inputs=asked["inputs"], by=by)
        return self._with_secret(made, secret, status=201)

    @extend_schema(request=WebhookChangeSerializer)
    def update(self, request: Request, id: UUID) -> Response:  # noqa: A002, ARG002 (the route's word)
        """Change its name or its templates, or pause it."""
        webhook = self._changeable()
        changed = webhooks.update(webhook, **_validated(WebhookChangeSerializer, request))
        return Response(self.get_serializer(changed).data)

    @extend_schema(responses={204: None})
    def destroy(self, request: Request, id: UUID) -> Response:  # noqa: A002, ARG002
        """Close the door."""
        webhooks.delete(self._changeable())
        return Response(status=204)

    @extend_schema(request=None, responses=WebhookSecretSerializer)
    def rotate(self, request: Request, id: UUID) -> Response:  # noqa: A002, ARG002
        """A new secret, shown this once; the old one ends."""
        webhook = self._changeable()
        return self._with_secret(webhook, webhooks.rotate(webhook), status=200)

    @extend_schema(
        request=OpenApiTypes.OBJECT,
        responses={202: StartedSerializer},
        auth=[],
        operation_id="webhooks_receive",
        parameters=[
            OpenApiParameter("webhook-id", str, "header", description="The message; the same one has one effect."),
            OpenApiParameter("webhook-timestamp", str, "header", description="Seconds since 1970, within 5 minutes."),
            OpenApiParameter(
                "webhook-signature", str, "header", description="`v1,BASE64`, several with spaces between."
            ),
            OpenApiParameter("X-GitHub-Delivery", str, "header", description="GitHub's id of the message."),
            OpenApiParameter("X-Hub-Signature-256", str, "header", description="GitHub's signature: `sha256=HEX`."),
        ],
    )
    def receive(self, request: Request, id: UUID) -> Response:  # noqa: A002
        """The open door: a signed request starts the workflow. Every refusal is the same 401 `invalid_signature`."""
        sent = request._request
        # The bytes as they came: the signature is over them, whatever their media type says.
        body = read_bounded(cast("IO[bytes]", sent), {"request": sent}, limit=webhooks.MAX_BODY)
        headers = {name.lower(): value for name, value in sent.headers.items()}
        return Response(webhooks.receive(id, headers=headers, body=body, **callers_trace()), status=202)


def _validated(serializer: type[StrictSerializer], request: Request) -> dict[str, Any]:
    given = serializer(data=request.data)
    given.is_valid(raise_exception=True)
    return dict(given.validated_data)
