"""`/audit`: who did what, newest first."""

from typing import Any

from django.db.models import Q, QuerySet
from django_filters.filters import CharFilter, ChoiceFilter, IsoDateTimeFilter
from django_filters.filterset import FilterSet
from django_filters.rest_framework.backends import DjangoFilterBackend
from drf_spectacular.utils import extend_schema, extend_schema_field
from rest_framework import mixins, serializers
from rest_framework.request import Request
from rest_framework.response import Response

from apps.accounts.audit.models import AuditEntry
from apps.accounts.permissions import Permission
from apps.core.api.pagination import CursorPagination
from apps.core.api.viewsets import GenericViewSet


class ActorSerializer(serializers.Serializer[Any]):
    """Who acted."""

    kind = serializers.ChoiceField(choices=AuditEntry.Kind.choices, source="actor_kind")
    id = serializers.CharField(source="actor_id")
    name = serializers.CharField(source="actor_name")


class ObjectSerializer(serializers.Serializer[Any]):
    """What it was about."""

    type = serializers.CharField(source="object_type")
    id = serializers.CharField(source="object_id")
    name = serializers.CharField(source="object_name")


@extend_schema_field({"type": ["object", "null"], "additionalProperties": {}})
class _Told(serializers.JSONField):
    """Rights and names, before or after."""


class AuditEntrySerializer(serializers.ModelSerializer[AuditEntry]):
    """One entry of the audit log."""

    actor = ActorSerializer(source="*", read_only=True)
    object = ObjectSerializer(source="*", read_only=True)
    before = _Told(read_only=True)
    after = _Told(read_only=True)

    class Meta:
        model = AuditEntry
        fields = [
            "seq", "at", "actor", "address", "request_id", "action", "object", "outcome", "before", "after", "previous",
            "hash",
        ]  # fmt: skip
        read_only_fields = fields


class AuditFilter(FilterSet):
    """`?actor=` and `?object=` (name or id), `?action=` (`workflow.` is every one of workflows), `?outcome=`, time."""

    actor = CharFilter(method="by")
    action = CharFilter(method="of_action")
    object = CharFilter(method="about")
    object_type = CharFilter()
    outcome = ChoiceFilter(choices=AuditEntry.Outcome.choices)
    since = IsoDateTimeFilter(field_name="at", lookup_expr="gte")
    until = IsoDateTimeFilter(field_name="at", lookup_expr="lt")

    class Meta:
        model = AuditEntry
        fields: list[str] = []

    def by(self, rows: QuerySet[AuditEntry], _name: str, actor: str) -> QuerySet[AuditEntry]:
        """What this account or command did."""
        return rows.filter(Q(actor_name=actor) | Q(actor_id=actor))

    def of_action(self, rows: QuerySet[AuditEntry], _name: str, action: str) -> QuerySet[AuditEntry]:
        """This action; with a dot at its end every action of the noun before it."""
        return rows.filter(action__startswith=action) if action.endswith(".") else rows.filter(action=action)

    def about(self, rows: QuerySet[AuditEntry], _name: str, thing: str) -> QuerySet[AuditEntry]:
        """What was done to this."""
        return rows.filter(Q(object_id=thing) | Q(object_name=thing))


class AuditPagination(CursorPagination):
    """By the number of the entry."""

    ordering = "-pk"


class AuditViewSet(mixins.ListModelMixin, GenericViewSet):
    """The audit log."""

    required_permissions = {"list": Permission.SYSTEM_READ}
    queryset = AuditEntry.objects.all()
    serializer_class = AuditEntrySerializer
    pagination_class = AuditPagination
    filterset_class = AuditFilter
    filter_backends = [DjangoFilterBackend]

    @extend_schema(operation_id="audit_list")
    def list(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Who did what to what, newest first; `manage.py audit_verify` checks that nothing was changed."""
        return super().list(request, *args, **kwargs)
