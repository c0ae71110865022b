"""What /auth takes and answers."""

from rest_framework import serializers

from apps.core.api.viewsets import StrictSerializer


class CredentialsSerializer(StrictSerializer):
    """A username and its password."""

    username = serializers.CharField(max_length=150)
    # Bounded, because hashing is what an attacker would make us do; the same for known and unknown names.
    password = serializers.CharField(max_length=1024, trim_whitespace=False, style={"input_type": "password"})


class RefreshSerializer(StrictSerializer):
    """A refresh token that was never used."""

    refresh_token = serializers.CharField(max_length=8192, trim_whitespace=False)


class TokenPairSerializer(serializers.Serializer[object]):
    """A login: tokens, their life in seconds, and what the user may."""

    access_token = serializers.CharField()
    refresh_token = serializers.CharField()
    token_type = serializers.CharField(default="bearer", help_text="Always `bearer`.")
    expires_in = serializers.IntegerField(help_text="Seconds until the access token expires.")
    roles = serializers.ListField(child=serializers.CharField())
    permissions = serializers.ListField(child=serializers.CharField())


class MeSerializer(serializers.Serializer[object]):
    """Who the caller is and what it may."""

    id = serializers.UUIDField()
    username = serializers.CharField()
    email = serializers.EmailField(allow_blank=True)
    roles = serializers.ListField(child=serializers.CharField())
    permissions = serializers.ListField(child=serializers.CharField())
