"""`/queues` and `/workers`: where tasks stand in line, and who takes them."""

from typing import Any

from django.db.models import QuerySet
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import mixins
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from apps.accounts.permissions import Permission
from apps.core.api.viewsets import GenericViewSet
from apps.workflows.api import serializers
from apps.workflows.api.idempotency import Idempotent
from apps.workflows.models import Performer
from apps.workflows.selectors.performers import Names
from apps.workflows.selectors.queues import queues_now
from apps.workflows.services import queues

NAME = OpenApiParameter("name", str, "path", description="The queue's name.")


class QueueViewSet(Idempotent, GenericViewSet):
    """Names by which workers choose steps."""

    required_permissions = {
        "list": Permission.SYSTEM_READ,
        "pause": Permission.SYSTEM_UPDATE,
        "resume": Permission.SYSTEM_UPDATE,
    }
    together = frozenset({"pause", "resume"})
    lookup_url_kwarg = "name"
    lookup_value_regex = "[^/]+"
    pagination_class = None
    serializer_class = serializers.QueueSerializer

    @extend_schema(responses=serializers.QueueSerializer(many=True))
    def list(self, request: Request) -> Response:
        """Each queue with its lanes: whether it is paused, what is ready and runs, and which performers serve it."""
        return Response(self.get_serializer(queues_now(request.user), many=True).data)

    @extend_schema(request=None, parameters=[NAME])
    @action(detail=True, methods=["post"])
    def pause(self, request: Request, name: str) -> Response:  # noqa: ARG002
        """Have nobody take from it; what runs goes on. 404 where no definition names it."""
        return self._paused(name, paused=True)

    @extend_schema(request=None, parameters=[NAME])
    @action(detail=True, methods=["post"])
    def resume(self, request: Request, name: str) -> Response:  # noqa: ARG002
        """Have performers take from it again."""
        return self._paused(name, paused=False)

    def _paused(self, name: str, *, paused: bool) -> Response:
        queues.pause(name, paused=paused)
        (queue,) = queues_now(self.request.user, name)
        return Response(self.get_serializer(queue).data)


class WorkerViewSet(mixins.ListModelMixin, GenericViewSet):
    """Performers: workers of ours and agents, and when each was last heard of."""

    required_permissions = {"list": Permission.SYSTEM_READ}
    queryset = Performer.objects.none()
    serializer_class = serializers.WorkerSerializer

    def get_queryset(self) -> QuerySet[Performer]:
        """Workers, and agents with `agent:read`; those silent for an hour are left out."""
        return Performer.objects.filter(kind__in=Names(self.request.user).kinds)

    def list(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Each performer: its slots and load, labels, queues, whether it drains, and when it was last heard of."""
        self.paginator.ordering = "pk"  # type: ignore[union-attr]  # its name
        return super().list(request, *args, **kwargs)
