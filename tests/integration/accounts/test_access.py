"""Who is let in: viewsets, plain views and consumers; credentials, sessions with CSRF, the anonymous role."""

import pytest
from django.contrib.auth.models import AnonymousUser, Group
from django.contrib.auth.models import Permission as DjangoPermission
from django.contrib.contenttypes.models import ContentType
from django.test import AsyncClient, Client
from guardian.shortcuts import assign_perm

from apps.accounts import permissions
from apps.accounts.decorators import has_permission, has_role
from apps.accounts.grants import objects_granted
from apps.accounts.models import Permission as PermissionRow
from apps.accounts.models import Role as RoleRow
from apps.accounts.models import User
from apps.accounts.permissions import Permission, Role, holds, permissions_of, require, roles_of
from apps.accounts.roles import ROLES, ensure
from apps.core.errors import Denied, Unauthenticated
from tests.integration.accounts.conftest import PASSWORD

pytestmark = [pytest.mark.django_db, pytest.mark.urls("tests.integration.accounts.urls")]

HTML = {"Accept": "text/html"}


# --- what a caller holds


@pytest.mark.parametrize("role", list(Role))
def test_a_role_gives_its_permissions(make_user, role):
    user = make_user("ann", role)
    assert permissions_of(user) == {str(p) for p in ROLES[role][1]}
    assert roles_of(user) == {role}


def test_what_can_be_had_on_single_workflows_is_what_is_asked_of_one():
    verbs = {"workflow": ("read", "update", "delete", "execute"), "task": ("read", "update", "delete", "execute")}
    verbs["progress"] = ("read", "update")
    assert {f"{noun}:{verb}" for noun in verbs for verb in verbs[noun]} == permissions.OF_WORKFLOWS


def test_the_admin_role_holds_all_whatever_its_rows_say(make_user):
    RoleRow.objects.get(name="admin").permissions.clear()
    assert permissions_of(make_user("root", "admin")) == {str(p) for p in Permission}


def test_an_inactive_user_holds_nothing(make_user):
    user = make_user("off", "admin", is_active=False)
    assert permissions_of(user) == frozenset()
    assert not user.is_staff
    assert not user.has_perm("accounts.view_user")


def test_flags_open_nothing(make_user):
    user = make_user("ann")
    user.is_superuser = True
    assert permissions_of(user) == frozenset()
    assert not user.is_staff
    assert not user.has_perm("workflow:read")
    assert not user.has_module_perms("accounts")
    assert not {"is_superuser", "is_staff"} & {field.name for field in User._meta.get_fields()}


def test_anonymous_callers_hold_the_anonymous_role_and_by_default_nothing(set_env):
    assert permissions_of(AnonymousUser()) == permissions_of(None) == frozenset()
    set_env(ANONYMOUS_ROLE="guest")
    assert holds(AnonymousUser(), Permission.WORKFLOW_READ)
    assert not holds(AnonymousUser(), Permission.WORKFLOW_CREATE)


def test_rights_are_read_once_for_a_user_object(make_user, django_assert_num_queries):
    user = make_user("ann", "user", "guest")
    with django_assert_num_queries(1):
        permissions_of(user), roles_of(user), holds(user, "x"), permissions_of(user)


def test_the_rights_of_many_are_read_at_once_and_none_of_the_inactive(make_user, django_assert_num_queries):
    ann, off, known = make_user("ann", "guest"), make_user("off", "admin", is_active=False), make_user("kim", "guest")
    held = permissions_of(known)
    known.roles.clear()
    with django_assert_num_queries(1):
        permissions.know([ann, off, known])
    with django_assert_num_queries(0):
        permissions.know([ann, known])
        assert permissions_of(ann) == permissions_of(known) == held  # what is known is not read again
    assert not permissions_of(off)


def test_require_tells_the_unknown_from_the_refused(make_user):
    for nobody in (AnonymousUser(), None):
        with pytest.raises(Unauthenticated):
            require(nobody, Permission.WORKFLOW_READ)
    with pytest.raises(Denied):
        require(make_user("ann"), Permission.WORKFLOW_READ)
    require(make_user("eve", "guest"), Permission.WORKFLOW_READ)


def test_a_database_without_our_tables_needs_no_roles(monkeypatch):
    from apps.accounts import apps

    monkeypatch.setattr("apps.accounts.models.Role._meta.db_table", "no_such_table")
    apps._ensure_roles(None, using="default")


def test_what_an_operator_edited_survives_migrate():
    guest = RoleRow.objects.get(name="guest")
    guest.permissions.clear()
    RoleRow.objects.filter(name="user").delete()
    PermissionRow.objects.filter(code="agent:read").delete()
    ensure()
    assert [p.code for p in guest.permissions.all()] == ["agent:read"]  # only what came anew
    assert RoleRow.objects.get(name="user").permissions.count() == 9
    ensure()
    assert guest.permissions.count() == 1


# --- DRF


def test_a7_a_viewset_asks_for_what_it_declares(http, make_user, bearer):
    make_user("ann", "guest")
    make_user("none")
    guest, none = bearer("ann"), bearer("none")
    assert http.get("/things").status_code == 401
    assert http.get("/things", headers=guest).json() == {"user": "ann"}
    assert http.get("/things", headers=none).status_code == 403
    assert http.post("/things", {}, "application/json", headers=guest).status_code == 403
    assert http.put("/things/1", {}, "application/json", headers=guest).status_code == 403
    assert http.delete("/things/1", headers=guest).status_code == 403


def test_options_would_describe_fields_and_is_served_to_nobody(http, make_user, bearer):
    make_user("root", "admin")
    for path in ("/things", "/things/1", "/auth/me"):
        assert http.options(path, headers=bearer("root")).status_code == 405


def test_a7_an_action_that_declares_nothing_is_refused_even_to_admins(http, make_user, bearer):
    make_user("root", "admin")
    root = bearer("root")
    assert http.get("/things/1", headers=root).status_code == 403
    assert http.put("/things/1", {}, "application/json", headers=root).status_code == 200
    assert http.delete("/things/1", headers=root).status_code == 204
    assert http.get("/things/1").status_code == 401


def test_a_refusal_names_the_permission(http, make_user, bearer):
    make_user("ann", "guest")
    answer = http.post("/things", {}, "application/json", headers=bearer("ann"))
    assert "workflow:create" in answer.json()["detail"]


def test_the_anonymous_role_reads_and_a_bad_token_is_still_refused(http, set_env):
    set_env(ANONYMOUS_ROLE="guest")
    assert http.get("/things").status_code == 200
    assert http.post("/things", {}, "application/json").status_code == 401
    assert http.get("/things", headers={"Authorization": "Bearer x.y.z"}).status_code == 401
    assert http.get("/auth/me").status_code == 401


# --- sessions


@pytest.fixture
def browser(make_user):
    make_user("root", "admin")
    client = Client(enforce_csrf_checks=True, raise_request_exception=False)
    client.login(username="root", password=PASSWORD)
    client.get("/admin/")
    client.get("/admin/accounts/user/add/")
    return client


@pytest.mark.parametrize("path", ["/things", "/sync", "/async"])
def test_a14_a_write_with_the_cookie_needs_the_csrf_token(browser, path):
    refused = browser.post(path, {}, "application/json")
    assert refused.status_code == 403
    assert refused.json()["code"] == "csrf_failed"
    token = browser.cookies["csrftoken"].value
    allowed = browser.post(path, {}, "application/json", headers={"X-CSRFToken": token})
    assert allowed.status_code in (200, 201)
    foreign = browser.post(
        path, {}, "application/json", headers={"X-CSRFToken": token, "Origin": "http://evil.example"}
    )
    assert foreign.status_code == 403


@pytest.mark.parametrize("path", ["/sync", "/async"])
def test_a14_without_the_browsable_api_a_session_opens_no_api(browser, set_env, path):
    assert browser.get(path).status_code == 200
    set_env(BROWSABLE_API=False)
    assert browser.get(path).status_code == 401


def test_a14_the_admin_answers_csrf_failures_as_pages(browser):
    answer = browser.post("/admin/accounts/user/add/", {}, headers=HTML)
    assert answer.status_code == 403
    assert answer.headers["Content-Type"].startswith("text/html")


# --- plain views and consumers


@pytest.mark.parametrize("path", ["/sync", "/async"])
def test_plain_views_take_bearer_tokens(http, make_user, bearer, path):
    make_user("ann", "user")
    make_user("eve", "guest")
    assert http.get(path).status_code == 401
    assert http.get(path).headers["WWW-Authenticate"] == "Bearer"
    assert http.get(path, headers=bearer("ann")).json() == {"user": "ann"}
    assert http.post(path, headers=bearer("ann")).status_code == 200  # no cookie, so no CSRF
    assert http.get(path, headers=bearer("eve")).status_code == 403
    assert http.get(path, headers={"Authorization": "Bearer nonsense"}).status_code == 401


@pytest.mark.django_db(transaction=True)
async def test_async_views_on_the_async_road(make_user):
    from asgiref.sync import sync_to_async

    await sync_to_async(make_user)("ann", "user")
    client = AsyncClient()
    answer = await client.post(
        "/auth/token", {"username": "ann", "password": PASSWORD}, content_type="application/json"
    )
    token = answer.json()["access_token"]
    assert (await client.get("/async")).status_code == 401
    assert (await client.get("/async", headers={"Authorization": f"Bearer {token}"})).json() == {"user": "ann"}


def test_roles_guard_views(http, make_user, bearer):
    make_user("ann", "user")
    make_user("sys", "system")
    make_user("root", "admin")
    assert http.get("/role").status_code == 401
    assert http.get("/role", headers=bearer("ann")).status_code == 403
    assert http.get("/role", headers=bearer("sys")).status_code == 200
    assert http.get("/role", headers=bearer("root")).status_code == 200


def test_a_page_leads_to_the_login_and_counts_the_session(client, make_user, set_env):
    set_env(BROWSABLE_API=False)
    to_login = client.get("/ui/page", headers=HTML)
    assert to_login.status_code == 302
    assert to_login.headers["Location"] == "/ui/login?next=/ui/page"
    make_user("ann", "guest")
    make_user("none")
    client.login(username="ann", password=PASSWORD)
    assert client.get("/ui/page", headers=HTML).status_code == 200
    client.login(username="none", password=PASSWORD)
    assert client.get("/ui/page", headers=HTML).status_code == 403


class Consumer:
    def __init__(self, user):
        self.scope = {"user": user} if user else {}

    @has_permission(Permission.PROGRESS_READ)
    async def connect(self):
        return "connected"

    @has_permission(Permission.PROGRESS_UPDATE)
    def receive_json(self, content):
        return content

    @has_role(Role.SYSTEM)
    async def operate(self):
        return "operated"


@pytest.mark.django_db(transaction=True)
async def test_consumers_are_guarded_by_their_scope(make_user):
    from asgiref.sync import sync_to_async

    ann = await sync_to_async(make_user)("ann", "guest")
    assert await Consumer(ann).connect() == "connected"
    with pytest.raises(Denied):
        await Consumer(ann).operate()
    with pytest.raises(Denied):
        Consumer(ann).receive_json({})
    with pytest.raises(Unauthenticated):
        await Consumer(None).connect()


def test_the_decorators_leave_a_mark_for_whoever_lists_the_routes():
    assert Consumer.connect.required_permission == Permission.PROGRESS_READ
    assert Consumer.operate.required_role == "system"
    assert Consumer.connect.__name__ == "connect"


def test_the_decorators_refuse_what_has_no_caller():
    with pytest.raises(TypeError):
        has_permission(Permission.WORKFLOW_READ)(lambda: None)()


# --- grants on objects


def test_grants_on_objects_are_the_users_and_their_groups_while_active(make_user):
    ann = make_user("ann")
    first, second, _ = RoleRow.objects.order_by("pk")[:3]
    DjangoPermission.objects.create(
        codename="workflow:read", name="read", content_type=ContentType.objects.get_for_model(RoleRow)
    )
    group = Group.objects.create(name="finance")
    ann.groups.add(group)
    group.permissions.add(DjangoPermission.objects.get(codename="workflow:read", name="read"))  # opens nothing
    assign_perm("workflow:read", ann, first)
    assign_perm("workflow:read", group, second)

    assert set(objects_granted(ann, "workflow:read", RoleRow)) == {first.pk, second.pk}
    assert set(RoleRow.objects.filter(pk__in=objects_granted(ann, "workflow:read", RoleRow))) == {first, second}
    assert ann.has_perm("workflow:read", first)
    assert not ann.has_perm("workflow:read")
    assert not list(objects_granted(make_user("eve", "admin"), "workflow:read", RoleRow))
    assert not list(objects_granted(AnonymousUser(), "workflow:read", RoleRow))
    assert not list(objects_granted(None, "workflow:read", RoleRow))
    flagged = make_user("zoe")
    flagged.is_superuser = True
    assert not list(objects_granted(flagged, "workflow:read", RoleRow))
    ann.is_active = False
    assert not list(objects_granted(ann, "workflow:read", RoleRow))
    permissions.forget(ann)
    assert not ann.has_perm("workflow:read", first)
