"""The endpoints under /auth: log in, refresh, log out, who am I."""

from typing import Any, cast

from django.contrib.auth import authenticate, logout
from drf_spectacular.utils import extend_schema
from rest_framework.exceptions import UnsupportedMediaType
from rest_framework.parsers import BaseParser
from rest_framework.request import Request
from rest_framework.response import Response

from apps.accounts import api_tokens, tokens
from apps.accounts.api import serializers
from apps.accounts.audit import Actor, record
from apps.accounts.models import User
from apps.accounts.permissions import holds_by_role, permissions_of, require_person, roles_of, scope_of
from apps.accounts.ratelimit import LoginAttempt, client_address
from apps.core.api.parsers import FormParser, JSONParser
from apps.core.api.viewsets import AUTHENTICATED, OPEN, GenericAPIView
from apps.core.errors import Unauthenticated

FORM_OR_JSON: list[type[BaseParser]] = [FormParser, JSONParser]


class TokenView(GenericAPIView):
    """Log in: a username and password for a pair of tokens."""

    required_permissions = {"POST": OPEN}
    untold = frozenset({"POST"})  # told below, with the account that logged in
    authentication_classes = []  # a stale token or a cookie has no say here
    parser_classes = FORM_OR_JSON
    serializer_class = serializers.CredentialsSerializer

    @extend_schema(responses=serializers.TokenPairSerializer, auth=[], operation_id="auth_token")
    def post(self, request: Request) -> Response:
        """Log in: a pair of tokens. One answer for an unknown name, a disabled account and a wrong password.

        About the same time, too: Django's backend hashes a password for unknown names.
        """
        given = _validated(self, request)
        attempt = LoginAttempt(request._request)
        user = authenticate(
            request._request, username=given["username"], password=given["password"], code=given["code"]
        )
        if not isinstance(user, User):
            raise Unauthenticated("The username or the password is wrong.", code="invalid_credentials")
        attempt.succeeded()
        pair = tokens.issue(user)
        record("auth.login", obj=user, actor=Actor.of(user, address=client_address(request._request)))
        return Response(_answer(user, pair))


class RefreshView(GenericAPIView):
    """The next pair of tokens."""

    required_permissions = {"POST": OPEN}
    untold = frozenset({"POST"})  # each half hour of each login; `tokens` tells of a reuse
    authentication_classes = []
    parser_classes = FORM_OR_JSON
    serializer_class = serializers.RefreshSerializer

    @extend_schema(responses=serializers.TokenPairSerializer, auth=[], operation_id="auth_refresh")
    def post(self, request: Request) -> Response:
        """The next pair. A refresh token is used once; using it again revokes all that came from the same login."""
        user, pair = tokens.rotate(_validated(self, request)["refresh_token"])
        return Response(_answer(user, pair))


class LogoutView(GenericAPIView):
    """End this login."""

    required_permissions = {"POST": AUTHENTICATED}
    together = frozenset({"POST"})

    @extend_schema(request=None, responses={204: None}, operation_id="auth_logout")
    def post(self, request: Request) -> Response:
        """Revoke the tokens of this login, or end this browser's session."""
        require_person(request.user)
        if isinstance(request.auth, tokens.Claims):
            tokens.revoke_family(request.auth.family_id)
        else:
            logout(request._request)
        return Response(status=204)


class LogoutAllView(GenericAPIView):
    """End every login of this account."""

    required_permissions = {"POST": AUTHENTICATED}
    together = frozenset({"POST"})
    serializer_class = serializers.LogoutAllSerializer

    @extend_schema(responses={204: None}, operation_id="auth_logout_all")
    def post(self, request: Request) -> Response:
        """Revoke all tokens and sessions of the account, on every device; API tokens where `api_tokens` is true."""
        user = _account(request)
        require_person(user)
        try:
            given = _validated(self, request)
        except UnsupportedMediaType:  # an empty form of a client that always sends one: as good as no body
            given = {}
        tokens.revoke_all(user)
        if given.get("api_tokens"):
            api_tokens.revoke_all([user])
        return Response(status=204)


class MeView(GenericAPIView):
    """The caller."""

    required_permissions = {"GET": AUTHENTICATED}
    serializer_class = serializers.MeSerializer

    @extend_schema(operation_id="auth_me")
    def get(self, request: Request) -> Response:
        """Who I am, my roles, my permissions."""
        user, scope = _account(request), scope_of(request.user)
        rights = _rights(user)
        workflows = None if scope is None or scope.workflows is None else sorted(scope.workflows)
        if scope is not None:
            rights["permissions"] = sorted(code for code in scope.permissions if holds_by_role(user, code))
        return Response(
            {"id": str(user.pk), "username": user.username, "email": user.email, **rights, "workflows": workflows}
        )


def _account(request: Request) -> User:
    """The caller of a view that asks for an account."""
    return cast("User", request.user)


def _validated(view: GenericAPIView, request: Request) -> dict[str, Any]:
    serializer = view.get_serializer(data=request.data)
    serializer.is_valid(raise_exception=True)
    return dict(serializer.validated_data)


def _rights(user: User) -> dict[str, list[str]]:
    return {"roles": sorted(roles_of(user)), "permissions": sorted(permissions_of(user))}


def _answer(user: User, pair: tokens.Pair) -> dict[str, Any]:
    return {
        "access_token": pair.access_token,
        "refresh_token": pair.refresh_token,
        "token_type": "bearer",
        "expires_in": pair.expires_in,
        **_rights(user),
    }
