"""The second factor: off by default; codes once, at every door; recovery codes; taken off by who may."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from allauth.mfa.models import Authenticator
from allauth.mfa.totp.internal import auth
from allauth.mfa.totp.internal.auth import format_hotp_value, hotp_value
from cryptography.fernet import Fernet
from django.contrib.auth import authenticate
from django.db import connection
from django.test import Client

from apps.accounts import second_factor, services, tokens
from apps.accounts.audit.models import AuditEntry
from apps.accounts.models import Role
from apps.core.errors import Invalid, PlatformError, Unauthenticated
from apps.workflows.services import secrets
from tests.integration.accounts.conftest import PASSWORD

pytestmark = pytest.mark.django_db


def code_of(secret, windows=0):
    return format_hotp_value(hotp_value(secret, int(auth.time.time()) // 30 + windows))


@pytest.fixture
def on(set_env):
    set_env(TOTP_ENABLED=True)


@pytest.fixture
def protected(on, make_user):
    """(user, secret, recovery codes) of an account that turned it on."""
    user = make_user("ann", "user")
    setup = second_factor.begin(user, current_password=PASSWORD)
    return user, setup.secret, second_factor.confirm(user, setup=setup.token, code=code_of(setup.secret, -1))


def test_a_new_key_seals_it_anew_and_the_old_one_may_go(protected, settings):
    user, secret, codes = protected
    second_factor.check(user, codes[0], request=None)
    settings.VAULT_KEYS = (Fernet.generate_key().decode(),)  # beside it the one that is derived still opens
    assert secrets.rotate() == (2, 0, [])  # as `manage.py rotate_secrets` does
    assert secrets.rotate() == (0, 2, [])
    settings.SECRET_KEY = "another-secret-key-" + "0123456789" * 4
    second_factor.check(user, code_of(secret), request=None)
    assert second_factor.state_of(user).recovery_codes_left == 9


def test_a_second_factor_that_no_key_opens_is_named(protected, settings):
    settings.SECRET_KEY = "another-secret-key-" + "0123456789" * 4
    assert secrets.rotate() == (0, 0, ["second factor of ann"] * 2)


def test_it_is_off_by_default(http, make_user, bearer):
    make_user("ann", "user")
    answer = http.post("/auth/second-factor", {"current_password": PASSWORD}, "application/json", headers=bearer("ann"))
    assert (answer.status_code, answer.json()["code"]) == (409, "not_enabled")
    assert "Code" not in http.get("/ui/login", headers={"Accept": "text/html"}).content.decode()


def test_it_is_turned_on_over_http_and_then_asked_for(http, make_user, login, bearer, on):
    make_user("ann", "user")
    ann = bearer("ann")
    setup = http.post("/auth/second-factor", {"current_password": PASSWORD}, "application/json", headers=ann).json()
    assert setup["uri"].startswith("otpauth://totp/ann?secret=")
    assert http.get("/auth/second-factor", headers=ann).json() == {"enabled": False, "recovery_codes_left": 0}
    wrong = http.post(
        "/auth/second-factor/confirm", {"setup": setup["setup"], "code": "000000"}, "application/json", headers=ann
    )
    assert [error["pointer"] for error in wrong.json()["errors"]] == ["/code"]
    confirmed = http.post(
        "/auth/second-factor/confirm",
        {"setup": setup["setup"], "code": code_of(setup["secret"], -1)},
        "application/json",
        headers=ann,
    )
    codes = confirmed.json()["recovery_codes"]
    assert len(set(codes)) == 10
    assert http.get("/auth/second-factor", headers=ann).json() == {"enabled": True, "recovery_codes_left": 10}

    missing = login("ann")
    assert (missing.status_code, missing.json()["code"]) == (401, "second_factor_required")
    body = {"username": "ann", "password": PASSWORD, "code": code_of(setup["secret"])}
    assert http.post("/auth/token", body, "application/json").status_code == 200
    again = http.post("/auth/token", body, "application/json")
    assert (again.status_code, again.json()["code"]) == (401, "second_factor_wrong")  # a code is good once
    body["code"] = codes[0]
    assert [http.post("/auth/token", body, "application/json").status_code for _ in range(2)] == [200, 401]
    assert {entry.action for entry in AuditEntry.objects.all()} >= {"user.second-factor-on", "auth.recovery-code"}


def test_a5_who_does_not_know_the_password_learns_nothing_of_it(http, protected, login):
    wrong, unknown = login("ann", "wrong password"), login("nobody", "wrong password")
    strip = [{k: v for k, v in answer.json().items() if k != "request_id"} for answer in (wrong, unknown)]
    assert strip[0] == strip[1]
    body = {"username": "ann", "password": "wrong password", "code": code_of(protected[1])}
    assert http.post("/auth/token", body, "application/json").json()["code"] == "invalid_credentials"


def test_no_door_forgets_it(http, protected):
    _, secret, _ = protected
    with pytest.raises(Unauthenticated):
        authenticate(None, username="ann", password=PASSWORD)
    browser = Client(raise_request_exception=False)
    form = {"username": "ann", "password": PASSWORD}
    page = browser.post("/ui/login", form, headers={"Accept": "text/html"})
    assert page.status_code == 200
    assert "second factor" in page.content.decode()
    assert "sessionid" not in browser.cookies
    assert browser.post("/ui/login", {**form, "code": code_of(secret)}).status_code == 302
    assert "sessionid" in browser.cookies
    # The admin site has no door of its own.
    assert Client().post("/admin/login/?next=/admin/", form).headers["Location"] == "/ui/login?next=/admin/"


def test_a_login_page_that_is_sent_no_password_says_so(on):
    assert Client().post("/ui/login", {"username": "ann"}).status_code == 200


def test_a6_codes_are_bounded_for_the_account_whatever_the_address(http, protected, set_env):
    set_env(RATE_LIMIT_LOGIN="5/d")
    body = {"username": "ann", "password": PASSWORD}
    statuses = [
        http.post(
            "/auth/token", {**body, "code": f"{n:06}"}, "application/json", REMOTE_ADDR=f"203.0.113.{n}"
        ).status_code
        for n in range(8)
    ]
    assert statuses == [401] * 5 + [429] * 3


def test_only_the_present_password_begins_and_ends_it(http, protected, bearer):
    user, secret, _ = protected
    with pytest.raises(Invalid):
        second_factor.begin(user, current_password="wrong")
    with pytest.raises(Invalid):
        second_factor.remove_own(user, current_password="wrong", code=code_of(secret))
    with pytest.raises(Invalid):
        second_factor.remove_own(user, current_password=PASSWORD, code="000000")
    second_factor.remove_own(user, current_password=PASSWORD, code=code_of(secret))
    assert second_factor.state_of(user) == second_factor.State(enabled=False, recovery_codes_left=0)


def test_a_setup_is_its_accounts_alone(make_user, on):
    ann, eve = make_user("ann"), make_user("eve")
    setup = second_factor.begin(ann, current_password=PASSWORD)
    for token in (setup.token, "nonsense", ""):
        with pytest.raises(Invalid) as refused:
            second_factor.confirm(eve, setup=token, code=code_of(setup.secret))
        assert refused.value.problems[0].pointer == "/setup"


def test_a30_the_secret_is_sealed_and_in_no_answer(http, protected, make_user):
    _, secret, codes = protected
    rows = str(list(Authenticator.objects.values_list("data", flat=True)))
    assert secret not in rows
    make_user("root", "admin")
    browser = Client()
    browser.login(username="root", password=PASSWORD)
    for row in Authenticator.objects.all():
        page = browser.get(f"/admin/mfa/authenticator/{row.pk}/change/").content.decode()
        assert "gAAAA" not in page
        assert secret not in page
    kept = str(list(AuditEntry.objects.values_list("before", "after", "object_name")))
    assert secret not in kept
    assert not [code for code in codes if code in kept]


def test_a11_an_operator_takes_it_off_but_not_that_of_a_stronger_account(http, make_user, bearer, protected):
    helpdesk = Role.objects.create(name="helpdesk")
    helpdesk.permissions.set(Role.objects.get(name="user").permissions.all())
    helpdesk.permissions.add(*Role.objects.get(name="admin").permissions.filter(code="system:admin"))
    make_user("help", "helpdesk")
    root = make_user("root", "admin")
    setup = second_factor.begin(root, current_password=PASSWORD)
    second_factor.confirm(root, setup=setup.token, code=code_of(setup.secret))
    header = bearer("help")
    assert http.delete(f"/users/{root.pk}/second-factor", headers=header).status_code == 403
    assert second_factor.state_of(root).enabled
    assert http.delete(f"/users/{protected[0].pk}/second-factor", headers=header).status_code == 204
    assert not second_factor.state_of(protected[0]).enabled


def test_a11_an_api_token_has_no_say_in_it(http, make_user, on):
    from apps.accounts import api_tokens

    ann = make_user("ann", "user")
    _, raw = api_tokens.create(by=ann, name="t", wanted=["workflow:read"], expires_in_days=1)
    header = {"Authorization": f"Bearer {raw}"}
    assert http.get("/auth/second-factor", headers=header).status_code == 403
    assert (
        http.post("/auth/second-factor", {"current_password": PASSWORD}, "application/json", headers=header).status_code
        == 403
    )


def test_a_new_password_by_token_does_not_take_it_off(protected):
    user, _, _ = protected
    services.set_password(user, "another good password", by=None)
    with pytest.raises(Unauthenticated):
        authenticate(None, username="ann", password="another good password")


@pytest.mark.django_db(transaction=True)
def test_a_code_that_many_send_at_once_lets_one_in(protected, set_env):
    _, secret, codes = protected
    set_env(RATE_LIMIT_LOGIN="100/d")
    gate = threading.Barrier(8)

    def attempt(code):
        gate.wait(30)
        try:
            return authenticate(None, username="ann", password=PASSWORD, code=code) is not None
        except PlatformError:
            return False
        finally:
            connection.close()

    for code in (code_of(secret), codes[3]):
        with ThreadPoolExecutor(8) as pool:
            assert sum(pool.map(attempt, [code] * 8)) == 1


def test_the_page_does_the_same(protected, make_user):
    make_user("zoe", "user")
    browser = Client()
    browser.login(username="zoe", password=PASSWORD)
    page = browser.post("/ui/account", {"do": "begin", "current_password": PASSWORD})
    html = page.content.decode()
    assert 'src="data:image/svg+xml;base64,' in html
    setup = page.context["setup"]
    done = browser.post("/ui/account", {"do": "confirm", "setup": setup.token, "code": code_of(setup.secret, -1)})
    codes = done.context["codes"]
    assert all(code in done.content.decode() for code in codes)
    assert codes[0] not in browser.get("/ui/account").content.decode()
    wrong = browser.post("/ui/account", {"do": "remove", "current_password": "wrong", "code": code_of(setup.secret)})
    assert "not your present password" in wrong.content.decode()
    off = browser.post("/ui/account", {"do": "remove", "current_password": PASSWORD, "code": codes[0]})
    assert off.status_code == 302
    assert Client().get("/ui/account", headers={"Accept": "text/html"}).status_code == 302
    strict = Client(enforce_csrf_checks=True, raise_request_exception=False)
    strict.cookies = browser.cookies
    assert strict.post("/ui/account", {"do": "begin", "current_password": PASSWORD}).status_code == 403


def test_tokens_made_before_go_on(protected):
    pair = tokens.issue(protected[0])
    assert tokens.rotate(pair.refresh_token)
