"""What /auth, /users and /roles take and answer."""

from typing import Any

from rest_framework import serializers

from apps.accounts.api_tokens import MAX_DAYS
from apps.accounts.models import ApiToken, Role, User
from apps.accounts.one_time import MAX_LENGTH
from apps.accounts.permissions import Permission as Code
from apps.accounts.permissions import Role as RoleName
from apps.core.api.viewsets import StrictSerializer


class CredentialsSerializer(StrictSerializer):
    """A username and its password."""

    username = serializers.CharField(max_length=150)
    # Bounded, because hashing is what an attacker would make us do; the same for known and unknown names.
    password = serializers.CharField(max_length=1024, trim_whitespace=False, style={"input_type": "password"})
    code = serializers.CharField(
        max_length=20, default="", allow_blank=True, help_text="Of the second factor, where the account has one."
    )


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
    workflows = serializers.ListField(
        child=serializers.CharField(),
        allow_null=True,
        help_text="The only workflows that the API token of this request reaches; null: no such bound.",
    )


class LogoutAllSerializer(StrictSerializer):
    """Whether API tokens end as well."""

    api_tokens = serializers.BooleanField(default=False, help_text="Revoke the account's API tokens, too.")


class OwnPasswordSerializer(StrictSerializer):
    """The present password and the next one."""

    current_password = serializers.CharField(max_length=1024, trim_whitespace=False)
    new_password = serializers.CharField(max_length=1024, trim_whitespace=False)


class ResetSerializer(StrictSerializer):
    """A one-time token, and the password that its account shall have."""

    token = serializers.CharField(max_length=MAX_LENGTH)
    password = serializers.CharField(max_length=1024, trim_whitespace=False)


class HandedSerializer(serializers.Serializer[object]):
    """A one-time token to hand over."""

    token = serializers.CharField(read_only=True)
    expires_at = serializers.DateTimeField(read_only=True)


def _names(**options: Any) -> serializers.ListField:
    return serializers.ListField(child=serializers.CharField(max_length=100), max_length=200, **options)


class NewApiTokenSerializer(StrictSerializer):
    """A token to be made: with these permissions, or with those that a role has now."""

    name = serializers.CharField(max_length=100)
    permissions = _names(required=False, allow_empty=False, help_text="Codes such as `monitoring:read`.")
    role = serializers.CharField(max_length=64, required=False, help_text="Instead of `permissions`.")
    expires_in_days = serializers.IntegerField(min_value=1, max_value=MAX_DAYS)
    workflows = serializers.ListField(
        child=serializers.RegexField(r"\A[A-Za-z0-9_-]{1,100}\Z"),
        max_length=200,
        default=list,
        help_text="Ids of the only workflows it reaches; empty: all that its owner does.",
    )

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        """One of the two ways to say what it may."""
        if ("role" in attrs) == ("permissions" in attrs):
            raise serializers.ValidationError({"permissions": "give either `permissions` or `role`"})
        return attrs


class ApiTokenSerializer(serializers.ModelSerializer[ApiToken]):
    """An API token as its owner sees it afterwards: never its text."""

    permissions = serializers.ListField(child=serializers.CharField(), read_only=True)
    workflows = serializers.ListField(child=serializers.CharField(), read_only=True)

    class Meta:
        model = ApiToken
        fields = ["id", "name", "permissions", "workflows", "created_at", "expires_at", "last_used_at"]
        read_only_fields = fields


class ApiTokenMadeSerializer(ApiTokenSerializer):
    """A new API token with its text, this once."""

    token = serializers.CharField(read_only=True)

    class Meta(ApiTokenSerializer.Meta):
        fields = [*ApiTokenSerializer.Meta.fields, "token"]
        read_only_fields = fields


class UserSerializer(serializers.ModelSerializer[User]):
    """An account."""

    roles = serializers.SlugRelatedField[Role](slug_field="name", many=True, read_only=True)

    class Meta:
        model = User
        fields = ["id", "username", "email", "is_active", "roles", "date_joined", "last_login"]
        read_only_fields = fields


class InvitedSerializer(UserSerializer):
    """A new account, with the token that its person chooses a password with."""

    invitation = HandedSerializer(read_only=True)

    class Meta(UserSerializer.Meta):
        fields = [*UserSerializer.Meta.fields, "invitation"]
        read_only_fields = fields


class NewUserSerializer(StrictSerializer):
    """An account to be made."""

    username = serializers.CharField(max_length=150)
    email = serializers.EmailField(default="", allow_blank=True)
    roles = _names(default=list)


class UserChangeSerializer(StrictSerializer):
    """What is to change of an account; what is left out stays."""

    email = serializers.EmailField(required=False, allow_blank=True)
    is_active = serializers.BooleanField(required=False)
    roles = _names(required=False)


class RoleSerializer(serializers.ModelSerializer[Role]):
    """A role and what it permits; `builtin` ones cannot be deleted."""

    permissions = serializers.SerializerMethodField()
    builtin = serializers.SerializerMethodField()

    class Meta:
        model = Role
        fields = ["name", "description", "permissions", "builtin"]
        read_only_fields = fields

    def get_permissions(self, role: Role) -> list[str]:
        """Codes; all of them for the admin role."""
        if role.name == RoleName.ADMIN:
            return sorted(Code)
        return sorted(permission.code for permission in role.permissions.all())

    def get_builtin(self, role: Role) -> bool:
        """Whether every installation has it."""
        return role.name in set(RoleName)


class RoleChangeSerializer(StrictSerializer):
    """What a role shall permit."""

    permissions = _names()


class NewRoleSerializer(RoleChangeSerializer):
    """A role to be made."""

    name = serializers.RegexField(r"\A[a-z][a-z0-9_-]{0,63}\Z", help_text="Small letters, digits, `_` and `-`.")
    description = serializers.CharField(max_length=200, default="", allow_blank=True)
