"""`/users` and `/roles`: accounts and what they may, for holders of `system:admin`."""

from collections.abc import Container, Iterable
from typing import Any, cast

from django.db.models import Q, QuerySet
from django_filters.filters import BooleanFilter, CharFilter
from django_filters.filterset import FilterSet
from django_filters.rest_framework.backends import DjangoFilterBackend
from drf_spectacular.utils import extend_schema
from rest_framework import mixins
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from apps.accounts import one_time, second_factor, services
from apps.accounts.api import serializers
from apps.accounts.models import Permission, Role, User
from apps.accounts.permissions import Permission as P
from apps.core.api.viewsets import GenericViewSet
from apps.core.errors import Invalid, Problem, Unauthenticated

UUID = "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"


class UserFilter(FilterSet):
    """`?search=` (name and address), `?role=`, `?is_active=`."""

    search = CharFilter(method="found")
    role = CharFilter(field_name="roles__name")
    is_active = BooleanFilter()

    class Meta:
        model = User
        fields: list[str] = []

    def found(self, rows: QuerySet[User], _name: str, text: str) -> QuerySet[User]:
        """Those with these letters."""
        return rows.filter(Q(username__icontains=text) | Q(email__icontains=text))


class UserViewSet(mixins.ListModelMixin, mixins.RetrieveModelMixin, GenericViewSet):
    """Accounts."""

    required_permissions = dict.fromkeys(
        ("list", "retrieve", "create", "update", "destroy", "reset_password", "second_factor"), P.SYSTEM_ADMIN
    )
    queryset = User.objects.prefetch_related("roles")
    lookup_field = "pk"
    lookup_url_kwarg = "id"
    lookup_value_regex = UUID
    filterset_class = UserFilter
    filter_backends = [DjangoFilterBackend]
    serializer_class = serializers.UserSerializer

    @extend_schema(request=serializers.NewUserSerializer, responses={201: serializers.InvitedSerializer})
    def create(self, request: Request) -> Response:
        """Make an account; the answer has a one-time token with which its person chooses a password."""
        given, by = _read(serializers.NewUserSerializer, request), _actor(request)
        user = services.create_user(
            given["username"], password=None, email=given["email"], roles=_roles(given["roles"]), by=by
        )
        return Response({**_shown(user), "invitation": _handed(user, by)}, status=201)

    @extend_schema(request=serializers.UserChangeSerializer)
    def update(self, request: Request, id: str) -> Response:  # noqa: A002, ARG002 (the route's word)
        """Change its roles, its address, or whether it is active; what is left out stays. All of it or nothing."""
        user: User = self.get_object()
        given = _read(serializers.UserChangeSerializer, request)
        roles = _roles(given["roles"]) if "roles" in given else None
        services.change_user(
            user, roles=roles, is_active=given.get("is_active"), email=given.get("email"), by=_actor(request)
        )
        return Response(_shown(User.objects.get(pk=user.pk)))

    @extend_schema(responses={204: None})
    def destroy(self, request: Request, id: str) -> Response:  # noqa: A002, ARG002
        """Remove it; its sessions and tokens end, what it owns stays without an owner."""
        services.delete_user(self.get_object(), by=_actor(request))
        return Response(status=204)

    @extend_schema(request=None, responses=serializers.HandedSerializer)
    @action(detail=True, methods=["post"], url_path="reset-password", filterset_class=None)
    def reset_password(self, request: Request, id: str) -> Response:  # noqa: A002, ARG002
        """A one-time token to hand over, for `POST /auth/reset-password`; until it is used nothing changes."""
        return Response(_handed(self.get_object(), _actor(request)))

    @extend_schema(operation_id="users_second_factor_destroy", responses={204: None})
    @action(detail=True, methods=["delete"], url_path="second-factor", filterset_class=None)
    def second_factor(self, request: Request, id: str) -> Response:  # noqa: A002, ARG002
        """Take the second factor off, for somebody whose device is lost."""
        second_factor.remove(self.get_object(), by=_actor(request))
        return Response(status=204)


class RoleViewSet(mixins.ListModelMixin, mixins.RetrieveModelMixin, GenericViewSet):
    """Roles: named sets of permissions."""

    required_permissions = dict.fromkeys(("list", "retrieve", "create", "update", "destroy"), P.SYSTEM_ADMIN)
    queryset = Role.objects.prefetch_related("permissions")
    lookup_field = "name"
    lookup_value_regex = "[^/]+"
    serializer_class = serializers.RoleSerializer

    @extend_schema(request=serializers.NewRoleSerializer, responses={201: serializers.RoleSerializer})
    def create(self, request: Request) -> Response:
        """Make a role of the installation's own."""
        given = _read(serializers.NewRoleSerializer, request)
        role = services.create_role(
            given["name"],
            description=given["description"],
            granted=_permissions(given["permissions"]),
            by=_actor(request),
        )
        return Response(self.get_serializer(role).data, status=201)

    @extend_schema(request=serializers.RoleChangeSerializer)
    def update(self, request: Request, name: str) -> Response:  # noqa: ARG002
        """Give it exactly these permissions; they hold for its accounts from their next request."""
        role: Role = self.get_object()
        given = _read(serializers.RoleChangeSerializer, request)
        services.set_role_permissions(role, _permissions(given["permissions"]), by=_actor(request))
        return Response(self.get_serializer(self.get_object()).data)

    @extend_schema(responses={204: None})
    def destroy(self, request: Request, name: str) -> Response:  # noqa: ARG002
        """Take it from everybody and remove it; the five that every installation has stay (409)."""
        services.delete_role(self.get_object(), by=_actor(request))
        return Response(status=204)


def _actor(request: Request) -> User:
    """The account behind a write. Raises `Unauthenticated` for nobody, whatever `ANONYMOUS_ROLE` may."""
    if not isinstance(request.user, User):
        raise Unauthenticated("Authentication credentials were not provided.")
    return request.user


def _shown(user: User) -> dict[str, Any]:
    return dict(serializers.UserSerializer(user).data)


def _handed(user: User, by: User) -> dict[str, Any]:
    return dict(serializers.HandedSerializer(one_time.issue(user, by=by)).data)


def _read(serializer: Any, request: Request) -> dict[str, Any]:
    given = serializer(data=request.data)
    given.is_valid(raise_exception=True)
    return cast("dict[str, Any]", given.validated_data)


def _roles(names: Iterable[str]) -> list[Role]:
    """The rows of these names. Raises `Invalid` for one that is none."""
    names = list(names)
    found = {role.name: role for role in Role.objects.filter(name__in=names)}
    _check_known("role", names, found)
    return list(found.values())


def _permissions(codes: Iterable[str]) -> list[Permission]:
    """The rows of these codes. Raises `Invalid` for one that is none."""
    codes = list(codes)
    found = {permission.code: permission for permission in Permission.objects.filter(code__in=codes)}
    _check_known("permission", codes, found)
    return list(found.values())


def _check_known(noun: str, names: Iterable[str], found: Container[str]) -> None:
    problems = [
        Problem(pointer=f"/{noun}s/{index}", code=f"unknown_{noun}", message=f"there is no {noun} `{name}`")
        for index, name in enumerate(names)
        if name not in found
    ]
    if problems:
        raise Invalid(f"{noun}s: {problems[0].message}.", problems=problems)
