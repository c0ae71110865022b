"""The admin's pages of API tokens and grants, and the ways up that they do not offer (A11)."""

import pytest
from django.contrib.auth.models import Group
from django.contrib.auth.models import Permission as DjangoPermission
from django.test import Client

from apps.accounts import api_tokens
from apps.accounts.models import ApiToken, Permission, Role, User
from apps.workflows.models import WorkflowGroupPermission, WorkflowUserPermission
from apps.workflows.services import grants, workflows
from tests.integration.accounts.conftest import PASSWORD

pytestmark = pytest.mark.django_db

USER_GRANT, GROUP_GRANT = "/admin/workflows/workflowuserpermission/", "/admin/workflows/workflowgrouppermission/"
TOKEN = "/admin/accounts/apitoken/"
PAGES = [USER_GRANT, GROUP_GRANT, TOKEN]


@pytest.fixture
def browse(make_user):
    def as_user(username, *roles):
        make_user(username, *roles)
        client = Client(raise_request_exception=False, headers={"Accept": "text/html"})
        assert client.login(username=username, password=PASSWORD)
        return client

    return as_user


@pytest.fixture
def root(browse):
    return browse("root", "admin")


@pytest.fixture
def helpdesk(browse):
    role = Role.objects.create(name="helpdesk")
    role.permissions.set(Permission.objects.filter(code__in=["system:admin", "system:read", "workflow:read"]))
    return browse("helpdesk", "helpdesk")


@pytest.fixture
def own(make_user):
    return workflows.create(
        {"name": "Own", "steps": [{"id": "a", "python": "builtin.noop"}]}, by=make_user("ann", "user")
    )


def form(workflow, verb, **to):
    permission = DjangoPermission.objects.get(codename=f"workflow:{verb}", content_type__app_label="workflows")
    return {"content_object": workflow.pk, "permission": permission.pk, **to}


@pytest.mark.parametrize("page", PAGES)
def test_lists_have_search_and_filters(root, own, page):
    ann = User.objects.get(username="ann")
    group = Group.objects.create(name="finance")
    api_tokens.create(by=ann, name="ci", wanted=["task:read"], expires_in_days=1)
    grants.grant(own, ann, ["read"], by=ann)
    grants.grant(own, group, ["read"], by=ann)
    for query in ("", "?q=ann", "?q=own", "?q=zzz"):
        assert root.get(page + query).status_code == 200
    assert "ann" in root.get(TOKEN).content.decode()
    row = {USER_GRANT: WorkflowUserPermission, GROUP_GRANT: WorkflowGroupPermission, TOKEN: ApiToken}[
        page
    ].objects.get()
    assert root.get(f"{page}{row.pk}/change/").status_code == 200


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize("role", ["system", "user", "guest"])
def test_a11_staff_without_system_admin_does_not_climb(browse, own, page, role):
    client = browse("eve", role)
    eve = User.objects.get(username="eve")
    refused = 403 if role == "system" else 302  # the site itself is closed to the others
    for where in (page, f"{page}add/"):
        assert client.get(where).status_code == refused
        assert client.post(where, form(own, "delete", user=eve.pk)).status_code == refused
    for where in ("user/add/", f"user/{eve.pk}/change/", "role/add/", "../auth/group/add/"):
        assert client.post(f"/admin/accounts/{where}", {"roles": [Role.objects.get(name="admin").pk]}).status_code in (
            refused,
            404,
        )
    assert not WorkflowUserPermission.objects.exists()
    assert [role.name for role in eve.roles.all()] == [role]


def test_a_grant_is_given_and_taken_back(root, own, make_user):
    bob, group = make_user("bob"), Group.objects.create(name="finance")
    assert root.post(f"{USER_GRANT}add/", form(own, "execute", user=bob.pk)).status_code == 302
    assert root.post(f"{GROUP_GRANT}add/", form(own, "read", group=group.pk)).status_code == 302
    row = WorkflowUserPermission.objects.get(user=bob)
    assert WorkflowGroupPermission.objects.get(group=group).permission.codename == "workflow:read"
    assert root.post(f"{USER_GRANT}{row.pk}/change/", form(own, "delete", user=bob.pk)).status_code == 403
    assert root.post(f"{USER_GRANT}{row.pk}/delete/", {"post": "yes"}).status_code == 302
    assert not WorkflowUserPermission.objects.exists()


def test_a11_nobody_grants_in_the_admin_what_they_lack(helpdesk, own, make_user):
    bob = make_user("bob")
    me = User.objects.get(username="helpdesk")
    for verb, whom in (("delete", bob), ("execute", me)):
        answer = helpdesk.post(f"{USER_GRANT}add/", form(own, verb, user=whom.pk))
        assert answer.status_code == 200
        assert f"You do not hold workflow:{verb}" in answer.content.decode()
    assert helpdesk.post(f"{USER_GRANT}add/", form(own, "read", user=bob.pk)).status_code == 302
    ann = User.objects.get(username="ann")
    grants.grant(own, bob, ["read", "delete"], by=ann)
    row = WorkflowUserPermission.objects.get(permission__codename="workflow:delete")
    assert helpdesk.post(f"{USER_GRANT}{row.pk}/delete/", {"post": "yes"}).status_code == 403
    foreign = DjangoPermission.objects.filter(content_type__app_label="auth").first()
    odd = {"content_object": own.pk, "permission": foreign.pk, "user": bob.pk}
    assert helpdesk.post(f"{USER_GRANT}add/", odd).status_code == 200
    assert WorkflowUserPermission.objects.count() == 2


def test_a_token_is_revoked_and_never_made_or_changed(root, helpdesk, make_user, http):
    ann = make_user("ann", "guest")
    raw = api_tokens.create(by=ann, name="ci", wanted=["task:read"], expires_in_days=1)[1]
    token = ApiToken.objects.get()
    assert root.get(f"{TOKEN}add/").status_code == 403
    assert root.post(f"{TOKEN}{token.pk}/change/", {"permissions": '["system:admin"]'}).status_code == 403
    assert token.digest not in root.get(f"{TOKEN}{token.pk}/change/").content.decode()
    assert helpdesk.post(f"{TOKEN}{token.pk}/delete/", {"post": "yes"}).status_code == 403  # ann holds more
    assert root.post(f"{TOKEN}{token.pk}/delete/", {"post": "yes"}).status_code == 302
    assert http.get("/auth/me", headers={"Authorization": f"Bearer {raw}"}).status_code == 401


def test_a11_nobody_joins_a_group_by_the_admin_to_get_what_was_shared_with_it(helpdesk, root, make_user):
    group = Group.objects.create(name="finance")
    me = User.objects.get(username="helpdesk")
    fields = {"username": "helpdesk", "first_name": "", "last_name": "", "email": "", "is_active": "on"}
    given = {**fields, "roles": [me.roles.get().pk], "groups": [group.pk]}
    answer = helpdesk.post(f"/admin/accounts/user/{me.pk}/change/", given)
    assert answer.status_code == 200
    assert "no member of it" in answer.content.decode()
    assert not me.groups.exists()
    assert root.post(f"/admin/accounts/user/{me.pk}/change/", given).status_code == 302
    assert list(me.groups.all()) == [group]


def test_a_role_deleted_in_the_admin_ends_the_sessions_of_who_had_it(root, make_user, bearer, http):
    role = Role.objects.create(name="own")
    role.permissions.set(Permission.objects.filter(code="task:read"))
    make_user("ann", "own")
    header = bearer("ann")
    assert root.post(f"/admin/accounts/role/{role.pk}/delete/", {"post": "yes"}).status_code == 302
    assert http.get("/auth/me", headers=header).status_code == 401
