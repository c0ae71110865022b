"""`/secrets`: write-only. Names and who may use them are told; a value is given to steps and to nobody else."""

from typing import Any

from django.db.models import QuerySet
from drf_spectacular.utils import extend_schema
from rest_framework import mixins, serializers
from rest_framework.request import Request
from rest_framework.response import Response

from apps.accounts.permissions import Permission
from apps.core.api.viewsets import AUTHENTICATED, StrictSerializer
from apps.vault.models import Secret
from apps.vault.secrets import MAX_VALUE, NAME
from apps.workflows.api.gate import GatedViewSet
from apps.workflows.selectors.secrets import visible_to
from apps.workflows.services import secrets

MOST_SHARED = 100


class SecretSerializer(serializers.ModelSerializer[Secret]):
    """A secret, without its value."""

    owner = serializers.CharField(source="owner.username", default=None, read_only=True, allow_null=True)
    roles = serializers.ListField(child=serializers.CharField(), read_only=True)
    users = serializers.SerializerMethodField()

    class Meta:
        model = Secret
        fields = ["name", "description", "owner", "roles", "users", "created_at", "updated_at", "value_at"]
        read_only_fields = fields

    def get_users(self, secret: Secret) -> list[str]:
        """Names of the accounts that it is shared with."""
        return sorted(user.get_username() for user in secret.users.all())


class SecretChangeSerializer(StrictSerializer):
    """What may be changed; what is not given stays."""

    value = serializers.CharField(
        trim_whitespace=False, max_length=MAX_VALUE, write_only=True, required=False, style={"input_type": "password"},
        help_text="What steps are given; nothing shows it again.",
    )  # fmt: skip
    description = serializers.CharField(max_length=500, required=False, allow_blank=True)
    roles = serializers.ListField(
        child=serializers.CharField(max_length=150), max_length=MOST_SHARED, required=False,
        help_text="Names of roles; what their accounts save may use it.",
    )  # fmt: skip
    users = serializers.ListField(
        child=serializers.CharField(max_length=150), max_length=MOST_SHARED, required=False,
        help_text="Names of accounts; what they save may use it.",
    )  # fmt: skip


class NewSecretSerializer(SecretChangeSerializer):
    """A new secret."""

    name = serializers.RegexField(f"^{NAME}\\Z", help_text="As definitions name it: `${secrets.NAME}`.")
    value = serializers.CharField(
        trim_whitespace=False, max_length=MAX_VALUE, write_only=True, style={"input_type": "password"},
        help_text="What steps are given; nothing shows it again.",
    )  # fmt: skip


class SecretViewSet(mixins.ListModelMixin, mixins.RetrieveModelMixin, GatedViewSet):
    """Secrets that the caller may use."""

    required_permissions = {
        "list": AUTHENTICATED,
        "retrieve": AUTHENTICATED,
        "create": Permission.WORKFLOW_CREATE,
        "update": AUTHENTICATED,
        "destroy": AUTHENTICATED,
    }
    together = frozenset({"create", "update", "destroy"})
    queryset = Secret.objects.none()
    lookup_field = "name"
    lookup_value_regex = "[A-Za-z0-9_-]+"
    serializer_class = SecretSerializer

    def get_queryset(self) -> QuerySet[Secret]:
        """What the caller may know of."""
        return visible_to(self.request.user).select_related("owner").prefetch_related("users")

    @extend_schema(request=NewSecretSerializer, responses={201: SecretSerializer})
    def create(self, request: Request) -> Response:
        """Make one, owned by the caller: what he saves may use it, and so may those it is shared with."""
        made = secrets.create(**_validated(NewSecretSerializer, request), by=self.account())
        return Response(self.get_serializer(made).data, status=201)

    @extend_schema(request=SecretChangeSerializer)
    def update(self, request: Request, name: str) -> Response:  # noqa: ARG002 (the route's word)
        """Replace its value, or change who may use it: its owner, or `system:admin`. What runs keeps the old one."""
        changes = _validated(SecretChangeSerializer, request)
        changed = secrets.update(self.get_object(), by=self.account(), **changes)
        return Response(self.get_serializer(changed).data)

    @extend_schema(responses={204: None})
    def destroy(self, request: Request, name: str) -> Response:  # noqa: ARG002
        """Remove it: its owner, or `system:admin`. Steps that ask for it from now on fail."""
        secrets.delete(self.get_object(), by=self.account())
        return Response(status=204)


def _validated(serializer: type[StrictSerializer], request: Request) -> dict[str, Any]:
    given = serializer(data=request.data)
    given.is_valid(raise_exception=True)
    return dict(given.validated_data)
