"""`/schedules`: what is started by the clock, and the way to fill in moments of the past."""

from datetime import datetime
from typing import Any

from django.db.models import QuerySet
from django_filters.filters import CharFilter
from django_filters.filterset import FilterSet
from django_filters.rest_framework.backends import DjangoFilterBackend
from drf_spectacular.utils import extend_schema, extend_schema_field
from rest_framework import mixins, serializers
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from apps.accounts.permissions import Permission, holds
from apps.core.api.viewsets import AUTHENTICATED, StrictSerializer
from apps.core.errors import Denied, NotFound
from apps.workflows.api.executions import UUID
from apps.workflows.api.gate import GatedViewSet
from apps.workflows.models import Schedule, Workflow
from apps.workflows.selectors.schedules import coming, preview
from apps.workflows.services import schedules


class ScheduleSerializer(serializers.ModelSerializer[Schedule]):
    """A schedule, and what became of its last moment."""

    workflow_id = serializers.CharField(source="workflow.slug", read_only=True)
    inputs = serializers.DictField(read_only=True)
    last_outcome = serializers.ChoiceField(
        choices=Schedule.Outcome.choices, read_only=True, allow_blank=True, help_text="What came of `last_at`."
    )
    owner = serializers.CharField(source="owner.username", default=None, read_only=True, allow_null=True)

    class Meta:
        model = Schedule
        fields = [
            "id", "workflow_id", "name", "cron", "timezone", "inputs", "priority", "catch_up", "overlap", "paused",
            "next_at", "last_at", "last_outcome", "last_error", "owner", "created_at", "updated_at",
        ]  # fmt: skip
        read_only_fields = fields


class ScheduleDetailSerializer(ScheduleSerializer):
    """A schedule with its next moments."""

    next_times = serializers.SerializerMethodField()

    class Meta(ScheduleSerializer.Meta):
        fields = [*ScheduleSerializer.Meta.fields, "next_times"]
        read_only_fields = fields

    @extend_schema_field(serializers.ListField(child=serializers.DateTimeField()))
    def get_next_times(self, schedule: Schedule) -> list[datetime]:
        """The next five; none while it is paused."""
        return coming(schedule)


class ScheduleChangeSerializer(StrictSerializer):
    """A schedule as it is to be; what is left out gets its default."""

    name = serializers.CharField(max_length=100)
    cron = serializers.CharField(max_length=200, help_text="Five fields, or a word such as `@daily`.")
    timezone = serializers.CharField(max_length=64, required=False, help_text="IANA name; default: UTC.")
    inputs = serializers.DictField(required=False, help_text="May hold `${scheduled_for}` and `${scheduled_date}`.")
    priority = serializers.IntegerField(
        required=False, allow_null=True, min_value=-1000, max_value=1000, help_text="Default: the definition's."
    )
    catch_up = serializers.ChoiceField(choices=Schedule.CatchUp.choices, required=False, help_text="Default: last.")
    overlap = serializers.ChoiceField(choices=Schedule.Overlap.choices, required=False, help_text="Default: skip.")
    paused = serializers.BooleanField(required=False)


class ScheduleCreateSerializer(ScheduleChangeSerializer):
    """A new schedule."""

    workflow_id = serializers.CharField(max_length=100)


class PreviewSerializer(StrictSerializer):
    """A cron expression to look at."""

    cron = serializers.CharField(max_length=200)
    timezone = serializers.CharField(max_length=64, default="UTC")


class TimesSerializer(serializers.Serializer[Any]):
    """Moments to come."""

    next_times = serializers.ListField(child=serializers.DateTimeField(), read_only=True)


class BackfillSerializer(StrictSerializer):
    """A time that has passed: `from` belongs to it, `until` does not."""

    until = serializers.DateTimeField()

    def get_fields(self) -> dict[str, Any]:
        """`from` is a word of Python's, so it cannot be declared as the others are."""
        return {"from": serializers.DateTimeField(), **super().get_fields()}


class MomentSerializer(serializers.Serializer[Any]):
    """A moment and its execution."""

    scheduled_for = serializers.DateTimeField(read_only=True)
    execution_id = serializers.UUIDField(source="pk", read_only=True)


class BackfilledSerializer(serializers.Serializer[Any]):
    """What was started, and what had been before."""

    started = MomentSerializer(many=True, read_only=True)
    already_there = MomentSerializer(many=True, read_only=True)


class ScheduleFilter(FilterSet):
    """`?workflow_id=`."""

    workflow_id = CharFilter(field_name="workflow__slug")

    class Meta:
        model = Schedule
        fields: list[str] = []


class ScheduleViewSet(mixins.ListModelMixin, mixins.RetrieveModelMixin, GatedViewSet):
    """Workflows started by the clock."""

    required_permissions = {
        "list": Permission.WORKFLOW_READ,
        "retrieve": Permission.WORKFLOW_READ,
        "create": Permission.WORKFLOW_EXECUTE,
        "update": Permission.WORKFLOW_EXECUTE,
        "destroy": Permission.WORKFLOW_EXECUTE,
        "pause": Permission.WORKFLOW_EXECUTE,
        "resume": Permission.WORKFLOW_EXECUTE,
        "backfill": Permission.WORKFLOW_EXECUTE,
        "preview": AUTHENTICATED,
    }
    gated_actions = frozenset(required_permissions) - {"preview"}
    untold = frozenset({"preview"})
    together = frozenset({"create", "update", "destroy", "pause", "resume"})
    queryset = Schedule.objects.none()
    lookup_field = "pk"
    lookup_url_kwarg = "id"
    lookup_value_regex = UUID
    filterset_class = ScheduleFilter
    filter_backends = [DjangoFilterBackend]

    def get_queryset(self) -> QuerySet[Schedule]:
        """What the caller may read."""
        rows = Schedule.objects.visible_to(self.request.user, Permission.WORKFLOW_READ)
        return rows.select_related("workflow", "owner")

    def get_serializer_class(self) -> Any:
        """One schedule is shown with its next moments."""
        return ScheduleSerializer if self.action == "list" else ScheduleDetailSerializer

    def _allowed(self) -> Schedule:
        """The schedule, which the caller may change: his own, or any with `system:update`."""
        schedule: Schedule = self.get_object()
        self.require(schedule, Permission.WORKFLOW_EXECUTE)
        if schedule.owner_id != self.account().pk and not holds(self.request.user, Permission.SYSTEM_UPDATE):
            raise Denied(f"`{schedule}` is another's: this needs the permission {Permission.SYSTEM_UPDATE.value}")
        return schedule

    def _shown(self, schedule: Schedule, status: int = 200) -> Response:
        return Response(self.get_serializer(schedule).data, status=status)

    @extend_schema(request=ScheduleCreateSerializer, responses={201: ScheduleDetailSerializer})
    def create(self, request: Request) -> Response:
        """Save a schedule, to be carried out as the caller; its inputs are checked as if it came now."""
        asked = _read(ScheduleCreateSerializer, request)
        visible = Workflow.objects.visible_to(request.user, Permission.WORKFLOW_READ)
        workflow = visible.filter(slug=asked.pop("workflow_id")).first()
        if workflow is None:
            raise NotFound("there is no such workflow, or you may not know of it")
        self.require(workflow, Permission.WORKFLOW_EXECUTE)
        return self._shown(schedules.create(workflow, schedules.Wanted(**asked), by=self.account()), 201)

    @extend_schema(request=ScheduleChangeSerializer)
    def update(self, request: Request, id: str) -> Response:  # noqa: A002, ARG002 (the route's word)
        """Make it as sent; another cron or time zone counts from now on."""
        schedule = self._allowed()
        asked = _read(ScheduleChangeSerializer, request)
        return self._shown(schedules.update(schedule, schedules.Wanted(**asked), by=self.account()))

    @extend_schema(responses={204: None})
    def destroy(self, request: Request, id: str) -> Response:  # noqa: A002, ARG002
        """Delete it; what it has started goes on."""
        schedules.delete(self._allowed())
        return Response(status=204)

    @extend_schema(request=None)
    @action(detail=True, methods=["post"])
    def pause(self, request: Request, id: str) -> Response:  # noqa: A002, ARG002
        """Start nothing more by it; what runs goes on."""
        return self._shown(schedules.pause(self._allowed()))

    @extend_schema(request=None)
    @action(detail=True, methods=["post"])
    def resume(self, request: Request, id: str) -> Response:  # noqa: A002, ARG002
        """Go on with the next moment from now; those of the pause are left out."""
        return self._shown(schedules.resume(self._allowed()))

    @extend_schema(request=BackfillSerializer, responses=BackfilledSerializer)
    @action(detail=True, methods=["post"], filterset_class=None)
    def backfill(self, request: Request, id: str) -> Response:  # noqa: A002, ARG002
        """Start each moment of a time that has passed, at most 500, once, as the caller; asking again is fine."""
        schedule = self._allowed()
        asked = _read(BackfillSerializer, request)
        done = schedules.backfill(schedule, since=asked["from"], until=asked["until"], by=self.account())
        return Response(BackfilledSerializer(done).data)

    @extend_schema(request=PreviewSerializer, responses=TimesSerializer)
    @action(detail=False, methods=["post"], filterset_class=None)
    def preview(self, request: Request) -> Response:
        """The next five moments of a cron expression; nothing is saved."""
        asked = _read(PreviewSerializer, request)
        return Response(TimesSerializer({"next_times": preview(asked["cron"], asked["timezone"])}).data)


def _read(kind: type[StrictSerializer], request: Request) -> dict[str, Any]:
    given = kind(data=request.data)
    given.is_valid(raise_exception=True)
    return dict(given.validated_data)
