"""`/auth/password` and `/auth/reset-password`: choosing one's password, with the old one or with a one-time token."""

from typing import cast

from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from apps.accounts import one_time, services
from apps.accounts.api import serializers
from apps.accounts.models import User
from apps.accounts.permissions import require_person
from apps.accounts.ratelimit import LoginAttempt
from apps.core.api.viewsets import AUTHENTICATED, OPEN, GenericAPIView


class OwnPasswordView(GenericAPIView):
    """One's own password."""

    required_permissions = {"POST": AUTHENTICATED}
    serializer_class = serializers.OwnPasswordSerializer

    @extend_schema(responses={204: None}, operation_id="auth_password")
    def post(self, request: Request) -> Response:
        """Change it; every session and token of the account ends, this one too. API tokens stay."""
        require_person(request.user)
        given = self.get_serializer(data=request.data)
        given.is_valid(raise_exception=True)
        attempt = LoginAttempt(request._request)  # whoever found an open session must not guess the password
        services.change_password(
            cast("User", request.user),
            current=given.validated_data["current_password"],
            new=given.validated_data["new_password"],
        )
        attempt.succeeded()
        return Response(status=204)


class ResetView(GenericAPIView):
    """A password by a one-time token."""

    required_permissions = {"POST": OPEN}
    authentication_classes = []  # the token is the credential
    serializer_class = serializers.ResetSerializer

    @extend_schema(responses={204: None}, auth=[], operation_id="auth_reset_password")
    def post(self, request: Request) -> Response:
        """Choose a password with the token that an operator handed over, once; every session of the account ends."""
        given = self.get_serializer(data=request.data)
        given.is_valid(raise_exception=True)
        attempt = LoginAttempt(request._request)
        one_time.redeem(given.validated_data["token"], given.validated_data["password"])
        attempt.succeeded()
        return Response(status=204)
