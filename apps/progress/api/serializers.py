"""What progress takes and gives, as fields."""

import json
from typing import Any

from rest_framework import serializers

from apps.core.api.viewsets import StrictSerializer
from apps.workflows.engine.states import Status
from apps.workflows.services.trackers import MAX_MESSAGE, TrackerUpdate

MAX_METADATA = 16 * 1024  # bytes of JSON


class PercentField(serializers.FloatField):
    """A JSON number from 0 to 100: no text (DRF would take "nan"), no boolean (Python would take it for 1)."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(min_value=0, max_value=100, **kwargs)

    def to_internal_value(self, data: Any) -> float:
        """The number. Raises `ValidationError`."""
        if isinstance(data, bool) or not isinstance(data, int | float):
            self.fail("invalid")
        return float(super().to_internal_value(data))


class UpdateSerializer(StrictSerializer):
    """One report of `POST /progress/update`."""

    workflow_id = serializers.CharField(
        max_length=100, help_text="A tracker's id (a new one makes it), a workflow's id, or an execution's."
    )
    step_id = serializers.CharField(max_length=100, required=False, help_text="Without it the report is of the whole.")
    percent_complete = PercentField()
    status = serializers.ChoiceField(choices=[status.value for status in Status])
    message = serializers.CharField(max_length=MAX_MESSAGE, required=False, allow_blank=True, trim_whitespace=False)
    timestamp = serializers.DateTimeField(required=False, help_text="When it was so, by the reporter's clock.")
    metadata = serializers.JSONField(required=False, help_text="An object of at most 16 KiB, kept in the history.")
    restart = serializers.BooleanField(required=False, help_text="Begin anew a tracker whose last execution ended.")

    def validate_metadata(self, value: Any) -> Any:
        """An object of bounded size."""
        if not isinstance(value, dict):
            raise serializers.ValidationError("must be an object")
        if len(json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()) > MAX_METADATA:
            raise serializers.ValidationError(f"must be at most {MAX_METADATA:,} bytes of JSON")
        return value


def update_of(given: dict[str, Any]) -> TrackerUpdate:
    """Validated fields as the service takes them."""
    data: dict[str, Any] = {}
    if "timestamp" in given:
        data["timestamp"] = given["timestamp"].isoformat()
    if "metadata" in given:
        data["metadata"] = given["metadata"]
    return TrackerUpdate(
        workflow_id=given["workflow_id"],
        status=Status(given["status"]),
        percent=given["percent_complete"],
        step_id=given.get("step_id", ""),
        message=given.get("message"),
        data=data,
        restart=given.get("restart", False),
    )


class UpdatedSerializer(serializers.Serializer[Any]):
    """The answer to one report."""

    workflow_id = serializers.CharField()
    execution_id = serializers.UUIDField()
    status = serializers.CharField()
    percent_complete = serializers.FloatField()
    seq = serializers.IntegerField()


class HistorySerializer(serializers.Serializer[Any]):
    """A page of the journal."""

    results = serializers.ListField(child=serializers.DictField())
    next = serializers.CharField(allow_null=True)


class ItemsProgressSerializer(serializers.Serializer[Any]):
    """Where the items of a step with `for_each` are."""

    total = serializers.IntegerField()
    completed = serializers.IntegerField()
    failed = serializers.IntegerField()
    in_progress = serializers.IntegerField()


class StepProgressSerializer(serializers.Serializer[Any]):
    """Where a step is."""

    status = serializers.CharField()
    percent_complete = serializers.FloatField()
    message = serializers.CharField()
    attempt = serializers.IntegerField()
    started_at = serializers.DateTimeField(allow_null=True)
    finished_at = serializers.DateTimeField(allow_null=True)
    error = serializers.DictField(required=False)
    items = ItemsProgressSerializer(required=False)


class SnapshotSerializer(serializers.Serializer[Any]):
    """Where an execution is."""

    workflow_id = serializers.CharField()
    execution_id = serializers.UUIDField()
    status = serializers.CharField()
    percent_complete = serializers.FloatField()
    message = serializers.CharField()
    steps = serializers.DictField(child=StepProgressSerializer())
    started_at = serializers.DateTimeField(allow_null=True)
    updated_at = serializers.DateTimeField()
    finished_at = serializers.DateTimeField(allow_null=True)
    seq = serializers.IntegerField()
    total_steps = serializers.IntegerField()


class BlockedSerializer(serializers.Serializer[Any]):
    """An open step that waits for somebody, as `/tasks/{id}/why` tells it."""

    step_id = serializers.CharField()
    code = serializers.CharField()
    message = serializers.CharField()


class EstimateSerializer(serializers.Serializer[Any]):
    """When it will be done, as far as that can be said."""

    percent_complete = serializers.FloatField()
    estimated_completion_time = serializers.DateTimeField(allow_null=True)
    estimated_remaining_seconds = serializers.FloatField(allow_null=True)
    steps_total = serializers.IntegerField()
    steps_completed = serializers.IntegerField()
    steps_in_progress = serializers.IntegerField()
    steps_failed = serializers.IntegerField()
    steps_pending = serializers.IntegerField()
    p10 = serializers.FloatField(allow_null=True)
    p50 = serializers.FloatField(allow_null=True)
    p90 = serializers.FloatField(allow_null=True)
    method = serializers.CharField(allow_null=True)
    basis_executions = serializers.IntegerField()
    measured_coverage = serializers.FloatField(
        allow_null=True, help_text="The share of this workflow's past 80 % intervals that held."
    )
    blocked_by = BlockedSerializer(many=True)
    reason = serializers.CharField(allow_null=True)


class TicketSerializer(serializers.Serializer[Any]):
    """A single-use ticket for the socket."""

    ticket = serializers.CharField()
    expires_in = serializers.IntegerField()
