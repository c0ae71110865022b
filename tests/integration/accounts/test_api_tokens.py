"""API tokens: shown once, less than their owner, dead with their owner, never a way to more."""

import hashlib
import json
from datetime import timedelta

import pytest
from django.core.cache import cache
from django.test import AsyncClient
from django.utils import timezone
from guardian.shortcuts import assign_perm

from apps.accounts import api_tokens, services
from apps.accounts.models import ApiToken, Permission, Role, User
from apps.core.errors import Unauthenticated
from apps.workflows.services import workflows
from tests.integration.accounts.conftest import PASSWORD

pytestmark = pytest.mark.django_db


@pytest.fixture
def call(http):
    """Any request with a token, or with a header."""

    def send(method, path, token=None, body=None, **headers):
        given = {"Authorization": f"Bearer {token}"} if token else headers
        return http.generic(method.upper(), path, json.dumps(body or {}), "application/json", headers=given)

    return send


@pytest.fixture
def make_token(db):
    def make(user, *permissions, **values):
        return api_tokens.create(by=user, name="ci", wanted=permissions, expires_in_days=1, **values)[1]

    return make


def workflow(name, owner):
    return workflows.create({"name": name, "steps": [{"id": "a", "python": "builtin.noop"}]}, by=owner)


def test_it_is_shown_once_and_only_its_digest_is_kept(make_user, bearer, call):
    make_user("ann", "user")
    asked = {"name": "prometheus", "permissions": ["monitoring:read"], "expires_in_days": 90}
    made = call("post", "/auth/api-tokens", body=asked, **bearer("ann"))
    assert made.status_code == 201
    raw = made.json()["token"]
    assert raw.startswith("aop_")
    row = ApiToken.objects.get()
    assert row.digest == hashlib.sha256(raw.encode()).hexdigest()
    assert raw not in json.dumps([str(value) for value in vars(row).values()])
    assert timedelta(days=89) < row.expires_at - timezone.now() < timedelta(days=91)
    listed = call("get", "/auth/api-tokens", **bearer("ann")).json()["results"]
    assert [one["name"] for one in listed] == ["prometheus"]
    assert "token" not in listed[0]
    assert raw not in str(listed)


def test_it_opens_what_its_scope_and_its_owner_have_in_common(make_user, make_token, call):
    ann = make_user("ann", "user")
    token = make_token(ann, "monitoring:read")
    assert call("get", "/monitoring/metrics", token).status_code == 200
    assert call("get", "/workflows", token).json()["results"] == []
    assert call("get", "/schema", token).status_code == 403
    me = call("get", "/auth/me", token).json()
    assert (me["permissions"], me["roles"], me["workflows"]) == (["monitoring:read"], [], None)


def test_what_the_owner_loses_his_tokens_lose(make_user, make_token, call):
    ann = make_user("ann", "user")
    token = make_token(ann, "monitoring:read")
    services.set_roles(ann, [Role.objects.get(name="agent")], by=None)
    assert call("get", "/monitoring/metrics", token).status_code == 403
    assert call("get", "/auth/me", token).json()["permissions"] == []


def test_a_scope_bounds_ownership_and_grants_too(make_user, make_token, call):
    ann, bob = make_user("ann", "user"), make_user("bob", "user")
    own, shared = workflow("Own", ann), workflow("Shared", bob)
    assign_perm("workflow:delete", ann, shared)
    token = make_token(ann, "workflow:read")
    assert call("get", "/workflows/own", token).status_code == 200
    for slug in (own.slug, shared.slug):
        assert call("delete", f"/workflows/{slug}", token).status_code == 403
        assert call("post", f"/workflows/{slug}/execute", token).status_code == 403


def test_a9_a_token_of_single_workflows_reaches_no_other(make_user, make_token, call):
    ann = make_user("ann", "user")
    workflow("Mine", ann), workflow("Other", ann)
    scope = ["workflow:read", "workflow:execute", "workflow:delete"]
    token = make_token(ann, *scope, workflows=["mine"])
    assert [one["id"] for one in call("get", "/workflows", token).json()["results"]] == ["mine"]
    assert call("post", "/workflows/mine/execute", token).status_code == 202
    foreign, missing = call("get", "/workflows/other", token), call("get", "/workflows/nothing", token)
    assert foreign.status_code == missing.status_code == 404
    assert {**foreign.json(), "request_id": ""} == {**missing.json(), "request_id": ""}
    assert call("post", "/workflows/other/execute", token).status_code == 404
    assert call("post", "/workflows", token, {"name": "New", "steps": []}).status_code == 403
    assert call("get", "/monitoring/metrics", token).status_code == 403
    listed = call("get", "/executions", token).json()["results"]
    assert {one["workflow_id"] for one in listed} == {"mine"}
    assert call("get", "/auth/me", token).json()["workflows"] == ["mine"]


def test_a_token_of_single_workflows_reports_on_no_new_tracker(make_user, make_token, call):
    ann = make_user("ann", "agent")
    token = make_token(ann, "progress:update", "progress:read", workflows=["t"])
    report = {"workflow_id": "u", "percent_complete": 5, "status": "in_progress"}
    assert call("post", "/progress/update", token, report).status_code in (403, 409)
    assert call("post", "/progress/update", make_token(ann, "progress:update"), report).status_code == 200


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"permissions": ["system:admin"]}, 403),
        ({"role": "admin"}, 403),
        ({"permissions": ["no:such"]}, 400),
        ({"permissions": []}, 400),
        ({"permissions": None}, 400),
        ({"role": "nothing"}, 400),
        ({"permissions": ["task:read"], "role": "guest"}, 400),
        ({"permissions": ["task:read"], "expires_in_days": 366}, 400),
        ({"permissions": ["task:read"], "expires_in_days": 0}, 400),
        ({"permissions": ["monitoring:read"], "workflows": ["a"]}, 400),
        ({"permissions": ["task:read"], "workflows": ["../x"]}, 400),
        ({"permissions": ["task:read"], "owner": "root"}, 400),
        ({"permissions": ["task:read"], "digest": "0"}, 400),
        ({"permissions": ["task:read"], "name": "\0"}, 400),
        ({"permissions": ["task:read"], "name": ""}, 400),
        ({"permissions": ["task:read"]}, 201),
        ({"role": "guest"}, 201),
    ],
)
def test_a10_what_may_be_asked_of_a_token(make_user, bearer, call, change, status):
    make_user("ann", "user")
    answer = call("post", "/auth/api-tokens", body={"name": "x", "expires_in_days": 1, **change}, **bearer("ann"))
    assert answer.status_code == status, answer.json()
    assert ApiToken.objects.count() == (status == 201)


def test_there_is_a_bound_on_tokens_of_an_account(make_user, make_token, monkeypatch):
    monkeypatch.setattr(api_tokens, "MAX_TOKENS", 2)
    ann = make_user("ann", "user")
    make_token(ann, "task:read"), make_token(ann, "task:read")
    with pytest.raises(api_tokens.Conflict):
        make_token(ann, "task:read")


def test_nobody_sees_or_revokes_anothers(make_user, make_token, bearer, call):
    ann = make_user("ann", "user")
    make_user("eve", "admin")
    token = make_token(ann, "task:read")
    path = f"/auth/api-tokens/{ApiToken.objects.get().pk}"
    eve = bearer("eve")
    assert call("get", "/auth/api-tokens", **eve).json()["results"] == []
    assert call("delete", path, **eve).status_code == call("get", path, **eve).status_code == 404
    assert call("get", "/auth/me", token).status_code == 200
    assert call("delete", path, **bearer("ann")).status_code == 204
    assert call("get", "/auth/me", token).status_code == 401


TO_MORE = {
    "make a token": ("post", "/auth/api-tokens", {"name": "x", "permissions": ["task:read"], "expires_in_days": 1}),
    "list tokens": ("get", "/auth/api-tokens", {}),
    "change the password": ("post", "/auth/password", {"current_password": PASSWORD, "new_password": "x" * 20}),
    "end all logins": ("post", "/auth/logout-all", {"api_tokens": True}),
    "end a login": ("post", "/auth/logout", {}),
    "make an account": ("post", "/users", {"username": "eve", "roles": ["admin"]}),
    "change an account": ("put", "/users/{id}", {"roles": []}),
    "reset a password": ("post", "/users/{id}/reset-password", {}),
    "delete an account": ("delete", "/users/{id}", {}),
    "make a role": ("post", "/roles", {"name": "eve", "permissions": ["task:read"]}),
    "change a role": ("put", "/roles/guest", {"permissions": []}),
    "delete a role": ("delete", "/roles/own", {}),
    "grant": ("put", "/workflows/w/grants", {"user": "bob", "permissions": ["read"]}),
    "take a grant": ("delete", "/workflows/w/grants?user=bob", {}),
}


@pytest.mark.parametrize("what", TO_MORE)
def test_a11_a_token_makes_no_tokens_changes_no_password_and_grants_nothing(make_user, make_token, bearer, call, what):
    root, bob = make_user("root", "admin"), make_user("bob")
    make_user("other", "admin")
    Role.objects.create(name="own")
    assign_perm("workflow:read", bob, workflow("W", root))
    token = make_token(root, *Permission.objects.values_list("code", flat=True))
    method, path, body = TO_MORE[what]
    path = path.format(id=bob.pk)
    refused = call(method, path, token, body)
    assert (refused.status_code, refused.json()["code"]) == (403, "person_required")
    assert call("get", "/users", token).status_code == 200  # what it may read it reads
    assert call(method, path, body=body, **bearer("root")).status_code in (200, 201, 204)


def test_a4_it_outlives_a_new_password_and_a_logout(make_user, make_token, login, call):
    ann = make_user("ann", "user")
    token = make_token(ann, "task:read")
    services.set_password(ann, "another good password", by=None)
    access = login("ann", "another good password").json()["access_token"]
    assert call("post", "/auth/logout-all", access).status_code == 204
    assert call("get", "/auth/me", token).status_code == 200
    assert call("get", "/auth/me", access).status_code == 401


ENDINGS = {
    "disabling": lambda ann: services.set_active(ann, False, by=None),
    "disabling and enabling": lambda ann: [services.set_active(ann, on, by=None) for on in (False, True)],
    "disabling past the services": lambda ann: User.objects.filter(pk=ann.pk).update(is_active=False),
    "deleting the account": lambda ann: services.delete_user(ann, by=None),
    "expiry": lambda ann: ApiToken.objects.update(expires_at=timezone.now()),
    "revoking": lambda ann: api_tokens.revoke(ApiToken.objects.get()),
}


@pytest.mark.parametrize("ending", ENDINGS)
def test_a4_what_ends_it_ends_it_at_the_next_request(make_user, make_token, call, ending):
    ann = make_user("ann", "user")
    token = make_token(ann, "task:read")
    assert call("get", "/auth/me", token).status_code == 200
    ENDINGS[ending](ann)
    assert call("get", "/auth/me", token).status_code == 401


def test_a4_logout_all_ends_it_where_asked(make_user, make_token, login, call):
    ann = make_user("ann", "user")
    token = make_token(ann, "task:read")
    access = login("ann").json()["access_token"]
    assert call("post", "/auth/logout-all", access, {"api_token": True}).status_code == 400
    assert call("post", "/auth/logout-all", access, {"api_tokens": True}).status_code == 204
    assert call("get", "/auth/me", token).status_code == 401


@pytest.mark.parametrize(
    "raw", ["aop_", "aop_x", "aop_" + "A" * 43, "aop_" + "A" * 7000, "aop_" + "é" * 43, "AOP_" + "A" * 43]
)
def test_a2_a_token_that_is_none_is_a_401(call, raw):
    with pytest.raises(Unauthenticated):
        api_tokens.user_of(api_tokens.parse(raw) or api_tokens.ApiKey(digest=""))
    answer = call("get", "/auth/me", raw.encode().decode("latin1"))
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"] == "Bearer"


def test_its_last_use_is_noted_now_and_then(make_user, make_token, call, django_assert_num_queries):
    token = make_token(make_user("ann", "user"), "task:read")
    assert ApiToken.objects.get().last_used_at is None
    call("get", "/auth/me", token)
    first = ApiToken.objects.get().last_used_at
    assert first is not None
    with django_assert_num_queries(2):  # the token with its owner, and his roles
        call("get", "/auth/me", token)
    assert ApiToken.objects.get().last_used_at == first
    ApiToken.objects.update(last_used_at=first - 2 * api_tokens.COARSE)
    call("get", "/auth/me", token)
    assert ApiToken.objects.get().last_used_at >= first


def test_it_spends_its_owners_allowance_and_a_forged_one_its_addresss(make_user, make_token, call, set_env):
    token = make_token(make_user("ann", "user"), "task:read")
    cache.clear()
    set_env(RATE_LIMIT_USER="3/m")
    forged = [call("get", "/auth/me", f"aop_{number:043}").status_code for number in range(5)]
    assert forged == [401] * 3 + [429] * 2
    assert [call("get", "/auth/me", token).status_code for _ in range(5)] == [200] * 3 + [429] * 2


@pytest.mark.django_db(transaction=True)
async def test_the_async_road_takes_it(make_user, make_token, set_env):
    from asgiref.sync import sync_to_async

    token = await sync_to_async(lambda: make_token(make_user("ann", "user"), "task:read"))()
    client = AsyncClient()
    headers = {"Authorization": f"Bearer {token}"}
    assert (await client.get("/auth/me", headers=headers)).status_code == 200
    assert (await client.get("/auth/me", headers={"Authorization": "Bearer aop_" + "A" * 43})).status_code == 401
