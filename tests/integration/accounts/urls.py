"""Routes of the tests: the endpoints of accounts, and one view of every kind behind the frame."""

from django.contrib import admin
from django.http import HttpResponse, JsonResponse
from django.urls import include, path
from rest_framework import mixins
from rest_framework.response import Response
from rest_framework.routers import DefaultRouter

from apps.accounts.api.docs import DocsView, SchemaView
from apps.accounts.decorators import has_permission, has_role
from apps.accounts.models import User
from apps.accounts.permissions import Permission, Role
from apps.core.api.viewsets import GenericAPIView, GenericViewSet, StrictModelSerializer, ViewSet
from apps.core.errors import Conflict

handler400 = "apps.core.api.problems.handler400"
handler403 = "apps.core.api.problems.handler403"
handler404 = "apps.core.api.problems.handler404"
handler500 = "apps.core.api.problems.handler500"


@has_permission(Permission.WORKFLOW_EXECUTE)
def sync_view(request):
    return JsonResponse({"user": request.user.username})


@has_permission(Permission.WORKFLOW_EXECUTE)
async def async_view(request):
    return JsonResponse({"user": (await request.auser()).username})


@has_role(Role.SYSTEM)
def role_view(request):
    return HttpResponse("ok")


@has_permission(Permission.WORKFLOW_READ, page=True)
def page(request):
    return HttpResponse("<h1>page</h1>")


def conflict(request):
    raise Conflict("It has ended.", code="invalid_transition", allowed_actions=["retry"])


async def async_conflict(request):
    raise Conflict("It has ended.", code="invalid_transition", allowed_actions=["retry"])


def broken(request):
    raise RuntimeError("SELECT secret FROM accounts_user WHERE password = 'hunter2'")


async def async_broken(request):
    return broken(request)


class Things(ViewSet):
    required_permissions = {"list": Permission.WORKFLOW_READ, "create": Permission.WORKFLOW_CREATE}

    def list(self, request):
        return Response({"user": str(request.user)})

    def create(self, request):
        return Response(request.data, status=201)

    def retrieve(self, request, pk=None):
        raise AssertionError("declared nowhere, so never reached")

    @has_permission(Permission.WORKFLOW_UPDATE)
    def update(self, request, pk=None):
        return Response({"pk": pk})

    @has_role(Role.SYSTEM)
    def destroy(self, request, pk=None):
        return Response(status=204)


class UserOut(StrictModelSerializer):
    class Meta:
        model = User
        fields = ("id", "username")


class People(mixins.ListModelMixin, GenericViewSet):
    required_permissions = {"list": Permission.WORKFLOW_READ}
    queryset = User.objects.all()
    serializer_class = UserOut


class Broken(GenericAPIView):
    required_permissions = {"GET": Permission.WORKFLOW_READ}

    def get(self, request):
        raise RuntimeError("SELECT secret")


router = DefaultRouter(trailing_slash=False)
router.include_root_view = False
router.register("things", Things, "things")
router.register("people", People, "people")

urlpatterns = [
    path("", include("apps.accounts.api.urls")),
    *router.urls,
    path("admin/", admin.site.urls),
    path("schema", SchemaView.as_view(), name="schema"),
    path("docs", DocsView.as_view(), name="docs"),
    path("sync", sync_view),
    path("async", async_view),
    path("role", role_view),
    path("ui/page", page),
    path("conflict", conflict),
    path("async-conflict", async_conflict),
    path("ui/conflict", conflict),
    path("broken", broken),
    path("async-broken", async_broken),
    path("drf-broken", Broken.as_view()),
]
