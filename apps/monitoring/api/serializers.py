"""The shapes of what monitoring answers in JSON; metrics are text and have none."""

from typing import Any

from rest_framework import serializers


class CheckSerializer(serializers.Serializer[Any]):
    """One check of readiness."""

    name = serializers.CharField()
    ok = serializers.BooleanField()
    required = serializers.BooleanField(  # type: ignore[assignment]  # the word is also an attribute of fields
        help_text="Whether the installation is unavailable without it."
    )
    seconds = serializers.FloatField(help_text="How long the check took.")
    reason = serializers.CharField()


class HealthSerializer(serializers.Serializer[Any]):
    """Health. The checks are shown to callers with `monitoring:read`."""

    status = serializers.ChoiceField(choices=["ok", "unavailable"])
    checks = CheckSerializer(many=True, required=False)


class LiveSerializer(serializers.Serializer[Any]):
    """The server answers."""

    status = serializers.CharField(help_text="`ok`")


class RuntimeSerializer(serializers.Serializer[Any]):
    """What runs container steps."""

    runtime = serializers.ChoiceField(choices=["dagger", "docker", "none"])
    available = serializers.BooleanField(help_text="Whether the engine answers.")
    reason = serializers.CharField(help_text="What is so, and where it is not available the fix.")
    engine = serializers.CharField(help_text="What answers; empty where nothing does.")
    version = serializers.CharField(help_text="Its version.")
    api_version = serializers.CharField(help_text="Of a Docker-compatible API: the version that it speaks.")
    sdk_version = serializers.CharField(help_text="Of a Dagger engine: the version of the SDK installed here.")
