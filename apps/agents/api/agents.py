"""`/agents`: registering outside programs that claim tasks, and sharing them."""

from typing import Any
from uuid import UUID

from django.db.models import QuerySet
from django_filters.filters import BooleanFilter, CharFilter
from django_filters.filterset import FilterSet
from django_filters.rest_framework.backends import DjangoFilterBackend
from drf_spectacular.utils import OpenApiExample, extend_schema, extend_schema_view
from rest_framework import mixins
from rest_framework.request import Request
from rest_framework.response import Response

from apps.accounts.permissions import Permission
from apps.agents import selectors, services
from apps.agents.api import serializers
from apps.agents.models import SHARING, Agent
from apps.core.api.viewsets import StrictSerializer
from apps.workflows.api.gate import GatedViewSet
from apps.workflows.api.grants import WHO, GrantSerializer, SharedGrants

_NEW = OpenApiExample(
    "A reviewer with a GPU",
    value={"name": "reviewer-1", "labels": {"kind": "reviewer", "gpu": 1}, "slots": 2},
    request_only=True,
)


class AgentFilter(FilterSet):
    """`?search=` (a part of the name), `?disabled=`."""

    search = CharFilter(field_name="name", lookup_expr="icontains", max_length=80)
    disabled = BooleanFilter()

    class Meta:
        model = Agent
        fields: list[str] = []


class AgentViewSet(mixins.ListModelMixin, mixins.RetrieveModelMixin, GatedViewSet):
    """Registered agents."""

    required_permissions = {
        "list": Permission.AGENT_READ,
        "retrieve": Permission.AGENT_READ,
        "create": Permission.AGENT_CREATE,
        "partial_update": Permission.AGENT_UPDATE,
        "rotate": Permission.AGENT_UPDATE,
        "destroy": Permission.AGENT_DELETE,
    }
    gated_actions = frozenset(required_permissions) - {"create"}
    together = frozenset({"create", "partial_update", "rotate", "destroy"})
    queryset = Agent.objects.none()
    lookup_field = "pk"
    lookup_url_kwarg = "id"
    filterset_class = AgentFilter
    filter_backends = [DjangoFilterBackend]
    serializer_class = serializers.AgentSerializer

    def get_queryset(self) -> QuerySet[Agent]:
        """What the caller may read."""
        return selectors.visible_to(self.request.user, Permission.AGENT_READ)

    def _allowed(self) -> Agent:
        agent: Agent = self.get_object()
        self.require(agent, self.permission())
        return agent

    def _shown(self, agent: Agent) -> dict[str, Any]:
        return dict(self.get_serializer(self.get_queryset().filter(pk=agent.pk).first() or agent).data)

    @extend_schema(
        request=serializers.NewAgentSerializer, responses={201: serializers.AgentMadeSerializer}, examples=[_NEW]
    )
    def create(self, request: Request) -> Response:
        """Register one; its credential is in this answer and nowhere else."""
        given = _validated(serializers.NewAgentSerializer, request)
        agent, raw = services.register(
            given["name"], labels=given["labels"], slots=given["slots"], by=self.account()
        )  # fmt: skip
        return Response({**self._shown(agent), "token": raw}, status=201)

    @extend_schema(request=serializers.AgentChangeSerializer, responses=serializers.AgentSerializer)
    def partial_update(self, request: Request, id: UUID) -> Response:  # noqa: A002, ARG002 (the route's word)
        """Change its labels or slots, or disable it: then it is refused at once, and what it holds goes to others."""
        agent = self._allowed()
        changed = services.change(agent, _validated(serializers.AgentChangeSerializer, request))
        return Response(self._shown(changed))

    @extend_schema(request=None, responses=serializers.AgentMadeSerializer)
    def rotate(self, request: Request, id: UUID) -> Response:  # noqa: A002, ARG002
        """Give it a new credential, which is in this answer and nowhere else; the old one is refused at once."""
        agent, raw = services.rotate(self._allowed(), by=self.account())
        return Response({**self._shown(agent), "token": raw})

    @extend_schema(responses={204: None})
    def destroy(self, request: Request, id: UUID) -> Response:  # noqa: A002, ARG002
        """Remove it: it is refused at once, and what it holds goes to others."""
        services.remove(self._allowed())
        return Response(status=204)


@extend_schema_view(
    list=extend_schema(operation_id="agent_grants", responses=GrantSerializer(many=True)),
    update=extend_schema(operation_id="agent_grant", request=serializers.AgentGrantSerializer),
    destroy=extend_schema(operation_id="agent_grant_destroy", parameters=WHO, responses={204: None}),
)
class AgentGrantViewSet(SharedGrants):
    """Grants on one agent."""

    queryset = Agent.objects.none()
    kind = SHARING
    change_serializer = serializers.AgentGrantSerializer


def _validated(serializer: type[StrictSerializer], request: Request) -> dict[str, Any]:
    given = serializer(data=request.data)
    given.is_valid(raise_exception=True)
    return dict(given.validated_data)
