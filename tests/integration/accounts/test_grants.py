"""Sharing one workflow, and the explanation of every decision."""

import json

import pytest
from django.contrib.auth.models import AnonymousUser, Group
from django.db.models import CASCADE, ForeignKey
from django.test.utils import isolate_apps
from guardian.shortcuts import assign_perm

from apps.accounts import api_tokens, permissions, services
from apps.accounts.audit.models import AuditEntry
from apps.accounts.grants import count_shared_with, objects_granted_to_roles
from apps.accounts.models import Permission, Role, RoleObjectPermission, User
from apps.accounts.permissions import OF_WORKFLOWS
from apps.accounts.permissions import Permission as P
from apps.accounts.single_things import held_on_single_things
from apps.core.errors import Denied
from apps.workflows.models import Workflow, WorkflowRolePermission
from apps.workflows.selectors.grants import explain
from apps.workflows.services import workflows
from apps.workflows.services.grants import grant

pytestmark = pytest.mark.django_db
PATH = "/workflows/own/grants"


@pytest.fixture
def call(http, bearer):
    def send(method, path, who=None, body=None):
        headers = bearer(who) if who else {}
        return http.generic(method.upper(), path, json.dumps(body or {}), "application/json", headers=headers)

    return send


@pytest.fixture
def own(make_user):
    """A workflow of ann's, who has the role `user`; bob has no role."""
    make_user("bob")
    return workflows.create(
        {"name": "Own", "steps": [{"id": "a", "python": "builtin.noop"}]}, by=make_user("ann", "user")
    )


@pytest.mark.parametrize("way", ["owner", "person", "group", "role"])
def test_a11_nobody_enters_an_account_to_get_what_it_has_on_single_things(own, call, make_user, way):
    """Who administers accounts and has few rights resets no password of one with a workflow that he may not read."""
    keeper = Role.objects.create(name="keeper")
    keeper.permissions.add(Permission.objects.get(code="system:admin"))
    root, eve, bob = make_user("root", "admin"), make_user("eve", "keeper"), User.objects.get(username="bob")
    if way == "owner":
        Workflow.objects.filter(pk=own.pk).update(owner=bob)
    elif way == "person":
        assign_perm("workflow:read", bob, own)
    elif way == "group":
        group = Group.objects.create(name="finance")
        bob.groups.add(group)
        assign_perm("workflow:read", group, own)
    else:
        bob.roles.add(role := Role.objects.create(name="readers"))
        grant(own, role, ["read"], by=root)
    resets = f"/users/{bob.pk}/reset-password"
    assert call("post", resets, "eve").status_code == 403
    with pytest.raises(Denied):
        services.set_password(bob, "another good password", by=eve)
    assert call("put", f"/users/{bob.pk}", "eve", {"is_active": False}).status_code == 200  # it lets nobody in
    assert call("put", f"/users/{bob.pk}", "eve", {"is_active": True}).status_code == 403
    assert call("post", resets, "root").status_code == 200
    if way == "role":  # what one has oneself by the same role is nothing new
        eve.roles.add(role)
        assert call("post", resets, "eve").status_code == 200


@isolate_apps("apps.workflows")
def test_grants_are_of_the_kinds_that_the_installed_apps_have(own, make_user):
    """A class that somebody has imported, or made of another one, is no kind of grants by that alone."""

    class Imported(RoleObjectPermission):
        content_object = ForeignKey(Workflow, on_delete=CASCADE)

        class Meta:
            app_label = "workflows"

    root, bob = make_user("root", "admin"), User.objects.get(username="bob")
    bob.roles.add(role := Role.objects.create(name="readers"))
    grant(own, role, ["read"], by=root)
    assert Imported in RoleObjectPermission.__subclasses__(), "the control"
    assert count_shared_with(role) == 1
    assert held_on_single_things(bob, apart_from=root) == {"workflow:read"}


def test_the_owner_shares_and_takes_back(call, own):
    assert call("get", "/workflows/own", "bob").status_code == 404
    answer = call("put", PATH, "ann", {"user": "bob", "permissions": ["read", "execute"]})
    assert (answer.status_code, answer.json()) == (
        200, {"user": "bob", "group": None, "role": None, "permissions": ["read", "execute"]}
    )  # fmt: skip
    assert call("get", "/workflows/own", "bob").status_code == 200
    assert call("post", "/workflows/own/execute", "bob").status_code == 202
    assert call("delete", "/workflows/own", "bob").status_code == 403
    assert call("put", PATH, "ann", {"user": "bob", "permissions": ["read"]}).status_code == 200
    assert call("post", "/workflows/own/execute", "bob").status_code == 403
    assert call("delete", PATH + "?user=bob", "ann").status_code == 204
    assert call("get", "/workflows/own", "bob").status_code == 404
    assert call("get", PATH, "ann").json() == []


def test_what_was_granted_to_a_role_is_its_active_accounts(call, own, make_user):
    Role.objects.create(name="auditors")
    call("put", PATH, "ann", {"role": "auditors", "permissions": ["read"]})
    zoe, other = make_user("zoe", "auditors"), make_user("eve")

    def granted(user, code="workflow:read"):
        return list(objects_granted_to_roles(user, code, WorkflowRolePermission))

    assert granted(zoe) == [own.pk]
    assert granted(zoe, "workflow:update") == granted(other) == granted(AnonymousUser()) == granted(None) == []
    zoe.is_active = False
    assert granted(zoe) == []


def test_a_group_shares_with_its_members(call, own):
    group = Group.objects.create(name="finance")
    User.objects.get(username="bob").groups.add(group)
    call("put", PATH, "ann", {"group": "finance", "permissions": ["read"]})
    call("put", PATH, "ann", {"user": "bob", "permissions": ["read", "update"]})
    assert call("get", "/workflows/own", "bob").status_code == 200
    assert call("get", PATH, "ann").json() == [
        {"user": "bob", "group": None, "role": None, "permissions": ["read", "update"]},
        {"user": None, "group": "finance", "role": None, "permissions": ["read"]},
    ]
    assert call("delete", PATH + "?group=finance", "ann").status_code == 204
    assert len(call("get", PATH, "ann").json()) == 1


def test_a_role_shares_with_all_who_have_it(call, own, make_user):
    auditors = Role.objects.create(name="auditors")
    bob = User.objects.get(username="bob")
    make_user("eve"), make_user("off", "auditors", is_active=False)
    answer = call("put", PATH, "ann", {"role": "auditors", "permissions": ["read", "update"]})
    assert answer.json() == {"user": None, "group": None, "role": "auditors", "permissions": ["read", "update"]}
    assert call("get", "/workflows/own", "bob").status_code == 404
    bob.roles.add(auditors)
    assert call("get", "/workflows/own", "bob").status_code == 200
    assert [row["id"] for row in call("get", "/workflows", "bob").json()["results"]] == ["own"]
    assert call("post", "/workflows/own/execute", "bob").status_code == 403
    assert call("get", "/workflows/own", "eve").status_code == 404
    assert not Workflow.objects.visible_to(User.objects.get(username="off"), P.WORKFLOW_READ).exists()
    assert not Workflow.objects.visible_to(AnonymousUser(), P.WORKFLOW_READ).exists()
    why = call("get", "/auth/explain?permission=workflow:read&object=own", "bob").json()
    assert why["given_by"] == [{"kind": "role_grant", "name": "auditors"}]
    assert call("get", PATH, "ann").json()[0]["role"] == "auditors"
    told = AuditEntry.objects.filter(action="grant.granted").values_list("after", flat=True)
    assert {"role": "auditors", "permission": "workflow:read"} in list(told)
    assert call("delete", PATH + "?role=auditors", "ann").status_code == 204
    assert call("get", "/workflows/own", "bob").status_code == 404
    assert call("put", PATH, "ann", {"role": "nobody-has-it", "permissions": ["read"]}).status_code == 400


def test_a11_nobody_takes_a_role_to_get_what_was_shared_with_it(call, own, make_user):
    helpdesk = Role.objects.create(name="helpdesk")
    Role.objects.create(name="auditors")
    helpdesk.permissions.set(Permission.objects.filter(code="system:admin"))
    eve, root = make_user("eve", "helpdesk"), make_user("root", "admin")
    call("put", PATH, "ann", {"role": "auditors", "permissions": ["read"]})
    for asked in ({"roles": ["helpdesk", "auditors"]}, {"roles": ["auditors"]}):
        assert call("put", f"/users/{eve.pk}", "eve", asked).status_code == 403
    assert call("post", "/users", "eve", {"username": "puppet", "roles": ["auditors"]}).status_code == 403
    assert call("delete", "/roles/auditors", "eve").status_code == 403
    assert call("put", f"/users/{eve.pk}", "root", {"roles": ["helpdesk", "auditors"]}).status_code == 200
    bob = User.objects.get(username="bob")
    assert call("put", f"/users/{bob.pk}", "eve", {"roles": ["auditors"]}).status_code == 200  # who has it may give it
    assert root.is_active


def test_a11_only_owners_and_administrators_share_and_only_what_they_have(call, own, make_user):
    make_user("eve", "user")
    role = Role.objects.create(name="helpdesk")
    role.permissions.set(Permission.objects.filter(code__in=["system:admin", "workflow:read"]))
    make_user("helpdesk", "helpdesk")
    make_user("root", "admin")
    share = {"user": "bob", "permissions": ["delete"]}
    assert call("put", PATH, "eve", share).status_code == 403
    assert call("get", PATH, "eve").status_code == 403
    assert call("put", PATH, "helpdesk", share).status_code == 403
    assert call("put", PATH, "helpdesk", {"user": "helpdesk", "permissions": ["execute"]}).status_code == 403
    assert call("put", PATH, "helpdesk", {"user": "bob", "permissions": ["read"]}).status_code == 200
    assert call("put", PATH, "root", share).status_code == 200
    assert call("delete", PATH + "?user=bob", "helpdesk").status_code == 403  # nor takes it away
    assert call("put", PATH, "ann", {"user": "bob", "permissions": []}).status_code == 200


def test_a_grant_is_no_right_to_share(call, own):
    call("put", PATH, "ann", {"user": "bob", "permissions": ["read", "update", "execute", "delete"]})
    assert call("get", PATH, "bob").status_code == 403
    assert call("put", PATH, "bob", {"user": "bob", "permissions": ["read"]}).status_code == 403


def test_a9_a_foreign_workflow_is_none(call, own):
    share = {"user": "bob", "permissions": ["read"]}
    for method, query in (("get", ""), ("put", ""), ("delete", "?user=bob")):
        answers = [call(method, f"/workflows/{slug}/grants{query}", "bob", share) for slug in ("own", "nothing")]
        bodies = [{**answer.json(), "request_id": ""} for answer in answers]
        assert [answer.status_code for answer in answers] == [404, 404]
        assert bodies[0] == bodies[1]
        assert call(method, f"{PATH}{query}", None, share).status_code == 401


def test_a_workflow_without_an_owner_is_nobodys(call, own, make_user, set_env):
    Workflow.objects.update(owner=None)
    set_env(ANONYMOUS_ROLE="guest")
    assert call("get", PATH).status_code == 401
    make_user("root", "admin")
    assert call("get", PATH, "root").status_code == 200


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"permissions": ["read"]}, "/user"),
        ({"user": "bob", "group": "x", "permissions": ["read"]}, "/user"),
        ({"user": "nobody", "permissions": ["read"]}, "/user"),
        ({"group": "nobody", "permissions": ["read"]}, "/group"),
        ({"user": "bob", "permissions": ["admin"]}, "/permissions/0"),
        ({"user": "bob", "permissions": ["read"] * 5}, "/permissions"),
        ({"user": "bob"}, "/permissions"),
        ({"user": "bob", "permissions": ["read"], "owner": "bob"}, "/owner"),
        ({"user": ["bob"], "permissions": ["read"]}, "/user"),
    ],
)
def test_a10_what_is_wrong_is_named(call, own, body, pointer):
    answer = call("put", PATH, "ann", body)
    assert answer.status_code == 400
    assert [error["pointer"] for error in answer.json()["errors"]] == [pointer]


# --- explain


def explained(call, who, **query):
    asked = "&".join(f"{name}={value}" for name, value in query.items())
    return call("get", f"/auth/explain?{asked}", who)


def test_it_says_what_decided(call, own, make_user):
    make_user("root", "admin", "guest")
    told = explained(call, "ann", permission="workflow:read", object="own").json()
    assert told["allowed"] is True
    assert [(one["kind"], one["name"]) for one in told["given_by"]] == [("role", "user"), ("ownership", "ann")]
    call("put", PATH, "ann", {"user": "bob", "permissions": ["read"]})
    told = explained(call, "root", user="bob", permission="progress:read", object="own").json()
    assert [(one["kind"], one["name"]) for one in told["given_by"]] == [("grant", "bob")]
    told = explained(call, "root", user="bob", permission="workflow:delete", object="own").json()
    assert (told["allowed"], told["given_by"]) == (False, [])
    told = explained(call, "root", permission="workflow:read").json()
    assert [one["name"] for one in told["given_by"]] == ["admin", "guest"]
    User.objects.filter(username="ann").update(is_active=False)
    told = explained(call, "root", user="ann", permission="workflow:read", object="own").json()
    assert (told["allowed"], told["denied_by"]) == (False, [{"kind": "inactive", "name": "ann"}])


def test_a9_it_tells_nobody_of_others(call, own, make_user):
    make_user("root", "admin")
    for name in ("ann", "nobody"):
        assert explained(call, "bob", user=name, permission="workflow:read").status_code == 403
    assert explained(call, "root", user="nobody", permission="workflow:read").status_code == 404
    answers = [explained(call, "bob", permission="workflow:read", object=slug) for slug in ("own", "nothing")]
    assert [answer.status_code for answer in answers] == [404, 404]
    assert explained(call, None, permission="workflow:read").status_code == 401


@pytest.mark.parametrize(
    "query", [{}, {"permission": "no:such"}, {"permission": "system:read", "object": "own"}, {"permission": "%00"}]
)
def test_a21_what_it_cannot_answer_is_a_400(call, own, query):
    assert explained(call, "ann", **query).status_code == 400


def test_it_agrees_with_the_gate_in_every_cell(own, make_user):
    """Every permission x role x relation: what it tells is what the gate does, and it never allows without a reason."""
    group = Group.objects.create(name="finance")
    relations = {
        "none": lambda user: None,
        "own": lambda user: Workflow.objects.update(owner=user),
        "read": lambda user: permissions_on(own, user, "read"),
        "group": lambda user: (user.groups.add(group), permissions_on(own, group, "update")),
        "off": lambda user: (Workflow.objects.update(owner=user), User.objects.filter(pk=user.pk).update(is_active=0)),
    }
    for role in ("admin", "user", "agent", "system", "guest", None):
        for relation, relate in relations.items():
            user = make_user(f"{role}-{relation}", *([role] if role else []))
            relate(user)
            user, own = User.objects.get(pk=user.pk), Workflow.objects.get()
            for permission in P:
                told = explain(user, permission, None)
                assert told.allowed == permissions.holds(user, permission) == bool(told.given_by and user.is_active)
                if permission in OF_WORKFLOWS:
                    told = explain(user, permission, own)
                    seen = Workflow.objects.visible_to(user, permission).filter(pk=own.pk).exists()
                    assert told.allowed == seen == bool(told.given_by and not told.denied_by), (role, relation)
    assert not Workflow.objects.visible_to(AnonymousUser(), P.WORKFLOW_READ).exists()


def permissions_on(workflow, to, verb):
    from guardian.shortcuts import assign_perm

    assign_perm(f"workflow:{verb}", to, workflow)


def test_an_api_token_hears_of_its_scope(http, own):
    ann = User.objects.get(username="ann")
    token = api_tokens.create(by=ann, name="ci", wanted=["workflow:read"], expires_in_days=1)[1]
    answer = http.get(
        "/auth/explain?permission=workflow:execute&object=own", headers={"Authorization": f"Bearer {token}"}
    ).json()
    assert (answer["allowed"], [one["kind"] for one in answer["denied_by"]]) == (False, ["api_token"])
