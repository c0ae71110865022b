"""`/notifications`: who is told how executions end, and what became of what they were to be told."""

from typing import Any

from django.db.models import QuerySet
from drf_spectacular.utils import extend_schema, extend_schema_field
from rest_framework import mixins, serializers
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from apps.accounts.permissions import Permission
from apps.core.api.viewsets import StrictSerializer
from apps.core.errors import NotFound
from apps.workflows.api.gate import GatedViewSet
from apps.workflows.models import Notification, Receiver
from apps.workflows.services import notifications, receivers
from apps.workflows.services.sending import NotSent, address_of, masked

NAME = "[A-Za-z0-9][A-Za-z0-9_.:-]{0,63}"
HIDDEN = "whsec_…"
STATES = ["pending", "delivered", "given_up"]


class ReceiverSerializer(serializers.ModelSerializer[Receiver]):
    """A receiver; of its target only the host is shown, of its secret only that there is one."""

    target = serializers.SerializerMethodField()
    secret = serializers.SerializerMethodField()
    owner = serializers.CharField(source="owner.username", default=None, read_only=True, allow_null=True)

    class Meta:
        model = Receiver
        fields = ["name", "kind", "target", "secret", "owner", "created_at", "updated_at"]
        read_only_fields = fields

    def get_target(self, receiver: Receiver) -> str:
        """Masked; or why it cannot be read."""
        try:
            return masked(receiver.kind, address_of(receiver).target)
        except NotSent as failure:
            return f"({failure})"

    def get_secret(self, receiver: Receiver) -> str:
        """Masked; empty where there is none."""
        return HIDDEN if receiver.secret else ""


class ReceiverChangeSerializer(StrictSerializer):
    """What may be changed; what is not given stays."""

    kind = serializers.ChoiceField(choices=Receiver.Kind.choices, required=False)
    target = serializers.CharField(max_length=receivers.MAX_TARGET, required=False, help_text="A URL, or an address.")
    secret = serializers.CharField(
        max_length=200, required=False, help_text="Signs what a webhook is sent: `whsec_…`. Without it, one is made."
    )


class NewReceiverSerializer(ReceiverChangeSerializer):
    """A new receiver."""

    name = serializers.RegexField(f"^{NAME}\\Z", help_text="As definitions name it: `notify: [{webhook: NAME}]`.")
    kind = serializers.ChoiceField(choices=Receiver.Kind.choices)
    target = serializers.CharField(max_length=receivers.MAX_TARGET, help_text="A URL, or an address.")


class SentSerializer(serializers.Serializer[Any]):
    """What became of a test message."""

    delivered = serializers.BooleanField(read_only=True)
    error = serializers.CharField(read_only=True, allow_null=True)


class DeliverySerializer(serializers.ModelSerializer[Notification]):
    """The end of an execution, as a receiver was to be told of it."""

    workflow_id = serializers.CharField(source="execution.workflow.slug", read_only=True)
    execution_id = serializers.UUIDField(read_only=True)
    execution_status = serializers.CharField(source="execution.status", read_only=True)
    state = serializers.SerializerMethodField()

    class Meta:
        model = Notification
        fields = [
            "id", "execution_id", "workflow_id", "execution_status", "state", "attempts", "last_error", "next_at",
            "delivered_at", "created_at",
        ]  # fmt: skip
        read_only_fields = fields

    @extend_schema_field({"type": "string", "enum": STATES})
    def get_state(self, notification: Notification) -> str:
        """Whether it was delivered, is tried again, or was given up."""
        if notification.delivered_at is not None:
            return "delivered"
        return "pending" if notification.next_at is not None else "given_up"


class ReceiverViewSet(mixins.ListModelMixin, mixins.RetrieveModelMixin, GatedViewSet):
    """Receivers of notifications."""

    required_permissions = {
        "list": Permission.SYSTEM_READ,
        "retrieve": Permission.SYSTEM_READ,
        "deliveries": Permission.SYSTEM_READ,
        "create": Permission.SYSTEM_UPDATE,
        "update": Permission.SYSTEM_UPDATE,
        "destroy": Permission.SYSTEM_UPDATE,
        "test": Permission.SYSTEM_UPDATE,
    }
    together = frozenset({"create", "update", "destroy"})
    queryset = Receiver.objects.select_related("owner")
    lookup_field = "name"
    lookup_value_regex = NAME
    serializer_class = ReceiverSerializer

    def _answer(self, receiver: Receiver, secret: str | None, *, status: int) -> Response:
        shown = self.get_serializer(receiver).data
        return Response({**shown, "secret": secret} if secret else shown, status=status)

    @extend_schema(request=NewReceiverSerializer, responses={201: ReceiverSerializer})
    def create(self, request: Request) -> Response:
        """Make one. A webhook's secret is made where none is given, and shown this once."""
        asked = _validated(NewReceiverSerializer, request)
        made, secret = receivers.create(**{"secret": None, **asked}, by=self.account())
        return self._answer(made, secret, status=201)

    @extend_schema(request=ReceiverChangeSerializer)
    def update(self, request: Request, name: str) -> Response:  # noqa: ARG002 (the route's word)
        """Change it; what is owed to it goes to the new target."""
        changed, secret = receivers.update(self.get_object(), **_validated(ReceiverChangeSerializer, request))
        return self._answer(changed, secret, status=200)

    @extend_schema(responses={204: None})
    def destroy(self, request: Request, name: str) -> Response:  # noqa: ARG002
        """Remove it; what is owed to it fails until it is given up."""
        receivers.delete(self.get_object())
        return Response(status=204)

    @extend_schema(request=None, responses=SentSerializer)
    @action(detail=True, methods=["post"])
    def test(self, request: Request, name: str) -> Response:  # noqa: ARG002
        """Send a test message now and say what happened."""
        error = notifications.send_test(self.get_object())
        return Response({"delivered": not error, "error": error or None})

    @extend_schema(responses=DeliverySerializer(many=True))
    @action(detail=True)
    def deliveries(self, request: Request, name: str) -> Response:  # noqa: ARG002
        """What it was to be told, newest first; also of a name that only definitions know."""
        rows = _owed_to(name)
        if not rows.exists() and not Receiver.objects.filter(name=name).exists():
            raise NotFound("there is no such receiver, and nothing is owed to it")
        page = self.paginate_queryset(rows.select_related("execution__workflow"))
        return self.get_paginated_response(DeliverySerializer(page, many=True).data)


def _owed_to(name: str) -> QuerySet[Notification]:
    return Notification.objects.filter(receiver_name=name)


def _validated(serializer: type[StrictSerializer], request: Request) -> dict[str, Any]:
    given = serializer(data=request.data)
    given.is_valid(raise_exception=True)
    return dict(given.validated_data)
