"""What requests about agents say, and what they are answered."""

from typing import Any

from rest_framework import serializers

from apps.agents.models import MOST_SLOTS, NAME, SHARING, Agent
from apps.core.api.viewsets import StrictSerializer
from apps.workflows.api.grants import GrantChangeSerializer
from apps.workflows.engine.labels import LABELS, LabelError, parse

MOST_LABEL = 200  # characters of a label's text
MOST_LINES = 1000  # log lines of one request
MOST_LINE = 16_384
MOST_MESSAGE = 1000
MOST_ERROR = 2000
MOST_WAIT = 60.0
_BEYOND = 2**63


def labels_of(value: Any) -> dict[str, Any]:
    """Labels, by the grammar of `requires`. Raises `ValidationError`."""
    if not isinstance(value, dict):
        raise serializers.ValidationError('must be an object: {"gpu": 1, "region": "eu", "ssd": true}')
    if len(value) > LABELS:
        raise serializers.ValidationError(f"an agent may have {LABELS} labels")
    for name, label in value.items():
        _check_name(name)
        if isinstance(label, str) and (len(label) > MOST_LABEL or not label.isprintable()):
            raise serializers.ValidationError(f"`{name}`: at most {MOST_LABEL} printable characters")
        if not isinstance(label, str | int | float | bool):
            raise serializers.ValidationError(f"`{name}` must be text, a number, true or false")
    return value


def _check_name(name: str) -> None:
    try:
        found = parse(name)
    except LabelError as error:
        raise serializers.ValidationError(f"a name is no label: {error.message}") from None
    if found.operator != "has" or found.name != name:
        raise serializers.ValidationError("a name is no label: letters, digits and `_./-`, a letter first")


class LabelsField(serializers.DictField):
    """What it can do, for `requires`: names with text, numbers, true or false."""

    def to_internal_value(self, data: Any) -> Any:
        """The labels as they are given."""
        return labels_of(data)


class AgentSerializer(serializers.ModelSerializer[Agent]):
    """A registered agent; `seen_at` and `load` are null until it is heard of, and an hour after it fell silent."""

    labels = serializers.DictField(read_only=True)
    owner = serializers.CharField(source="owner.username", default=None, read_only=True, allow_null=True)
    token_expires_at = serializers.DateTimeField(
        source="token.expires_at", default=None, read_only=True, allow_null=True
    )
    load = serializers.IntegerField(default=None, read_only=True, allow_null=True, help_text="Slots in use.")
    seen_at = serializers.DateTimeField(default=None, read_only=True, allow_null=True)

    class Meta:
        model = Agent
        fields = [
            "id", "name", "labels", "slots", "disabled", "owner", "load", "seen_at", "token_expires_at", "created_at",
            "updated_at",
        ]  # fmt: skip
        read_only_fields = fields


class AgentMadeSerializer(AgentSerializer):
    """An agent with its new credential, this once."""

    token = serializers.CharField(read_only=True)

    class Meta(AgentSerializer.Meta):
        fields = [*AgentSerializer.Meta.fields, "token"]
        read_only_fields = fields


class AgentChangeSerializer(StrictSerializer):
    """What may be changed; what is not given stays."""

    labels = LabelsField(required=False, help_text="What it can do; steps ask for it by `requires`.")
    slots = serializers.IntegerField(
        min_value=1, max_value=MOST_SLOTS, required=False, help_text="Tasks that it may hold at a time."
    )
    disabled = serializers.BooleanField(required=False, help_text="It is refused, and what it holds goes to others.")


class NewAgentSerializer(StrictSerializer):
    """A new agent."""

    name = serializers.RegexField(
        rf"^{NAME}\Z", max_length=80, help_text="Letters, digits and `_.-`; it never changes."
    )
    labels = LabelsField(default=dict, help_text="What it can do; steps ask for it by `requires`.")
    slots = serializers.IntegerField(
        min_value=1, max_value=MOST_SLOTS, default=1, help_text="Tasks that it may hold at a time."
    )


class AgentGrantSerializer(GrantChangeSerializer):
    """Who shall be able to do what with it: exactly these, and no grant where the list is empty."""

    permissions = serializers.ListField(
        child=serializers.ChoiceField(choices=SHARING.verbs), max_length=len(SHARING.verbs)
    )


# --- the protocol -----------------------------------------------------------------------------------------------------


class ClaimSerializer(StrictSerializer):
    """How many tasks an agent would take, and how long it waits for the first."""

    max = serializers.IntegerField(min_value=1, max_value=MOST_SLOTS, default=1)
    wait_seconds = serializers.FloatField(min_value=0, max_value=MOST_WAIT, default=30.0)


class ClaimedTaskSerializer(serializers.Serializer[Any]):
    """A task that is the agent's until `lease_expires_at`; heartbeats move that moment."""

    task_id = serializers.UUIDField(read_only=True)
    attempt = serializers.IntegerField(read_only=True, source="fence", help_text="Named in every report about it.")
    lease_expires_at = serializers.DateTimeField(read_only=True)
    workflow_id = serializers.CharField(read_only=True, source="workflow_slug")
    execution_id = serializers.UUIDField(read_only=True)
    step_id = serializers.CharField(read_only=True)
    inputs = serializers.DictField(read_only=True, source="config", help_text="The step's `with`, resolved.")


class ClaimsSerializer(serializers.Serializer[Any]):
    """What was claimed; empty where nothing came in time."""

    tasks = ClaimedTaskSerializer(many=True, read_only=True)


class NamedTaskSerializer(StrictSerializer):
    """A task that the agent has."""

    task_id = serializers.UUIDField()
    attempt = serializers.IntegerField(min_value=1, max_value=_BEYOND - 1)


class HeartbeatSerializer(StrictSerializer):
    """All that the agent has: what is not named here is not its own any more."""

    tasks = serializers.ListField(child=NamedTaskSerializer(), max_length=MOST_SLOTS)
    load = serializers.IntegerField(
        min_value=0, max_value=MOST_SLOTS, required=False, help_text="Slots in use; left out: one for each task."
    )


class BeatSerializer(serializers.Serializer[Any]):
    """Which of them to stop and then to fail or complete, and which are not the agent's any more."""

    cancel = serializers.ListField(child=serializers.UUIDField(), read_only=True)
    lost = serializers.ListField(child=serializers.UUIDField(), read_only=True)
    lease_expires_at = serializers.DateTimeField(read_only=True)


class AttemptSerializer(StrictSerializer):
    """Every report names the attempt it is of."""

    attempt = serializers.IntegerField(min_value=1, max_value=_BEYOND - 1)


class ProgressSerializer(AttemptSerializer):
    """How far it is."""

    percent_complete = serializers.FloatField(min_value=0, max_value=100)
    message = serializers.CharField(max_length=MOST_MESSAGE, allow_blank=True, default="")


class CompleteSerializer(AttemptSerializer):
    """It is done."""

    outputs = serializers.JSONField(default=dict, help_text="A JSON object: what other steps may read.")


class FailSerializer(AttemptSerializer):
    """It failed."""

    error = serializers.CharField(max_length=MOST_ERROR, help_text="Why, for people.")
    retryable = serializers.BooleanField(default=True, help_text="Whether another attempt might succeed.")


class LineSerializer(StrictSerializer):
    """A piece of the attempt's log."""

    number = serializers.IntegerField(
        min_value=1, max_value=2**31 - 1, help_text="From 1 within the attempt; one sent twice is kept once."
    )
    stream = serializers.ChoiceField(choices=("stdout", "stderr"), default="stdout")
    text = serializers.CharField(max_length=MOST_LINE, trim_whitespace=False, allow_blank=True)


class LogsSerializer(AttemptSerializer):
    """What it wrote."""

    lines = serializers.ListField(child=LineSerializer(), min_length=1, max_length=MOST_LINES)


class FileSerializer(AttemptSerializer):
    """Which file of which attempt, in the query."""

    name = serializers.CharField(max_length=255)

    def validate_name(self, name: str) -> str:
        """A name that is a place within the attempt."""
        parts = name.split("/")
        if not name.isprintable() or any(part in ("", ".", "..") for part in parts):
            raise serializers.ValidationError("must be a name such as `report.pdf` or `plots/one.png`")
        return name


class RecordedSerializer(serializers.Serializer[Any]):
    """`recorded`: by this request; false where it was recorded before."""

    recorded = serializers.BooleanField(read_only=True)
