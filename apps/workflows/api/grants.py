"""`/workflows/{id}/grants`: sharing one workflow, or one thing of another kind; `/auth/explain`: why somebody may."""

from typing import Any

from django.contrib.auth.models import Group
from django.core.exceptions import ValidationError
from drf_spectacular.utils import OpenApiParameter, extend_schema, extend_schema_view
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from apps.accounts.models import Role, User
from apps.accounts.permissions import Permission, holds, require
from apps.core.api.problems import pointer
from apps.core.api.viewsets import AUTHENTICATED, GenericAPIView, StrictSerializer
from apps.core.errors import Denied, Invalid, NotFound, Problem
from apps.workflows.api.gate import GatedViewSet
from apps.workflows.models import Workflow
from apps.workflows.models.gate import Sharing
from apps.workflows.models.workflows import SHARING as WORKFLOWS
from apps.workflows.selectors.grants import Grantee, asked_of, explain, grants_on, sharing_of, verbs_of
from apps.workflows.services import grants

_NOTHING = "there is no such thing, or you may not know of it"


class GrantSerializer(serializers.Serializer[Any]):
    """What one person, one group or one role may do with it."""

    user = serializers.CharField(read_only=True, allow_null=True)
    group = serializers.CharField(read_only=True, allow_null=True)
    role = serializers.CharField(read_only=True, allow_null=True)
    permissions = serializers.ListField(child=serializers.CharField(), read_only=True)


class GrantChangeSerializer(StrictSerializer):
    """Who shall be able to do what: exactly these, and no grant where the list is empty."""

    user = serializers.CharField(max_length=150, required=False, help_text="A username; or give `group` or `role`.")
    group = serializers.CharField(max_length=150, required=False, help_text="A group's name, instead of `user`.")
    role = serializers.CharField(max_length=64, required=False, help_text="A role's name, instead of `user`.")
    permissions = serializers.ListField(
        child=serializers.ChoiceField(choices=WORKFLOWS.verbs), max_length=len(WORKFLOWS.verbs)
    )


class DecidedBySerializer(serializers.Serializer[Any]):
    """What gives or takes a permission."""

    kind = serializers.CharField(
        read_only=True, help_text="`role`, `ownership`, `grant`, `group_grant`, `role_grant`; `inactive`, `api_token`."
    )
    name = serializers.CharField(read_only=True)


class ExplanationSerializer(serializers.Serializer[Any]):
    """A decision, and what decided."""

    user = serializers.CharField(read_only=True)
    permission = serializers.CharField(read_only=True)
    object = serializers.CharField(read_only=True, allow_null=True)
    allowed = serializers.BooleanField(read_only=True)
    given_by = DecidedBySerializer(many=True, read_only=True)
    denied_by = DecidedBySerializer(many=True, read_only=True)


WHO = [
    OpenApiParameter("user", str, description="Whose grant; or give `group` or `role`."),
    OpenApiParameter("group", str, description="Whose grant, instead of `user`."),
    OpenApiParameter("role", str, description="Whose grant, instead of `user`."),
]


class SharedGrants(GatedViewSet):
    """Grants on one thing of a kind that is owned and shared."""

    required_permissions = dict.fromkeys(("list", "update", "destroy"), Permission.SYSTEM_ADMIN)
    gated_actions = frozenset(required_permissions)
    pagination_class = None
    serializer_class = GrantSerializer
    kind: Sharing
    change_serializer: type[StrictSerializer] = GrantChangeSerializer

    def _thing(self, name: str) -> Any:
        """What is to be shared, for its owner and holders of `system:admin`. Raises `NotFound` and `Denied`."""
        user = self.account()
        thing = _found(self.kind, user, name)
        if thing.owner_id != user.pk and not holds(user, Permission.SYSTEM_ADMIN):
            raise Denied(f"this needs its owner, or the permission {Permission.SYSTEM_ADMIN.value}")
        return thing

    def list(self, request: Request, id: Any) -> Response:  # noqa: A002, ARG002 (the route's word)
        """Who may do what with it beyond their roles: people, then groups, then roles."""
        return Response(GrantSerializer(grants_on(self._thing(str(id))), many=True).data)

    def update(self, request: Request, id: Any) -> Response:  # noqa: A002
        """Share it: nobody gives or takes away what they may not do with it themselves."""
        thing = self._thing(str(id))
        given = self.change_serializer(data=request.data)
        given.is_valid(raise_exception=True)
        to = _grantee(given.validated_data)
        grants.grant(thing, to, given.validated_data["permissions"], by=self.account())
        verbs = verbs_of(thing, to)
        shown = {"user": None, "group": None, "role": None, _kind(to): to.username if isinstance(to, User) else to.name}
        return Response({**shown, "permissions": [verb for verb in self.kind.verbs if verb in verbs]})

    def destroy(self, request: Request, id: Any) -> Response:  # noqa: A002
        """Take all back that was granted to `?user=`, `?group=` or `?role=`; open sockets close within 5 seconds."""
        thing = self._thing(str(id))
        grants.grant(thing, _grantee(request.query_params), (), by=self.account())
        return Response(status=204)


@extend_schema_view(
    list=extend_schema(operation_id="workflow_grants", responses=GrantSerializer(many=True)),
    update=extend_schema(operation_id="workflow_grant", request=GrantChangeSerializer),
    destroy=extend_schema(operation_id="workflow_grant_destroy", parameters=WHO, responses={204: None}),
)
class GrantViewSet(SharedGrants):
    """Grants on one workflow."""

    queryset = Workflow.objects.none()
    kind = WORKFLOWS


class ExplainView(GenericAPIView):
    """Why somebody may or may not."""

    required_permissions = {"GET": AUTHENTICATED}
    serializer_class = ExplanationSerializer

    @extend_schema(
        operation_id="auth_explain",
        parameters=[
            OpenApiParameter("user", str, description="A username; default: the caller. Others need system:admin."),
            OpenApiParameter("permission", str, required=True, enum=sorted(Permission)),
            OpenApiParameter(
                "object", str, description="Id of a workflow (of `agent:…` an agent); without: everywhere."
            ),
        ],
    )
    def get(self, request: Request) -> Response:
        """Whether an account may do something, and which role, ownership or grant decided."""
        permission = _permission(request)
        user, thing = _asked_about(request), None
        if name := request.query_params.get("object"):
            kind = asked_of(permission)
            if kind is None:
                raise _invalid("object", f"{permission.value} is not asked of a single thing; leave `object` out")
            thing = _found(kind, request.user, name)
        found = explain(user, permission, thing)
        answer = {
            "user": user.username,
            "permission": permission.value,
            "object": None if thing is None else str(getattr(thing, sharing_of(thing).key)),
            "allowed": found.allowed,
            "given_by": found.given_by,
            "denied_by": found.denied_by,
        }
        return Response(ExplanationSerializer(answer).data)


def _found(kind: Sharing, user: Any, name: str) -> Any:
    """The thing of this name, where the caller may know of it. Raises `NotFound`."""
    rows = kind.model.objects
    # Who administers accounts may share each.
    known = rows.all() if holds(user, Permission.SYSTEM_ADMIN) else rows.visible_to(user, kind.read)
    try:
        thing = known.filter(**kind.named(_text(name))).first()
    except ValidationError:  # it is no key of this kind
        thing = None
    if thing is None:
        raise NotFound(_NOTHING)
    return thing


def _asked_about(request: Request) -> User:
    """The account of `?user=`. Raises `Denied` before it says whether there is such an account."""
    me: Any = request.user
    name = request.query_params.get("user") or me.username
    if name == me.username:
        return me  # type: ignore[no-any-return]  # as this request sees it: an API token's scope counts
    require(me, Permission.SYSTEM_ADMIN)
    found = User.objects.filter(username=_text(name)).first()
    if found is None:
        raise NotFound(_NOTHING)
    return found


def _permission(request: Request) -> Permission:
    try:
        return Permission(request.query_params.get("permission", ""))
    except ValueError:
        raise _invalid("permission", "must be one of the permissions, such as workflow:read") from None


def _kind(to: Grantee) -> str:
    return "user" if isinstance(to, User) else "role" if isinstance(to, Role) else "group"


def _grantee(asked: Any) -> Grantee:
    """The person, group or role that is named. Raises `Invalid`."""
    names = {kind: asked[kind] for kind in ("user", "group", "role") if asked.get(kind)}
    if len(names) != 1:
        raise _invalid("user", "give one of `user`, `group` and `role`")
    ((kind, name),) = names.items()
    name = _text(name)
    rows: Any = {"user": User, "group": Group, "role": Role}[kind]._default_manager
    found: Grantee | None = rows.filter(**{"username" if kind == "user" else "name": name}).first()
    if found is None:
        raise _invalid(kind, f"there is no such {kind}")
    return found


def _text(text: str) -> str:
    """Text of a query, without what no database takes."""
    return text.replace("\0", "")


def _invalid(name: str, message: str) -> Invalid:
    return Invalid(f"{name}: {message}.", problems=[Problem(pointer=pointer(name), code="invalid", message=message)])
