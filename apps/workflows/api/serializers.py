"""Rows as answers, and the few fields that requests have."""

from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from apps.core.api.viewsets import StrictSerializer
from apps.workflows.engine.states import Status, allowed_actions
from apps.workflows.models import Event, Execution, LogChunk, Task, Workflow, WorkflowVersion


class WorkflowSerializer(serializers.ModelSerializer[Workflow]):
    """A workflow; its id is the slug."""

    id = serializers.CharField(source="slug", read_only=True)
    owner = serializers.CharField(source="owner.username", default=None, read_only=True, allow_null=True)
    version = serializers.IntegerField(source="version_number", read_only=True)
    tags = serializers.ListField(child=serializers.CharField(), read_only=True)

    class Meta:
        model = Workflow
        fields = ["id", "name", "kind", "description", "tags", "owner", "version", "created_at", "updated_at"]
        read_only_fields = fields


class WorkflowDetailSerializer(WorkflowSerializer):
    """A workflow with the definition of its newest version."""

    definition = serializers.SerializerMethodField()

    class Meta(WorkflowSerializer.Meta):
        fields = [*WorkflowSerializer.Meta.fields, "definition"]
        read_only_fields = fields

    @extend_schema_field({"type": "object", "additionalProperties": True})
    def get_definition(self, workflow: Workflow) -> Any:
        """As it was saved."""
        return workflow.versions.values_list("definition", flat=True).get(number=workflow.version_number)


class VersionSerializer(serializers.ModelSerializer[WorkflowVersion]):
    """One immutable version."""

    created_by = serializers.CharField(source="created_by.username", default=None, read_only=True, allow_null=True)
    definition = serializers.DictField(read_only=True)

    class Meta:
        model = WorkflowVersion
        fields = ["number", "definition", "checksum", "created_by", "created_at"]
        read_only_fields = fields


class ProblemSerializer(serializers.Serializer[Any]):
    """One mistake: where (a JSON pointer), its kind, and what to do."""

    pointer = serializers.CharField(read_only=True)
    code = serializers.CharField(read_only=True)
    message = serializers.CharField(read_only=True)


class ValidationSerializer(serializers.Serializer[Any]):
    """Whether a definition could be saved."""

    valid = serializers.BooleanField(read_only=True)
    errors = ProblemSerializer(many=True, read_only=True)  # type: ignore[assignment]  # an answer's word


class ExecuteSerializer(StrictSerializer):
    """What an execution is given."""

    inputs = serializers.DictField(required=False, help_text="Values for the definition's inputs.")
    priority = serializers.IntegerField(
        required=False, min_value=-1000, max_value=1000, help_text="Higher goes first; default: the definition's."
    )


class StartedSerializer(serializers.Serializer[Any]):
    """An execution that was accepted."""

    execution_id = serializers.UUIDField(read_only=True)
    workflow_id = serializers.CharField(read_only=True)
    status = serializers.ChoiceField(choices=[status.value for status in Status], read_only=True)


class TaskStartedSerializer(StartedSerializer):
    """An ad-hoc task that was accepted."""

    task_id = serializers.UUIDField(read_only=True)


class ExecutionSerializer(serializers.ModelSerializer[Execution]):
    """One run of one version."""

    workflow_id = serializers.CharField(source="workflow.slug", read_only=True)
    version = serializers.IntegerField(source="version.number", read_only=True)
    status = serializers.ChoiceField(choices=[status.value for status in Status], read_only=True)
    percent_complete = serializers.FloatField(source="percent", read_only=True)
    inputs = serializers.DictField(read_only=True)
    outputs = serializers.DictField(read_only=True, allow_null=True)
    error = serializers.DictField(read_only=True, allow_null=True)
    requested_by = serializers.CharField(source="requested_by.username", default=None, read_only=True, allow_null=True)
    allowed_actions = serializers.SerializerMethodField()

    class Meta:
        model = Execution
        fields = [
            "id", "workflow_id", "version", "status", "percent_complete", "message", "priority", "inputs", "outputs",
            "error", "trace_id", "requested_by", "created_at", "started_at", "finished_at", "cancel_requested_at",
            "seq", "allowed_actions",
        ]  # fmt: skip
        read_only_fields = fields

    def get_allowed_actions(self, execution: Execution) -> list[str]:
        """What may still be asked of it."""
        return list(
            allowed_actions(Status(execution.status), cancel_requested=execution.cancel_requested_at is not None)
        )


class TaskSerializer(serializers.ModelSerializer[Task]):
    """One step inside one execution."""

    workflow_id = serializers.CharField(source="execution.workflow.slug", read_only=True)
    execution_id = serializers.UUIDField(read_only=True)
    status = serializers.ChoiceField(choices=[status.value for status in Status], read_only=True)
    attempt = serializers.IntegerField(source="fence", read_only=True, help_text="Number of the newest attempt.")
    percent_complete = serializers.FloatField(source="percent", read_only=True)
    performer = serializers.CharField(source="lease_owner", read_only=True)
    outputs = serializers.SerializerMethodField()
    error = serializers.DictField(read_only=True, allow_null=True)

    class Meta:
        model = Task
        fields = [
            "id", "workflow_id", "execution_id", "step_id", "status", "queue", "attempt", "failures", "losses",
            "percent_complete", "message", "performer", "ready_at", "lease_expires_at", "started_at", "finished_at",
            "outputs", "error",
        ]  # fmt: skip
        read_only_fields = fields

    @extend_schema_field({"type": "object", "additionalProperties": True})
    def get_outputs(self, task: Task) -> Any:
        """What it left behind."""
        return task.outputs or {}


class EventSerializer(serializers.ModelSerializer[Event]):
    """A line of the journal."""

    data = serializers.DictField(read_only=True)  # type: ignore[assignment]  # the journal's word

    class Meta:
        model = Event
        fields = ["seq", "type", "step_id", "at", "data"]
        read_only_fields = fields


class LogSerializer(serializers.ModelSerializer[LogChunk]):
    """A piece of what a step wrote."""

    step_id = serializers.CharField(source="task.step_id", read_only=True)
    attempt = serializers.IntegerField(source="fence", read_only=True)

    class Meta:
        model = LogChunk
        fields = ["step_id", "attempt", "number", "stream", "text", "at"]
        read_only_fields = fields
