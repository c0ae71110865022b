"""`/auth/api-tokens`: one's own API tokens; shown once, listed without their text, revoked by deleting."""

from typing import Any, cast
from uuid import UUID

from django.db.models import QuerySet
from drf_spectacular.utils import extend_schema
from rest_framework import mixins
from rest_framework.request import Request
from rest_framework.response import Response

from apps.accounts import api_tokens
from apps.accounts.api import serializers
from apps.accounts.models import ApiToken, Role, User
from apps.accounts.permissions import Permission, require_person
from apps.accounts.permissions import Role as RoleName
from apps.core.api.viewsets import AUTHENTICATED, GenericViewSet
from apps.core.errors import Invalid, Problem


class ApiTokenViewSet(mixins.ListModelMixin, mixins.RetrieveModelMixin, GenericViewSet):
    """Credentials for scrapers and scripts."""

    required_permissions = dict.fromkeys(("list", "retrieve", "create", "destroy"), AUTHENTICATED)
    untold = frozenset({"create", "destroy"})  # `api_tokens` tells, in its transaction
    queryset = ApiToken.objects.none()
    lookup_field = "pk"
    lookup_url_kwarg = "id"
    serializer_class = serializers.ApiTokenSerializer

    def get_queryset(self) -> QuerySet[ApiToken]:
        """The caller's own, without those of agents (they are rotated at `/agents/{id}`); an API token sees none."""
        require_person(self.request.user)
        return ApiToken.objects.filter(owner=cast("User", self.request.user), audience=ApiToken.Audience.API)

    @extend_schema(request=serializers.NewApiTokenSerializer, responses={201: serializers.ApiTokenMadeSerializer})
    def create(self, request: Request) -> Response:
        """Make one; its text is in this answer and nowhere else."""
        require_person(request.user)
        given = serializers.NewApiTokenSerializer(data=request.data)
        given.is_valid(raise_exception=True)
        asked = given.validated_data
        row, raw = api_tokens.create(
            by=cast("User", request.user),
            name=asked["name"],
            wanted=_wanted(asked),
            expires_in_days=asked["expires_in_days"],
            workflows=asked["workflows"],
        )
        return Response({**self.get_serializer(row).data, "token": raw}, status=201)

    @extend_schema(responses={204: None})
    def destroy(self, request: Request, id: UUID) -> Response:  # noqa: A002, ARG002 (the route's word)
        """Revoke it: refused from the next request, its sockets close within 5 seconds."""
        api_tokens.revoke(self.get_object())
        return Response(status=204)


def _wanted(asked: dict[str, Any]) -> list[str]:
    """The codes that were asked for, by name or by role. Raises `Invalid` for an unknown one."""
    if "role" in asked:
        role = Role.objects.filter(name=asked["role"]).prefetch_related("permissions").first()
        if role is None:
            raise _unknown("/role", f"there is no role `{asked['role']}`")
        return list(Permission) if role.name == RoleName.ADMIN else [row.code for row in role.permissions.all()]
    for index, code in enumerate(asked["permissions"]):
        if code not in set(Permission):
            raise _unknown(f"/permissions/{index}", f"there is no permission `{code}`")
    return list(asked["permissions"])


def _unknown(pointer: str, message: str) -> Invalid:
    return Invalid(f"{message}.", problems=[Problem(pointer=pointer, code="unknown", message=message)])
