"""The shapes of what alerts, rules, silences and runbooks answer and take."""

from datetime import timedelta
from typing import Any

from rest_framework import serializers

from apps.core.api.viewsets import StrictSerializer
from apps.core.clock import database_now
from apps.workflows.definition.patterns import objection

LONGEST = timedelta(days=366)


class AlertSerializer(serializers.Serializer[Any]):
    """One alert for one set of labels. `source` says who evaluated it."""

    name = serializers.CharField()
    state = serializers.ChoiceField(choices=["pending", "firing", "silenced"])
    severity = serializers.CharField(allow_blank=True)
    labels = serializers.DictField(child=serializers.CharField())
    annotations = serializers.DictField(child=serializers.CharField())
    value = serializers.FloatField(allow_null=True)
    active_at = serializers.CharField()
    fingerprint = serializers.CharField()
    silenced_by = serializers.ListField(child=serializers.CharField())
    source = serializers.ListField(  # type: ignore[assignment]
        child=serializers.ChoiceField(choices=["embedded", "alertmanager"])
    )


class AlertsSerializer(serializers.Serializer[Any]):
    """Current alerts; `upstream_error` says why the Alertmanager's are missing."""

    alerts = AlertSerializer(many=True)
    source = serializers.ChoiceField(choices=["embedded", "alertmanager"])  # type: ignore[assignment]
    evaluated_at = serializers.CharField()
    upstream_error = serializers.CharField(allow_null=True)


class RuleSerializer(serializers.Serializer[Any]):
    """A rule, as the rules' file has it."""

    name = serializers.CharField()
    group = serializers.CharField()
    severity = serializers.CharField()
    expr = serializers.CharField()
    for_seconds = serializers.IntegerField()
    summary = serializers.CharField()
    description = serializers.CharField()
    runbook = serializers.CharField()
    state = serializers.ChoiceField(choices=["inactive", "pending", "firing"])


class RulesSerializer(serializers.Serializer[Any]):
    """All rules."""

    rules = RuleSerializer(many=True)


class MatcherSerializer(StrictSerializer):
    """A label and what it must be; with `is_equal: false`, must not be."""

    name = serializers.RegexField(r"^[a-zA-Z_][a-zA-Z0-9_]{0,99}\Z")
    value = serializers.CharField(max_length=256, allow_blank=True)
    is_regex = serializers.BooleanField(default=False)
    is_equal = serializers.BooleanField(default=True)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        """A pattern must be one that keeps nobody busy."""
        if attrs["is_regex"] and (why := objection(attrs["value"])):
            raise serializers.ValidationError({"value": why})
        return attrs


class NewSilenceSerializer(StrictSerializer):
    """Which alerts to silence, and how long."""

    matchers = MatcherSerializer(many=True, allow_empty=False)
    starts_at = serializers.DateTimeField(required=False, help_text="Now where it is not given.")
    ends_at = serializers.DateTimeField()
    comment = serializers.CharField(max_length=1000)

    def validate_matchers(self, value: list[Any]) -> list[Any]:
        """Bounded."""
        if len(value) > 20:
            raise serializers.ValidationError("give at most 20 matchers")
        return value

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        """It must end, and after it began."""
        now = database_now()
        attrs.setdefault("starts_at", now)
        if attrs["ends_at"] <= max(attrs["starts_at"], now):
            raise serializers.ValidationError({"ends_at": "give a time after now and after starts_at"})
        if attrs["ends_at"] - now > LONGEST:
            raise serializers.ValidationError({"ends_at": "give a time within a year"})
        return attrs


class SilenceSerializer(serializers.Serializer[Any]):
    """A silence. `created_by` is whoever made it."""

    id = serializers.CharField()
    matchers = MatcherSerializer(many=True)
    starts_at = serializers.CharField()
    ends_at = serializers.CharField()
    comment = serializers.CharField()
    created_by = serializers.CharField(allow_null=True)
    source = serializers.ChoiceField(choices=["embedded", "alertmanager"])  # type: ignore[assignment]


class SilencesSerializer(serializers.Serializer[Any]):
    """Silences; `upstream_error` says why the Alertmanager's are missing."""

    silences = SilenceSerializer(many=True)
    upstream_error = serializers.CharField(allow_null=True)


class LiveValueSerializer(serializers.Serializer[Any]):
    """What the rule gives now for one set of labels."""

    labels = serializers.DictField(child=serializers.CharField())
    value = serializers.FloatField()
    state = serializers.ChoiceField(choices=["pending", "firing"])


class RunbookSerializer(serializers.Serializer[Any]):
    """The page of an alert."""

    name = serializers.CharField()
    severity = serializers.CharField()
    expr = serializers.CharField()
    for_seconds = serializers.IntegerField()
    description = serializers.CharField()
    causes = serializers.ListField(child=serializers.CharField())
    steps = serializers.ListField(child=serializers.CharField())
    state = serializers.ChoiceField(choices=["inactive", "pending", "firing", "unknown"])
    values = LiveValueSerializer(many=True)
