"""Log in, refresh once, log out; a token that does not hold is a 401 and nothing else."""

import base64
import contextlib
import json
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import jwt
import pytest
from django.conf import settings
from django.contrib.auth.hashers import get_hasher
from django.db import connection

from apps.accounts import services, tokens
from apps.accounts.models import RefreshFamily, Role, User
from apps.core.errors import Unauthenticated
from tests.integration.accounts.conftest import PASSWORD

pytestmark = [pytest.mark.django_db, pytest.mark.urls("tests.integration.accounts.urls")]


def me(http, token):
    return http.get("/auth/me", headers={"Authorization": f"Bearer {token}"})


@pytest.mark.parametrize("content_type", ["application/json", "application/x-www-form-urlencoded"])
def test_a_login_by_json_or_form_gives_tokens_roles_and_permissions(http, make_user, content_type):
    make_user("ann", "guest")
    body = (
        json.dumps({"username": "ann", "password": PASSWORD})
        if "json" in content_type
        else f"username=ann&password={PASSWORD.replace(' ', '+')}"
    )
    answer = http.generic("POST", "/auth/token", body, content_type)
    assert answer.status_code == 200
    got = answer.json()
    assert set(got) == {"access_token", "refresh_token", "token_type", "expires_in", "roles", "permissions"}
    assert (got["token_type"], got["expires_in"], got["roles"]) == ("bearer", 1800, ["guest"])
    assert got["permissions"] == ["agent:read", "monitoring:read", "progress:read", "task:read", "workflow:read"]
    assert answer.headers["Cache-Control"] == "no-store"
    assert me(http, got["access_token"]).json()["username"] == "ann"


def test_a3_a_refresh_token_is_single_use_and_its_reuse_revokes_the_family(http, make_user, login):
    make_user("ann", "user")
    first = login("ann").json()
    second = http.post("/auth/refresh", {"refresh_token": first["refresh_token"]}, "application/json")
    assert second.status_code == 200
    assert me(http, second.json()["access_token"]).status_code == 200

    reused = http.post("/auth/refresh", {"refresh_token": first["refresh_token"]}, "application/json")
    assert reused.status_code == 401
    for pair in (first, second.json()):
        assert me(http, pair["access_token"]).status_code == 401
        again = http.post("/auth/refresh", {"refresh_token": pair["refresh_token"]}, "application/json")
        assert again.status_code == 401


def test_a3_another_login_outlives_a_revoked_family(http, make_user, login):
    make_user("ann", "user")
    phone, laptop = login("ann").json(), login("ann").json()
    for _ in range(2):
        http.post("/auth/refresh", {"refresh_token": phone["refresh_token"]}, "application/json")
    assert me(http, phone["access_token"]).status_code == 401
    assert me(http, laptop["access_token"]).status_code == 200


@pytest.mark.django_db(transaction=True)
def test_a3_of_sixteen_parallel_uses_exactly_one_succeeds(make_user):
    user = make_user("ann", "user")
    refresh = tokens.issue(user).refresh_token
    gate = threading.Barrier(16)

    def use(_):
        gate.wait(60)
        try:
            return tokens.rotate(refresh)
        except Unauthenticated:
            return None
        finally:
            connection.close()

    with ThreadPoolExecutor(16) as pool:
        outcomes = list(pool.map(use, range(16)))
    assert sum(outcome is not None for outcome in outcomes) == 1
    assert RefreshFamily.objects.get().revoked_at is not None


def test_a4_logout_ends_this_login_only(http, make_user, login):
    make_user("ann", "user")
    here, there = login("ann").json(), login("ann").json()
    out = http.post("/auth/logout", headers={"Authorization": f"Bearer {here['access_token']}"})
    assert out.status_code == 204
    assert me(http, here["access_token"]).status_code == 401
    refresh = http.post("/auth/refresh", {"refresh_token": here["refresh_token"]}, "application/json")
    assert refresh.status_code == 401
    assert me(http, there["access_token"]).status_code == 200


ENDINGS = {
    "logout everywhere": tokens.revoke_all,
    "a new password": lambda user: services.set_password(user, "another good password", by=None),
    "disabling": lambda user: services.set_active(user, False, by=None),
    "deleting": lambda user: services.delete_user(user, by=None),
    "other roles": lambda user: services.set_roles(user, [Role.objects.get(name="guest")], by=None),
}


@pytest.mark.parametrize("ending", ENDINGS)
def test_a4_what_ends_every_token_and_session(http, client, make_user, login, ending):
    user = make_user("ann", "user")
    pair = login("ann").json()
    client.login(username="ann", password=PASSWORD)
    assert client.get("/auth/me").status_code == 200

    ENDINGS[ending](user)

    assert me(http, pair["access_token"]).status_code == 401
    refresh = http.post("/auth/refresh", {"refresh_token": pair["refresh_token"]}, "application/json")
    assert refresh.status_code == 401
    assert client.get("/auth/me").status_code == 401


def test_a4_logout_all_over_http(http, make_user, login):
    make_user("ann", "user")
    here, there = login("ann").json(), login("ann").json()
    out = http.post("/auth/logout-all", headers={"Authorization": f"Bearer {here['access_token']}"})
    assert out.status_code == 204
    assert {me(http, pair["access_token"]).status_code for pair in (here, there)} == {401}


def signed(key=None, algorithm="HS256", headers=None, drop=(), **changes):
    user = User.objects.get(username="ann")
    family = RefreshFamily.objects.filter(user=user).first()
    now = int(time.time())
    claims = {
        "token_type": "access",
        "exp": now + 600,
        "iat": now,
        "jti": uuid.uuid4().hex,
        "user_id": str(user.pk),
        "ver": user.token_version,
        "fam": str(family.pk),
        "aud": tokens.AUDIENCE,
        "iss": tokens.ISSUER,
        **changes,
    }
    claims = {name: value for name, value in claims.items() if name not in drop}
    return jwt.encode(
        claims, key if key is not None else settings.JWT_SIGNING_KEY, algorithm=algorithm, headers=headers
    )


def unsigned():
    def part(value):
        return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()

    payload = jwt.decode(signed(), options={"verify_signature": False})
    return f"{part({'alg': 'none', 'typ': 'JWT'})}.{part(payload)}."


FORGED = {
    "alg none": unsigned,
    "another algorithm": lambda: signed(algorithm="HS512"),
    "another key": lambda: signed(key="x" * 64),
    "the session key": lambda: signed(key=settings.SECRET_KEY),
    "kid": lambda: signed("y" * 64, headers={"kid": "../../dev/null"}),
    "jku": lambda: signed("y" * 64, headers={"jku": "http://127.0.0.1/keys"}),
    "unknown crit": lambda: signed(headers={"crit": ["exp2"], "exp2": 1}),
    "expired": lambda: signed(exp=int(time.time()) - 1),
    "not yet": lambda: signed(nbf=int(time.time()) + 600),
    "issued in the future": lambda: signed(iat=int(time.time()) + 600),
    "another audience": lambda: signed(aud="somebody-else"),
    "no audience": lambda: signed(drop=["aud"]),
    "another issuer": lambda: signed(iss="somebody-else"),
    "no issuer": lambda: signed(drop=["iss"]),
    "no expiry": lambda: signed(drop=["exp"]),
    "endless": lambda: signed(exp=10**18),
    "text as expiry": lambda: signed(exp="never"),
    "refresh as access": lambda: signed(token_type="refresh"),
    "no type": lambda: signed(drop=["token_type"]),
    "another version": lambda: signed(ver=99),
    "text as version": lambda: signed(ver="one"),
    "no family": lambda: signed(drop=["fam"]),
    "foreign family": lambda: signed(fam=str(uuid.uuid4())),
    "no user": lambda: signed(drop=["user_id"]),
    "unknown user": lambda: signed(user_id=str(uuid.uuid4())),
    "user is a list": lambda: signed(user_id=["a"]),
    "7 KB": lambda: "A" * 7_000,
    "well signed, and longer than any of ours": lambda: signed(filler="A" * 4_000),
    "7 KB in parts": lambda: ".".join(["eyJ" + "A" * 2_300] * 3),
    "empty parts": lambda: "..",
    "one word": lambda: "token",
    "not ASCII": lambda: "é.é.é",
    "list payload": lambda: "eyJhbGciOiJIUzI1NiJ9.W10.x",
}


@pytest.mark.parametrize("kind", FORGED)
def test_a2_a_forged_token_is_a_401(http, make_user, login, kind):
    make_user("ann", "admin")
    login("ann")
    token = FORGED[kind]()
    with pytest.raises(Unauthenticated):
        tokens.authenticate_access_token(token)
    answer = me(http, token)
    assert answer.status_code == 401
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.headers["WWW-Authenticate"] == "Bearer"


def test_a2_the_forger_would_pass_with_the_right_key(http, make_user, login):
    make_user("ann", "admin")
    login("ann")
    assert me(http, signed()).status_code == 200


@pytest.mark.parametrize("garbage", [None, 5, b"bytes", "\ud800", "\x00", "a b"])
def test_a2_garbage_given_to_the_function_of_sockets_is_unauthenticated(garbage):
    with pytest.raises(Unauthenticated):
        tokens.authenticate_access_token(garbage)


def test_a2_an_access_token_does_not_refresh(http, make_user, login):
    make_user("ann", "user")
    access = login("ann").json()["access_token"]
    assert http.post("/auth/refresh", {"refresh_token": access}, "application/json").status_code == 401


@pytest.mark.parametrize("header", ["Bearer", "Bearer ", "Bearer a b", "bearer x.y.z", "Basic YTpi", "Token x"])
def test_a2_every_other_authorization_header_is_a_401(http, db, header):
    assert http.get("/auth/me", headers={"Authorization": header}).status_code == 401


def test_a5_one_answer_for_unknown_inactive_and_wrong_password(http, make_user, login):
    make_user("ann", "user")
    make_user("off", "user", is_active=False)
    answers = [login("nobody"), login("off"), login("ann", "wrong password"), login("nobody", "x")]
    bodies = [{k: v for k, v in answer.json().items() if k != "request_id"} for answer in answers]
    assert {answer.status_code for answer in answers} == {401}
    assert all(body == bodies[0] for body in bodies)


def test_a5_a_password_is_hashed_once_whoever_asks(make_user, login, set_env, monkeypatch):
    """The time of a login is the hasher's: it runs as often for unknown names as for a wrong password."""
    set_env(RATE_LIMIT_ENABLED=False)
    make_user("ann", "user")
    make_user("off", "user", is_active=False)
    hasher = type(get_hasher())
    encode, calls = hasher.encode, []
    monkeypatch.setattr(
        hasher, "encode", lambda self, *args, **kwargs: calls.append(1) or encode(self, *args, **kwargs)
    )

    def hashes(username, password):
        calls.clear()
        login(username, password)
        return len(calls)

    assert [hashes("nobody", "wrong"), hashes("off", PASSWORD), hashes("ann", "wrong")] == [1, 1, 1]


def test_a10_the_login_refuses_unknown_fields(http, make_user):
    make_user("ann", "user")
    answer = http.post("/auth/token", {"username": "ann", "password": PASSWORD, "role": "admin"}, "application/json")
    assert answer.status_code == 400
    assert [error["pointer"] for error in answer.json()["errors"]] == ["/role"]


def test_a_stale_token_does_not_hinder_a_new_login(http, make_user):
    make_user("ann", "user")
    answer = http.post(
        "/auth/token",
        {"username": "ann", "password": PASSWORD},
        "application/json",
        headers={"Authorization": "Bearer stale"},
    )
    assert answer.status_code == 200


def test_expired_families_are_removed_at_the_next_login(make_user, login):
    user = make_user("ann", "user")
    login("ann")
    RefreshFamily.objects.update(expires_at="2020-01-01T00:00:00Z")
    login("ann")
    assert RefreshFamily.objects.filter(user=user).count() == 1


def test_an_authenticated_request_costs_two_queries(http, make_user, bearer, django_assert_num_queries):
    make_user("ann", "user")
    header = bearer("ann")
    with django_assert_num_queries(2):
        assert http.get("/auth/me", headers=header).status_code == 200


def test_no_route_has_a_trailing_slash(http, db):
    assert http.post("/auth/token/", {}, "application/json").status_code == 404


def test_a4_many_tokens_are_judged_together_as_each_is_alone(make_user):
    good, disabled, revoked, changed = (make_user(name, "user") for name in ("a", "b", "c", "d"))
    pairs = {user: tokens.issue(user) for user in (good, disabled, revoked, changed)}
    claims = {user: tokens.read_access_token(pair.access_token) for user, pair in pairs.items()}
    User.objects.filter(pk=disabled.pk).update(is_active=False)
    tokens.revoke_family(claims[revoked].family_id)
    User.objects.filter(pk=changed.pk).update(token_version=7)  # and nothing else: the family still lives
    foreign = replace(claims[good], family_id=claims[changed].family_id)
    asked = [*claims.values(), foreign]
    alone = {}
    for one in asked:
        with contextlib.suppress(Unauthenticated):
            alone[one] = tokens.user_of(one)
    assert tokens.users_of(asked) == alone == {claims[good]: good}
