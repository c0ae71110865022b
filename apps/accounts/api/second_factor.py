"""`/auth/second-factor`: one's own second factor, turned on, looked at and taken off."""

from typing import cast

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from apps.accounts import second_factor
from apps.accounts.models import User
from apps.accounts.permissions import require_person
from apps.accounts.ratelimit import LoginAttempt
from apps.core.api.viewsets import AUTHENTICATED, GenericAPIView, StrictSerializer


class StateSerializer(serializers.Serializer[object]):
    """Whether logins by password need a code."""

    enabled = serializers.BooleanField(read_only=True)
    recovery_codes_left = serializers.IntegerField(read_only=True)


class BeginSerializer(StrictSerializer):
    """The present password: an open session is not enough."""

    current_password = serializers.CharField(max_length=1024, trim_whitespace=False)


class SetupSerializer(serializers.Serializer[object]):
    """What an authenticator app is given, and the token with which its first code is sent."""

    secret = serializers.CharField(read_only=True)
    uri = serializers.CharField(read_only=True, help_text="The same as an `otpauth:` address, for a QR code.")
    setup = serializers.CharField(read_only=True, source="token", help_text="For `confirm`, within 10 minutes.")


class ConfirmSerializer(StrictSerializer):
    """A setup and the code that the app shows."""

    setup = serializers.CharField(max_length=2000)
    code = serializers.CharField(max_length=20)


class CodesSerializer(serializers.Serializer[object]):
    """Codes for the day the device is lost, each good for one login; shown this once."""

    recovery_codes = serializers.ListField(child=serializers.CharField(), read_only=True)


class RemoveSerializer(BeginSerializer):
    """The present password, and a code of the app or a recovery code."""

    code = serializers.CharField(max_length=20)


class SecondFactorView(GenericAPIView):
    """One's own second factor."""

    required_permissions = {"GET": AUTHENTICATED, "POST": AUTHENTICATED}
    untold = frozenset({"POST"})  # nothing is changed yet
    serializer_class = StateSerializer

    @extend_schema(operation_id="second_factor")
    def get(self, request: Request) -> Response:
        """Whether it is on, and how many recovery codes are left."""
        return Response(StateSerializer(second_factor.state_of(_person(request))).data)

    @extend_schema(operation_id="second_factor_begin", request=BeginSerializer, responses=SetupSerializer)
    def post(self, request: Request) -> Response:
        """Begin: a secret for an authenticator app. Nothing changes until its first code is sent to `confirm`."""
        given = BeginSerializer(data=request.data)
        given.is_valid(raise_exception=True)
        attempt = LoginAttempt(request._request)
        setup = second_factor.begin(_person(request), **given.validated_data)
        attempt.succeeded()
        return Response(SetupSerializer(setup).data)


class ConfirmView(GenericAPIView):
    """The end of a setup."""

    required_permissions = {"POST": AUTHENTICATED}
    untold = frozenset({"POST"})  # `second_factor` tells, in its transaction
    serializer_class = ConfirmSerializer

    @extend_schema(operation_id="second_factor_confirm", responses=CodesSerializer)
    def post(self, request: Request) -> Response:
        """Turn it on: from now on each login by password needs a code. The answer has the recovery codes, this once."""
        given = self.get_serializer(data=request.data)
        given.is_valid(raise_exception=True)
        attempt = LoginAttempt(request._request)
        codes = second_factor.confirm(_person(request), **given.validated_data)
        attempt.succeeded()
        return Response({"recovery_codes": codes})


class RemoveView(GenericAPIView):
    """The way back."""

    required_permissions = {"POST": AUTHENTICATED}
    untold = frozenset({"POST"})
    serializer_class = RemoveSerializer

    @extend_schema(operation_id="second_factor_remove", responses={204: None})
    def post(self, request: Request) -> Response:
        """Take it off, with the password and a code."""
        given = self.get_serializer(data=request.data)
        given.is_valid(raise_exception=True)
        attempt = LoginAttempt(request._request)
        second_factor.remove_own(_person(request), **given.validated_data)
        attempt.succeeded()
        return Response(status=204)


def _person(request: Request) -> User:
    """The caller. Raises `Denied` for an API token."""
    require_person(request.user)
    return cast("User", request.user)
