"""`/circuit-breakers`: what keeps steps in line while a dependency of theirs is down."""

from typing import Any, cast

from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from apps.accounts.models import User
from apps.accounts.permissions import Permission
from apps.core.api.viewsets import GenericViewSet, StrictSerializer
from apps.core.errors import NotFound
from apps.workflows.api.idempotency import Idempotent
from apps.workflows.engine.breaker import Policy, State
from apps.workflows.selectors.breakers import breakers_now, moves_of
from apps.workflows.services import breakers

NAME = OpenApiParameter("name", str, "path", description="The breaker's name.")
DAY = 86_400


class BreakerPolicySerializer(StrictSerializer):
    """Thresholds."""

    failures = serializers.IntegerField(min_value=1, max_value=10_000, help_text="It opens after so many failures …")
    ratio = serializers.FloatField(min_value=0.001, max_value=1, help_text="… that are at least this share of calls …")
    window_seconds = serializers.FloatField(min_value=1, max_value=DAY, help_text="… within so many seconds.")
    open_seconds = serializers.FloatField(min_value=1, max_value=DAY, help_text="A probe is let through after so many.")


class BreakerFixedSerializer(StrictSerializer):
    """What a definition may not change: thresholds of an administrator's, or null to give them back."""

    policy = BreakerPolicySerializer(allow_null=True)


class BreakerOpenSerializer(StrictSerializer):
    """Opening by hand."""

    seconds = serializers.FloatField(
        min_value=1, max_value=30 * DAY, required=False, allow_null=True, default=None,
        help_text="When a probe is let through; without it the breaker stays open until it is reset.",
    )  # fmt: skip
    note = serializers.CharField(max_length=200, required=False, allow_blank=True, default="", help_text="Why.")


class BreakerResetSerializer(StrictSerializer):
    """Closing by hand."""

    note = serializers.CharField(max_length=200, required=False, allow_blank=True, default="", help_text="Why.")


class BreakerTotalsSerializer(serializers.Serializer[Any]):
    """Calls since the breaker was made."""

    success = serializers.IntegerField(read_only=True)
    failure = serializers.IntegerField(read_only=True)
    refused = serializers.IntegerField(read_only=True, help_text="Claims of steps that it kept in line.")


class BreakerMovesSerializer(serializers.Serializer[Any]):
    """How often it came to each state since it was made."""

    closed = serializers.IntegerField(read_only=True)
    open = serializers.IntegerField(read_only=True)
    half_open = serializers.IntegerField(read_only=True)


class BreakerSerializer(serializers.Serializer[Any]):
    """A circuit breaker."""

    name = serializers.CharField(read_only=True)
    state = serializers.ChoiceField(choices=[state.value for state in State], read_only=True)
    since = serializers.DateTimeField(read_only=True, help_text="Since when it is in this state.")
    reason = serializers.CharField(read_only=True, help_text="Of its last move; empty before the first.")
    probe_at = serializers.DateTimeField(read_only=True, allow_null=True, help_text="When a probe is let through.")
    calls = serializers.IntegerField(read_only=True, help_text="Of its window.")
    failures = serializers.IntegerField(read_only=True, help_text="Of these calls.")
    failure_ratio = serializers.FloatField(read_only=True, help_text="0 to 1.")
    error_type = serializers.CharField(read_only=True, help_text="Of the last call that failed.")
    policy = BreakerPolicySerializer(read_only=True)
    fixed = serializers.BooleanField(read_only=True, help_text="Whether definitions leave its thresholds alone.")
    calls_total = BreakerTotalsSerializer(read_only=True)
    moves_total = BreakerMovesSerializer(read_only=True)
    used_at = serializers.DateTimeField(read_only=True, help_text="When a call was last counted.")


class BreakerMoveSerializer(serializers.Serializer[Any]):
    """One move of a breaker."""

    at = serializers.DateTimeField(read_only=True)
    to_state = serializers.CharField(read_only=True)
    reason = serializers.CharField(read_only=True)
    by = serializers.CharField(read_only=True, help_text="Who asked for it; empty where calls did.")
    note = serializers.CharField(read_only=True)


class BreakerDetailSerializer(BreakerSerializer):
    """A circuit breaker with its last moves."""

    moves = BreakerMoveSerializer(many=True, read_only=True)


class BreakerViewSet(Idempotent, GenericViewSet):
    """Circuit breakers, shared by name over all workflows and processes."""

    required_permissions = {
        "list": Permission.MONITORING_READ,
        "retrieve": Permission.MONITORING_READ,
        "update": Permission.MONITORING_UPDATE,
        "open": Permission.MONITORING_UPDATE,
        "reset": Permission.MONITORING_UPDATE,
    }
    together = frozenset({"update", "open", "reset"})
    lookup_url_kwarg = "name"
    lookup_value_regex = "[^/]+"
    pagination_class = None
    serializer_class = BreakerSerializer

    @extend_schema(responses=BreakerSerializer(many=True))
    def list(self, request: Request) -> Response:  # noqa: ARG002
        """Each breaker: its state, its thresholds, and what it has counted."""
        return Response([_data(one) for one in breakers_now()])

    @extend_schema(parameters=[NAME], responses=BreakerDetailSerializer)
    def retrieve(self, request: Request, name: str) -> Response:  # noqa: ARG002
        """One breaker with its last 50 moves."""
        return Response(_detail(name))

    @extend_schema(parameters=[NAME], request=BreakerFixedSerializer, responses=BreakerDetailSerializer)
    def update(self, request: Request, name: str) -> Response:
        """Fix its thresholds, whatever definitions say; with `policy: null` give them back to the definitions."""
        given = BreakerFixedSerializer(data=request.data)
        given.is_valid(raise_exception=True)
        policy = given.validated_data["policy"]
        breakers.fix(name, None if policy is None else Policy(**policy))
        return Response(_detail(name))

    @extend_schema(parameters=[NAME], request=BreakerOpenSerializer, responses=BreakerDetailSerializer)
    @action(detail=True, methods=["post"])
    def open(self, request: Request, name: str) -> Response:
        """Let no step through that names it; what runs goes on."""
        given = BreakerOpenSerializer(data=request.data)
        given.is_valid(raise_exception=True)
        breakers.open_(name, by=cast("User", request.user), **given.validated_data)
        return Response(_detail(name))

    @extend_schema(parameters=[NAME], request=BreakerResetSerializer, responses=BreakerDetailSerializer)
    @action(detail=True, methods=["post"])
    def reset(self, request: Request, name: str) -> Response:
        """Close it with nothing counted; the steps that it kept in line may start at once."""
        given = BreakerResetSerializer(data=request.data)
        given.is_valid(raise_exception=True)
        breakers.reset(name, by=cast("User", request.user), **given.validated_data)
        return Response(_detail(name))


def _data(one: Any) -> dict[str, Any]:
    return dict(BreakerSerializer(one).data)


def _detail(name: str) -> dict[str, Any]:
    found = breakers_now(name)
    if not found:
        raise NotFound(f"there is no circuit breaker `{name[:64]}`: it is there once a saved definition names it")
    return {**_data(found[0]), "moves": BreakerMoveSerializer(moves_of(name), many=True).data}
