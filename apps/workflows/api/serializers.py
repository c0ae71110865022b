"""Rows as answers, and the few fields that requests have."""

from typing import Any, cast

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from apps.core.api.viewsets import StrictSerializer
from apps.workflows.engine.ids import ordinal_of
from apps.workflows.engine.states import Status
from apps.workflows.models import Event, Execution, LogChunk, Performer, Task, Workflow, WorkflowVersion
from apps.workflows.selectors.approvals import asked_of
from apps.workflows.selectors.logs import cursor_of
from apps.workflows.selectors.performers import Names
from apps.workflows.selectors.relations import actions_of, children, item_number


def names_of(serializer: serializers.BaseSerializer[Any]) -> Names:
    """How performers are called to the caller of the request that a serializer answers; asked once for all its rows."""
    context = cast("dict[str, Any]", serializer.context)
    if "names" not in context:
        context["names"] = Names(context["request"].user)
    return cast("Names", context["names"])


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


class PrioritySerializer(StrictSerializer):
    """Another priority."""

    priority = serializers.IntegerField(min_value=-1000, max_value=1000, help_text="Higher goes first.")


class ForkSerializer(StrictSerializer):
    """From where to begin anew."""

    step_id = serializers.CharField(
        max_length=110, trim_whitespace=False, help_text="A step, or one item of it: `load[3]`."
    )


class ApproveSerializer(StrictSerializer):
    """A yes."""

    form = serializers.DictField(required=False, help_text="What the approval asks for, as its `form` says.")
    reason = serializers.CharField(required=False, allow_blank=True, max_length=500)


class RejectSerializer(StrictSerializer):
    """A no."""

    reason = serializers.CharField(required=False, allow_blank=True, max_length=500)


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
    origin_id = serializers.UUIDField(read_only=True, allow_null=True, help_text="What it is a retry or fork of.")
    parent_execution_id = serializers.UUIDField(default=None, read_only=True, allow_null=True)
    parent_step_id = serializers.CharField(default=None, read_only=True, allow_null=True)
    schedule_id = serializers.UUIDField(read_only=True, allow_null=True)
    held = serializers.BooleanField(read_only=True, help_text="It waits for a limit on executions with its key.")
    concurrency_key = serializers.SerializerMethodField()
    cancel_requested_at = serializers.DateTimeField(
        read_only=True, allow_null=True, help_text="A stop was requested; `finished_at` confirms it."
    )
    allowed_actions = serializers.SerializerMethodField()

    class Meta:
        model = Execution
        fields = [
            "id", "workflow_id", "version", "status", "percent_complete", "message", "priority", "inputs", "outputs",
            "error", "trace_id", "trigger", "origin_id", "parent_execution_id", "parent_step_id", "schedule_id",
            "scheduled_for", "held", "concurrency_key", "requested_by", "created_at", "started_at", "finished_at",
            "cancel_requested_at", "seq", "allowed_actions",
        ]  # fmt: skip
        read_only_fields = fields

    def get_allowed_actions(self, execution: Execution) -> list[str]:
        """What may still be asked of it."""
        return list(actions_of(execution))

    def get_concurrency_key(self, execution: Execution) -> str | None:
        """With which executions of its workflow it is counted together; null where there is no limit."""
        return execution.concurrency_key.removeprefix("=") if execution.concurrency_key else None


class ChildSerializer(serializers.Serializer[Any]):
    """An execution that is a step of this one."""

    execution_id = serializers.UUIDField(read_only=True)
    workflow_id = serializers.CharField(read_only=True)
    step_id = serializers.CharField(read_only=True)
    status = serializers.CharField(read_only=True)


class ExecutionDetailSerializer(ExecutionSerializer):
    """One run of one version, with the first hundred executions that are steps of it."""

    children = serializers.SerializerMethodField()

    class Meta(ExecutionSerializer.Meta):
        fields = [*ExecutionSerializer.Meta.fields, "children"]
        read_only_fields = fields

    @extend_schema_field(ChildSerializer(many=True))
    def get_children(self, execution: Execution) -> Any:
        """Those that the caller may read."""
        return ChildSerializer(children(self.context["request"].user, execution), many=True).data


class ApprovalSerializer(serializers.Serializer[Any]):
    """What a task asks that waits for an approval."""

    who = serializers.ListField(child=serializers.CharField(), read_only=True, help_text="Roles or users.")
    allow_requester = serializers.BooleanField(read_only=True)
    form = serializers.DictField(read_only=True, help_text="JSON Schema of the form.")


class TaskSerializer(serializers.ModelSerializer[Task]):
    """One step inside one execution."""

    workflow_id = serializers.CharField(source="execution.workflow.slug", read_only=True)
    execution_id = serializers.UUIDField(read_only=True)
    status = serializers.ChoiceField(choices=[status.value for status in Status], read_only=True)
    attempt = serializers.IntegerField(source="fence", read_only=True, help_text="Number of the newest attempt.")
    percent_complete = serializers.FloatField(source="percent", read_only=True)
    performer = serializers.SerializerMethodField()
    item = serializers.SerializerMethodField()
    items = serializers.SerializerMethodField()
    approval = serializers.SerializerMethodField()
    outputs = serializers.SerializerMethodField()
    error = serializers.DictField(read_only=True, allow_null=True)

    class Meta:
        model = Task
        fields = [
            "id", "workflow_id", "execution_id", "step_id", "item", "items", "status", "queue", "waiting_for", "due_at",
            "approval", "attempt", "failures", "losses", "percent_complete", "message", "performer", "ready_at",
            "lease_expires_at", "started_at", "finished_at", "outputs", "error",
        ]  # fmt: skip
        read_only_fields = fields

    def get_performer(self, task: Task) -> str:
        """Who performs it, for those who may read such performers; `worker` or `agent` for others; empty: nobody."""
        return names_of(self).of(task.lease_owner)

    def get_item(self, task: Task) -> int | None:
        """The number of its item, from 0; null where it is no item's."""
        return item_number(ordinal_of(task.pk))

    def get_items(self, task: Task) -> int | None:
        """How many items the step has; null where it has no `for_each` or was not opened yet."""
        return task.items if task.waiting_for == "items" or task.items else None

    @extend_schema_field(ApprovalSerializer(allow_null=True))
    def get_approval(self, task: Task) -> Any:
        """What it asks; null where it waits for no approval."""
        asked = asked_of(task)
        return None if asked is None else ApprovalSerializer(asked).data

    @extend_schema_field({"type": "object", "additionalProperties": True})
    def get_outputs(self, task: Task) -> Any:
        """What it left behind."""
        return task.outputs or {}


class EventSerializer(serializers.ModelSerializer[Event]):
    """A line of the journal."""

    data = serializers.SerializerMethodField()  # type: ignore[assignment]  # the journal's word

    class Meta:
        model = Event
        fields = ["seq", "type", "step_id", "at", "data"]
        read_only_fields = fields

    @extend_schema_field({"type": "object", "additionalProperties": {}})
    def get_data(self, event: Event) -> Any:
        """What it says; performers by name for those who may read them, by kind for others."""
        return names_of(self).told(event.data)


class LogSerializer(serializers.ModelSerializer[LogChunk]):
    """A piece of what a step wrote."""

    step_id = serializers.CharField(source="task.step_id", read_only=True)
    attempt = serializers.IntegerField(source="fence", read_only=True)
    cursor = serializers.SerializerMethodField()

    class Meta:
        model = LogChunk
        fields = ["step_id", "attempt", "number", "stream", "text", "at", "cursor"]
        read_only_fields = fields

    def get_cursor(self, chunk: LogChunk) -> str:
        """Its place in the order of writing."""
        return cursor_of(chunk)


class ReasonSerializer(serializers.Serializer[Any]):
    """One reason why a task does not run; what else it holds depends on its code."""

    code = serializers.CharField(read_only=True)
    message = serializers.CharField(read_only=True)


class WhySerializer(serializers.Serializer[Any]):
    """Why a task does not run."""

    task_id = serializers.UUIDField(read_only=True)
    step_id = serializers.CharField(read_only=True)
    status = serializers.CharField(read_only=True)
    reasons = ReasonSerializer(many=True, read_only=True)


class WhyExecutionSerializer(serializers.Serializer[Any]):
    """Why the open tasks of an execution do not run."""

    execution_id = serializers.UUIDField(read_only=True)
    status = serializers.CharField(read_only=True)
    tasks = WhySerializer(many=True, read_only=True)
    more = serializers.IntegerField(read_only=True, help_text="Open tasks that are not explained here.")


class LaneSerializer(serializers.Serializer[Any]):
    """A queue together with what its steps ask of performers."""

    key = serializers.CharField(read_only=True)
    requires = serializers.ListField(child=serializers.CharField(), read_only=True)
    prefers = serializers.ListField(child=serializers.CharField(), read_only=True)
    ready = serializers.IntegerField(read_only=True)
    running = serializers.IntegerField(read_only=True)
    performers = serializers.ListField(child=serializers.CharField(), read_only=True)


class QueueSerializer(serializers.Serializer[Any]):
    """A queue."""

    name = serializers.CharField(read_only=True)
    paused = serializers.BooleanField(read_only=True)
    ready = serializers.IntegerField(read_only=True, help_text="Tasks that could be claimed.")
    running = serializers.IntegerField(read_only=True, help_text="Tasks under a lease.")
    performers = serializers.ListField(child=serializers.CharField(), read_only=True)
    lanes = LaneSerializer(many=True, read_only=True)


class WorkerSerializer(serializers.ModelSerializer[Performer]):
    """A performer."""

    kind = serializers.CharField(read_only=True, help_text="worker or agent")
    labels = serializers.DictField(read_only=True)
    queues = serializers.ListField(child=serializers.CharField(), read_only=True, allow_null=True)

    class Meta:
        model = Performer
        fields = ["name", "kind", "slots", "load", "labels", "queues", "draining", "started_at", "seen_at"]
        read_only_fields = fields
