"""/users, /roles and passwords over HTTP: who may, what is refused, and that the last admin stays."""

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from django.contrib.auth.models import Group
from django.db import connection
from django.utils import timezone

from apps.accounts import one_time, services
from apps.accounts.models import Permission, Role, User
from apps.core.errors import Conflict, PlatformError, Unauthenticated
from tests.integration.accounts.conftest import PASSWORD

pytestmark = [pytest.mark.django_db, pytest.mark.urls("tests.integration.accounts.urls")]

NEW = "another good password"


@pytest.fixture
def call(http):
    def send(method, path, body=None, **headers):
        return http.generic(method.upper(), path, json.dumps(body or {}), "application/json", headers=headers)

    return send


@pytest.fixture
def root(make_user, bearer):
    make_user("root", "admin")
    return bearer("root")


@pytest.fixture
def helpdesk(make_user, bearer):
    """Administers accounts and holds little else."""
    role = Role.objects.create(name="helpdesk")
    role.permissions.set(Permission.objects.filter(code__in=["system:admin", "workflow:read"]))
    make_user("helpdesk", "helpdesk")
    return bearer("helpdesk")


def path(user, more=""):
    return f"/users/{user.pk}{more}"


def test_an_invitation_leads_to_a_login_once(root, call, login):
    made = call("post", "/users", {"username": "ann", "email": "ann@example.org", "roles": ["user"]}, **root)
    assert made.status_code == 201
    body = made.json()
    assert (body["username"], body["roles"], body["is_active"]) == ("ann", ["user"], True)
    assert login("ann", "").status_code in (400, 401)
    token = body["invitation"]["token"]
    weak = call("post", "/auth/reset-password", {"token": token, "password": "short"})
    assert (weak.status_code, weak.json()["errors"][0]["pointer"]) == (400, "/password")
    assert call("post", "/auth/reset-password", {"token": token, "password": NEW}).status_code == 204
    assert login("ann", NEW).status_code == 200
    again = call("post", "/auth/reset-password", {"token": token, "password": "yet another password"})
    assert again.status_code == 401
    assert login("ann", NEW).status_code == 200


def test_an_invitation_outlives_other_roles(root, call):
    body = call("post", "/users", {"username": "ann", "roles": ["user"]}, **root).json()
    assert call("put", f"/users/{body['id']}", {"roles": ["guest"]}, **root).status_code == 200
    given = {"token": body["invitation"]["token"], "password": NEW}
    assert call("post", "/auth/reset-password", given).status_code == 204


def test_a4_a_reset_password_ends_every_session(root, call, make_user, login, bearer):
    ann = make_user("ann", "user")
    old = bearer("ann")
    handed = call("post", path(ann, "/reset-password"), **root)
    assert handed.status_code == 200
    assert call("get", "/auth/me", **old).status_code == 200  # nothing changes until it is used
    assert login("ann").status_code == 200  # and a login does not end it
    given = {"token": handed.json()["token"], "password": NEW}
    assert call("post", "/auth/reset-password", given).status_code == 204
    assert call("get", "/auth/me", **old).status_code == 401
    assert (login("ann").status_code, login("ann", NEW).status_code) == (401, 200)


BROKEN = {
    "used": lambda ann, token: services.set_password(ann, NEW, by=None) or token,
    "of a disabled account": lambda ann, token: services.set_active(ann, False, by=None) or token,
    "of a deleted account": lambda ann, token: services.delete_user(ann, by=None) or token,
    "of another account": lambda ann, token: f"{User.objects.get(username='root').pk.hex}.{token.partition('.')[2]}",
    "cut": lambda ann, token: token[:-1],
    "without a signature": lambda ann, token: token.partition(".")[0],
    "empty": lambda ann, token: ".",
    "no id": lambda ann, token: "x." + token.partition(".")[2],
    "not ASCII": lambda ann, token: token + "é",
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a5_one_answer_for_every_token_that_does_not_hold(root, call, make_user, kind):
    ann = make_user("ann", "user")
    token = BROKEN[kind](ann, one_time.issue(ann, by=None).token)
    answer = call("post", "/auth/reset-password", {"token": token, "password": "yet another password"})
    assert answer.status_code == 401
    assert answer.json()["code"] == "invalid_token"
    assert answer.json()["detail"] == "The token is invalid, was used, or has expired."


def test_a_one_time_token_expires(make_user, settings, monkeypatch):
    ann = make_user("ann", "user")
    handed = one_time.issue(ann, by=None)
    later = one_time._generator._now() + timedelta(seconds=settings.PASSWORD_RESET_TIMEOUT + 1)
    assert abs(handed.expires_at - timezone.now() - timedelta(seconds=settings.PASSWORD_RESET_TIMEOUT)) < timedelta(
        minutes=1
    )
    monkeypatch.setattr(one_time._generator, "_now", lambda: later)
    with pytest.raises(Unauthenticated):
        one_time.redeem(handed.token, NEW)


@pytest.mark.parametrize("change", ["the account has more", "the operator has less", "the operator is gone"])
def test_a11_a_one_time_token_opens_no_account_that_is_beyond_its_maker_by_now(make_user, change):
    """Who could reset a password then could take over what the account has got since."""
    Role.objects.create(name="keeper").permissions.add(Permission.objects.get(code="system:admin"))
    ann, eve = make_user("ann", "keeper"), make_user("eve", "keeper")
    handed, other = one_time.issue(ann, by=eve), one_time.issue(ann, by=None)
    if change == "the account has more":
        services.set_roles(ann, [Role.objects.get(name="admin")], by=None)
    elif change == "the operator has less":
        services.set_roles(eve, [], by=None)
    else:
        services.set_active(eve, False, by=None)
    with pytest.raises(Unauthenticated):
        one_time.redeem(handed.token, NEW)
    with pytest.raises(Unauthenticated):
        one_time.redeem(handed.token.replace(eve.pk.hex, "command"), NEW)
    one_time.redeem(other.token, NEW)


@pytest.mark.django_db(transaction=True)
def test_of_parallel_uses_of_a_one_time_token_exactly_one_succeeds(make_user):
    token = one_time.issue(make_user("ann", "user"), by=None).token
    outcomes = together(8, lambda number: one_time.redeem(token, f"password number {number}"))
    assert outcomes.count(None) == 1


def test_a6_guessing_tokens_is_limited(call, db):
    given = {"token": "0" * 32 + ".x-y", "password": NEW}
    statuses = [call("post", "/auth/reset-password", given).status_code for _ in range(12)]
    assert statuses == [401] * 10 + [429] * 2


def test_a4_ones_own_password_ends_every_session(call, make_user, login, bearer):
    make_user("ann", "user")
    here, there = bearer("ann"), bearer("ann")
    wrong = call("post", "/auth/password", {"current_password": "no", "new_password": NEW}, **here)
    assert (wrong.status_code, wrong.json()["errors"][0]["pointer"]) == (400, "/current_password")
    weak = call("post", "/auth/password", {"current_password": PASSWORD, "new_password": "ann"}, **here)
    assert (weak.status_code, call("get", "/auth/me", **here).status_code) == (400, 200)
    done = call("post", "/auth/password", {"current_password": PASSWORD, "new_password": NEW}, **here)
    assert done.status_code == 204
    assert {call("get", "/auth/me", **one).status_code for one in (here, there)} == {401}
    assert login("ann", NEW).status_code == 200


def test_a6_an_open_session_does_not_guess_the_password(call, make_user, bearer):
    make_user("ann", "user")
    ann = bearer("ann")
    given = {"current_password": "guess", "new_password": NEW}
    statuses = [call("post", "/auth/password", given, **ann).status_code for _ in range(12)]
    assert statuses == [400] * 10 + [429] * 2


@pytest.mark.parametrize("role", ["user", "agent", "system", "guest"])
def test_a8_only_holders_of_system_admin_see_accounts(call, make_user, bearer, role):
    ann = make_user("ann", role)
    header = bearer("ann")
    for method, where in (
        ("get", "/users"), ("post", "/users"), ("get", path(ann)), ("put", path(ann)), ("delete", path(ann)),
        ("post", path(ann, "/reset-password")), ("get", "/roles"), ("post", "/roles"), ("put", "/roles/guest"),
        ("delete", "/roles/guest"),
    ):  # fmt: skip
        assert call(method, where, **header).status_code == 403
        assert call(method, where).status_code == 401


def test_accounts_are_listed_searched_and_filtered(root, call, make_user):
    make_user("ann", "user", email="ann@example.org")
    make_user("off", "guest", is_active=False)

    def names(query=""):
        return {one["username"] for one in call("get", f"/users{query}", **root).json()["results"]}

    assert names() == {"root", "ann", "off"}
    assert names("?search=EXAMPLE") == {"ann"}
    assert names("?role=guest") == {"off"}
    assert names("?is_active=false") == {"off"}
    assert call("get", "/users/00000000-0000-7000-8000-000000000000", **root).status_code == 404


def test_a4_a_change_of_an_account_ends_its_tokens(root, call, make_user, bearer):
    ann = make_user("ann", "user")
    header = bearer("ann")
    changed = call("put", path(ann), {"email": "ann@example.org"}, **root)
    assert (changed.json()["email"], changed.json()["roles"]) == ("ann@example.org", ["user"])
    assert call("get", "/auth/me", **header).status_code == 200  # an address is nothing to a token
    assert call("put", path(ann), {"roles": ["guest"]}, **root).json()["roles"] == ["guest"]
    assert call("get", "/auth/me", **header).status_code == 401
    header = bearer("ann")
    assert call("put", path(ann), {"is_active": False}, **root).json()["is_active"] is False
    assert call("get", "/auth/me", **header).status_code == 401
    assert call("delete", path(ann), **root).status_code == 204
    assert not User.objects.filter(username="ann").exists()


@pytest.mark.parametrize("field", ["id", "owner", "is_staff", "is_superuser", "token_version", "password", "groups"])
def test_a10_unknown_fields_are_refused_and_nothing_changes(root, call, make_user, field):
    ann = make_user("ann", "guest")
    for method, where, body in (
        ("put", path(ann), {"roles": ["user"]}),
        ("post", "/users", {"username": "eve"}),
        ("post", "/roles", {"name": "own", "permissions": []}),
        ("put", "/roles/guest", {"permissions": []}),
        ("post", "/auth/password", {"current_password": PASSWORD, "new_password": NEW}),
    ):
        answer = call(method, where, {**body, field: True}, **root)
        assert answer.status_code == 400
        # A field named `password` is no word of any of these either.
        assert f"/{field}" in [error["pointer"] for error in answer.json()["errors"]]
    assert [role.name for role in ann.roles.all()] == ["guest"]
    assert not User.objects.filter(username="eve").exists()
    assert not Role.objects.filter(name="own").exists()


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"roles": ["nothing"]}, "/roles/0"),
        ({"roles": "admin"}, "/roles"),
        ({"email": "no address"}, "/email"),
        ({"is_active": "perhaps"}, "/is_active"),
        ({"email": "ann@example.org", "roles": ["x"] * 201}, "/roles"),
    ],
)
def test_a21_what_is_wrong_is_named(root, call, make_user, body, pointer):
    ann = make_user("ann", "guest")
    answer = call("put", path(ann), body, **root)
    assert answer.status_code == 400
    assert [error["pointer"] for error in answer.json()["errors"]] == [pointer]


def test_a11_nobody_gives_or_changes_what_holds_more(helpdesk, call, make_user):
    ann, boss = make_user("ann"), make_user("boss", "admin")
    make_user("second", "admin")
    me = User.objects.get(username="helpdesk")
    for method, where, body in (
        ("put", path(ann), {"roles": ["admin"]}),
        ("put", path(me), {"roles": ["admin"]}),
        ("put", path(ann), {"roles": ["user"]}),
        ("post", "/users", {"username": "eve", "roles": ["admin"]}),
        ("put", path(boss), {"roles": []}),
        ("put", path(boss), {"is_active": False}),
        ("put", path(boss), {"email": "mine@example.org"}),
        ("delete", path(boss), {}),
        ("post", path(boss, "/reset-password"), {}),
        ("put", "/roles/helpdesk", {"permissions": ["system:admin", "system:update"]}),
        ("put", "/roles/guest", {"permissions": []}),
        ("post", "/roles", {"name": "mighty", "permissions": ["workflow:delete"]}),
    ):
        assert call(method, where, body, **helpdesk).status_code == 403, (method, where, body)
    assert not User.objects.filter(username="eve").exists()
    assert not Role.objects.filter(name="mighty").exists()
    assert call("put", path(ann), {"roles": ["helpdesk"]}, **helpdesk).status_code == 200
    made = call("post", "/roles", {"name": "readers", "permissions": ["workflow:read"]}, **helpdesk)
    assert made.status_code == 201


def test_a_change_is_carried_out_as_a_whole_or_not_at_all(root, call):
    me = User.objects.get(username="root")
    answer = call("put", path(me), {"email": "root@example.org", "roles": ["user"]}, **root)
    assert (answer.status_code, answer.json()["code"]) == (409, "last_admin")
    me.refresh_from_db()
    assert me.email == ""


@pytest.mark.parametrize(("method", "body"), [("put", {"is_active": False}), ("put", {"roles": []}), ("delete", {})])
def test_a11_the_last_active_admin_stays(root, call, method, body):
    me = User.objects.get(username="root")
    answer = call(method, path(me), body, **root)
    assert (answer.status_code, answer.json()["code"]) == (409, "last_admin")
    assert services.active_admins() == ["root"]


def together(count, act):
    """The outcomes of `act(number)` begun at once in threads with connections of their own."""
    gate = threading.Barrier(count)

    def one(number):
        gate.wait(60)
        try:
            return act(number)
        except PlatformError as error:
            return error
        finally:
            connection.close()

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(one, range(count)))


WAYS = {
    "disable": lambda user: services.set_active(user, False, by=None),
    "demote": lambda user: services.set_roles(user, [], by=None),
    "delete": lambda user: services.delete_user(user, by=None),
}


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("way", [*WAYS, "mixed"])
def test_a11_of_admins_who_remove_each_other_at_once_one_stays(make_user, way):
    admins = [make_user(f"admin-{number}", "admin") for number in range(6)]
    ways = list(WAYS.values())
    outcomes = together(
        6, lambda number: (ways[number % 3] if way == "mixed" else WAYS[way])(User.objects.get(pk=admins[number].pk))
    )
    assert len(services.active_admins()) == 1
    refused = [outcome for outcome in outcomes if outcome is not None]
    assert [(type(error), error.code) for error in refused] == [(Conflict, "last_admin")]


def test_roles_are_made_changed_and_deleted(root, call, make_user, bearer):
    made = call("post", "/roles", {"name": "readers", "description": "Read", "permissions": ["task:read"]}, **root)
    assert made.status_code == 201
    assert made.json() == {"name": "readers", "description": "Read", "permissions": ["task:read"], "builtin": False}
    assert call("post", "/roles", {"name": "readers", "permissions": []}, **root).status_code == 409
    ann = make_user("ann", "readers")
    header = bearer("ann")
    assert call("put", "/roles/readers", {"permissions": ["workflow:read"]}, **root).status_code == 200
    assert call("get", "/auth/me", **header).json()["permissions"] == ["workflow:read"]  # at once, without a login
    assert call("delete", "/roles/readers", **root).status_code == 204
    assert call("get", "/auth/me", **header).status_code == 401
    assert not ann.roles.exists()
    listed = call("get", "/roles", **root).json()["results"]
    assert {one["name"]: one["builtin"] for one in listed}["admin"] is True


@pytest.mark.parametrize("name", ["admin", "user", "agent", "system", "guest"])
def test_the_roles_of_every_installation_stay(root, call, name):
    answer = call("delete", f"/roles/{name}", **root)
    assert (answer.status_code, answer.json()["code"]) == (409, "builtin_role")
    assert Role.objects.filter(name=name).exists()


def test_the_admin_role_stays_whole(root, call):
    answer = call("put", "/roles/admin", {"permissions": ["task:read"]}, **root)
    assert (answer.status_code, answer.json()["code"]) == (409, "builtin_role")
    assert len(call("get", "/roles/admin", **root).json()["permissions"]) == 22


@pytest.mark.parametrize("name", ["", "Admin", "a b", "../x", "a" * 65, "\u202e", "ad\nmin"])
def test_a21_a_role_has_a_plain_name(root, call, name):
    assert call("post", "/roles", {"name": name, "permissions": []}, **root).status_code == 400


def test_a11_only_members_bring_others_into_a_group(make_user):
    root, ann, eve = make_user("root", "admin"), make_user("ann"), make_user("eve")
    group = Group.objects.create(name="finance")
    ann.groups.add(group)
    services.check_groups([group], by=root)
    services.check_groups([group], by=ann)
    with pytest.raises(PlatformError):
        services.check_groups([group], by=eve)


def test_lists_cost_the_same_however_many_there_are(root, call, make_user, django_assert_num_queries):
    for number in range(5):
        make_user(f"user-{number}", "user", "guest")
    with django_assert_num_queries(4):  # the token, the caller's roles, accounts, their roles
        call("get", "/users", **root)
    with django_assert_num_queries(4):
        call("get", "/roles", **root)
