"""The admin site: entered by permission, every page by its own, rules of `services` on every form."""

import pytest
from django.contrib import admin
from django.test import Client

from apps.accounts.admin_base import PermissionModelAdmin
from apps.accounts.models import Permission, Role, User
from tests.integration.accounts.conftest import PASSWORD

pytestmark = [pytest.mark.django_db, pytest.mark.urls("tests.integration.accounts.urls")]

HTML = {"Accept": "text/html"}
PAGES = ["user", "role", "permission"]


@pytest.fixture
def browse(make_user):
    def as_user(username):
        client = Client(raise_request_exception=False, headers=HTML)
        assert client.login(username=username, password=PASSWORD)
        return client

    return as_user


@pytest.fixture
def root(make_user, browse):
    make_user("root", "admin")
    return browse("root")


def change(client, user, **fields):
    form = {
        "username": user.username,
        "first_name": "",
        "last_name": "",
        "email": user.email,
        "is_active": "on",
        "roles": [role.pk for role in user.roles.all()],
        **fields,
    }
    form = {name: value for name, value in form.items() if value is not None}
    return client.post(f"/admin/accounts/user/{user.pk}/change/", form)


@pytest.mark.parametrize(
    ("role", "status"), [("admin", 200), ("system", 200), ("user", 302), ("guest", 302), ("agent", 302)]
)
def test_the_site_is_entered_by_permission(make_user, browse, role, status):
    make_user("ann", role)
    assert browse("ann").get("/admin/").status_code == status


@pytest.mark.urls("orchestration.urls")
def test_the_login_page_leads_in_who_may(make_user):
    make_user("sys", "system")
    make_user("ann", "user", email="ann@example.org")
    for username, status in (("sys", 200), ("ann", 403)):
        browser = Client(raise_request_exception=False)
        assert browser.get("/admin/", follow=True).redirect_chain[-1][0] == "/ui/login?next=/admin/"
        form = {"next": "/admin/", "username": username, "password": PASSWORD}
        assert browser.post("/ui/login", form, follow=True).status_code == status
    assert browser.get("/admin/login/?next=https://evil.example/").status_code == 403


def test_every_page_registered_asks_for_our_permissions():
    for model, page in admin.site._registry.items():
        if model._meta.app_label in ("accounts", "auth"):
            assert isinstance(page, PermissionModelAdmin), model


def test_a_page_that_names_no_permission_is_closed(make_user, rf):
    request = rf.get("/")
    request.user = make_user("root", "admin")
    page = PermissionModelAdmin(Role, admin.site)
    assert not any(
        (
            page.has_view_permission(request),
            page.has_add_permission(request),
            page.has_change_permission(request),
            page.has_delete_permission(request),
            page.has_module_permission(request),
        )
    )


@pytest.mark.parametrize("page", PAGES)
def test_lists_have_search_and_filters(root, page):
    assert root.get(f"/admin/accounts/{page}/?q=a").status_code == 200
    model_admin = admin.site._registry[{"user": User, "role": Role, "permission": Permission}[page]]
    assert model_admin.search_fields
    assert model_admin.list_filter


def test_system_reads_permissions_and_no_accounts(make_user, browse):
    make_user("sys", "system")
    client = browse("sys")
    assert client.get("/admin/accounts/permission/").status_code == 200
    for page in ("user", "role"):
        assert client.get(f"/admin/accounts/{page}/").status_code == 403
        assert client.get(f"/admin/accounts/{page}/add/").status_code == 403


def test_permissions_are_read_only_even_for_admins(root):
    pk = Permission.objects.first().pk
    assert root.get("/admin/accounts/permission/add/").status_code == 403
    assert root.get(f"/admin/accounts/permission/{pk}/delete/").status_code == 403
    assert root.post(f"/admin/accounts/permission/{pk}/change/", {"code": "x"}).status_code == 403


def test_a_user_is_added_with_roles(root):
    guest = Role.objects.get(name="guest")
    form = {
        "username": "ann",
        "email": "",
        "usable_password": "true",
        "password1": PASSWORD,
        "password2": PASSWORD,
        "roles": [guest.pk],
    }
    assert root.post("/admin/accounts/user/add/", form).status_code == 302
    ann = User.objects.get(username="ann")
    assert list(ann.roles.all()) == [guest]
    assert ann.check_password(PASSWORD)
    refused = root.post("/admin/accounts/user/add/", {**form, "username": "eve", "password1": "x", "password2": "x"})
    assert refused.status_code == 200
    assert not User.objects.filter(username="eve").exists()


def test_a4_new_roles_end_the_users_tokens(root, make_user, bearer, http):
    ann = make_user("ann", "user")
    header = bearer("ann")
    assert change(root, ann, email="ann@example.org").status_code == 302
    assert http.get("/auth/me", headers=header).status_code == 200  # an address is nothing to a token
    assert change(root, ann, roles=[Role.objects.get(name="guest").pk]).status_code == 302
    assert http.get("/auth/me", headers=header).status_code == 401
    assert [role.name for role in ann.roles.all()] == ["guest"]


def test_a4_disabling_ends_the_users_tokens(root, make_user, bearer, http):
    ann = make_user("ann", "user")
    header = bearer("ann")
    assert change(root, ann, is_active=None).status_code == 302
    assert http.get("/auth/me", headers=header).status_code == 401
    ann.refresh_from_db()
    assert (ann.is_active, ann.token_version) == (False, 1)


def test_a4_a_new_password_ends_the_users_sessions_but_not_the_editors(root, make_user, browse, bearer, http):
    ann = make_user("ann", "system")
    session, header = browse("ann"), bearer("ann")
    form = {"usable_password": "true", "password1": "another good password", "password2": "another good password"}
    form["set-password"] = "Change password"
    assert root.post(f"/admin/accounts/user/{ann.pk}/password/", form).status_code == 302
    ann.refresh_from_db()
    assert ann.check_password("another good password")
    assert http.get("/auth/me", headers=header).status_code == 401
    assert session.get("/admin/").status_code == 302
    assert root.get("/admin/").status_code == 200


def test_a4_ones_own_password(root, bearer, http):
    header = bearer("root")
    form = {
        "old_password": PASSWORD,
        "new_password1": "another good password",
        "new_password2": "another good password",
    }
    assert root.post("/admin/password_change/", form).status_code == 302
    assert http.get("/auth/me", headers=header).status_code == 401
    assert root.get("/admin/").status_code == 200
    assert User.objects.get(username="root").check_password("another good password")


def test_a6_an_open_session_does_not_guess_the_password_in_the_admin(root):
    form = {"new_password1": "another good password", "new_password2": "another good password"}
    guesses = [root.post("/admin/password_change/", {"old_password": "guess", **form}) for _ in range(12)]
    assert [answer.status_code for answer in guesses] == [200] * 10 + [429] * 2
    assert User.objects.get(username="root").check_password(PASSWORD)


@pytest.fixture
def helpdesk(make_user, browse):
    role = Role.objects.create(name="helpdesk")
    role.permissions.set(Permission.objects.filter(code__in=["system:admin", "workflow:read"]))
    make_user("helpdesk", "helpdesk")
    return browse("helpdesk")


def test_a11_the_forms_refuse_a_way_up(helpdesk, make_user):
    root = make_user("root", "admin")
    ann = make_user("ann")
    me = User.objects.get(username="helpdesk")
    admin_role = Role.objects.get(name="admin")
    for user in (ann, me):
        answer = change(helpdesk, user, roles=[admin_role.pk])
        assert answer.status_code == 200
        assert "holds more than you do" in answer.content.decode()
        assert admin_role not in user.roles.all()
    assert change(helpdesk, root, email="mine@example.org").status_code == 403
    assert helpdesk.get(f"/admin/accounts/user/{root.pk}/change/").status_code == 200  # to read
    form = {"usable_password": "true", "password1": "another good password", "password2": "another good password"}
    assert helpdesk.post(f"/admin/accounts/user/{root.pk}/password/", form).status_code == 403
    assert helpdesk.post(f"/admin/accounts/user/{root.pk}/delete/", {"post": "yes"}).status_code == 403
    root.refresh_from_db()
    assert root.check_password(PASSWORD)
    role = Role.objects.get(name="helpdesk")
    answer = helpdesk.post(
        f"/admin/accounts/role/{role.pk}/change/",
        {"name": "helpdesk", "description": "", "permissions": [p.pk for p in Permission.objects.all()]},
    )
    assert answer.status_code == 200
    assert role.permissions.count() == 2


def test_a11_the_last_admin_stays(root):
    me = User.objects.get(username="root")
    for fields in ({"is_active": None}, {"roles": []}):
        answer = change(root, me, **fields)
        assert answer.status_code == 200
        assert "last active admin" in answer.content.decode()
    assert root.post(f"/admin/accounts/user/{me.pk}/delete/", {"post": "yes"}).status_code == 403
    assert User.objects.filter(pk=me.pk, is_active=True, roles__name="admin").exists()


def test_the_roles_of_every_installation_keep_their_names(root):
    guest = Role.objects.get(name="guest")
    answer = root.post(
        f"/admin/accounts/role/{guest.pk}/change/",
        {"name": "renamed", "description": "Reads", "permissions": [Permission.objects.get(code="task:read").pk]},
    )
    assert answer.status_code == 302
    guest.refresh_from_db()
    assert (guest.name, guest.description) == ("guest", "Reads")
    assert [p.code for p in guest.permissions.all()] == ["task:read"]
    assert root.post(f"/admin/accounts/role/{guest.pk}/delete/", {"post": "yes"}).status_code == 403


def test_a_user_can_be_deleted(root, make_user):
    ann = make_user("ann", "user")
    assert root.post(f"/admin/accounts/user/{ann.pk}/delete/", {"post": "yes"}).status_code == 302
    assert not User.objects.filter(username="ann").exists()


def test_a24_hostile_names_are_text(root, make_user):
    Role.objects.create(name="<img src=x onerror=alert(1)>", description="<script>alert(1)</script>")
    html = root.get("/admin/accounts/role/").content.decode()
    assert "<img src=x" not in html
    assert "<script>alert" not in html
