"""Login by an OpenID Connect provider: a real one, run by these tests, that we did not write."""

from urllib.parse import parse_qs, urlsplit

import httpx
import oidc_provider_mock
import pytest
from allauth.socialaccount.models import SocialAccount, SocialApp, SocialToken
from django.test import Client

from apps.accounts import services
from apps.accounts.audit.models import AuditEntry
from apps.accounts.models import User
from orchestration.environment import UnsafeEnvironment, read
from tests.integration.accounts.conftest import PASSWORD

pytestmark = pytest.mark.django_db
HTML = {"Accept": "text/html"}


@pytest.fixture(scope="module")
def server():
    with oidc_provider_mock.run_server_in_thread() as running:
        yield f"http://localhost:{running.server_port}"


@pytest.fixture
def provider(server, set_env):
    """The provider's address; this installation is configured for it, and makes no accounts yet."""
    set_env(OIDC_ISSUER=server, OIDC_CLIENT_ID="platform", OIDC_CLIENT_SECRET="s", OIDC_NAME="Acme", OIDC_ROLE="")
    return server


def identity(provider, sub, **claims):
    """Somebody whom the provider knows."""
    assert httpx.put(f"{provider}/users/{sub}", json=claims).status_code in (200, 204)


def leave(browser, **form):
    """The address at the provider that the login page leads to."""
    answer = browser.post("/ui/oidc/login", form, headers=HTML)
    assert answer.status_code == 200, answer.content
    return answer.context["address"]


def come_back(browser, address, sub):
    """Log in at the provider as `sub`, and follow it back."""
    there = httpx.post(address, data={"sub": sub})
    assert there.status_code == 302, there.text
    back = urlsplit(there.headers["location"])
    return browser.get(f"{back.path}?{back.query}", headers=HTML)


def log_in(browser, sub, **form):
    return come_back(browser, leave(browser, **form), sub)


@pytest.fixture
def browser():
    return Client(raise_request_exception=False)


def test_it_is_off_by_default(browser):
    assert "single sign-on" not in browser.get("/ui/login", headers=HTML).content.decode()
    for answer in (browser.post("/ui/oidc/login"), browser.get("/ui/oidc/callback?code=x&state=y")):
        assert (answer.status_code, answer.json()["code"]) == (409, "not_enabled")


def test_an_identity_that_nobody_connected_opens_nothing(browser, provider, make_user):
    """Neither a name nor an address that is an account's makes somebody that account's owner."""
    make_user("root", "admin", email="root@example.com")
    identity(provider, "thief", preferred_username="root", email="root@example.com", email_verified=True)
    answer = log_in(browser, "thief")
    assert answer.status_code == 403
    assert "connect it under Account" in answer.content.decode()
    assert "sessionid" not in browser.cookies or browser.get("/auth/me").status_code == 401
    assert not SocialAccount.objects.exists()
    assert User.objects.count() == 1


def test_whoever_has_an_account_connects_it_and_then_logs_in_by_it(browser, provider, make_user):
    ann = make_user("ann", "user")
    identity(provider, "sub-ann", preferred_username="somebody-else")
    browser.login(username="ann", password=PASSWORD)
    back = log_in(browser, "sub-ann", process="connect")
    assert (back.status_code, back.headers["Location"]) == (302, "/ui/account")
    assert "Connected" in browser.get("/ui/account", headers=HTML).content.decode()

    fresh = Client()
    home = log_in(fresh, "sub-ann")
    assert (home.status_code, home.headers["Location"]) == (302, "/ui/")
    assert fresh.get("/auth/me").json()["username"] == "ann"
    ann.refresh_from_db()
    assert ann.username == "ann"
    assert not SocialToken.objects.exists()
    assert {"user.connected", "auth.login"} <= {entry.action for entry in AuditEntry.objects.all()}

    fresh.post("/ui/account", {"do": "disconnect"})
    assert log_in(Client(raise_request_exception=False), "sub-ann").status_code == 403


def test_with_a_role_a_first_login_makes_an_account_once(provider, set_env, make_user):
    make_user("zoe", "admin")
    set_env(OIDC_ROLE="guest")
    identity(provider, "sub-zoe", preferred_username="Zoe", email="zoe@example.com")
    for _ in range(2):
        browser = Client()
        assert log_in(browser, "sub-zoe").status_code == 302
        me = browser.get("/auth/me").json()
    assert (me["username"], me["roles"]) == ("Zoe-2", ["guest"])  # not the admin's name, in whatever letters
    made = User.objects.get(username="Zoe-2")
    assert not made.has_usable_password()
    assert User.objects.count() == 2


def test_hostile_claims_make_no_hostile_account(provider, set_env):
    set_env(OIDC_ROLE="guest")
    identity(provider, "x", preferred_username="<img onerror=1>\r\n\u202e\x1b[31m" + "a" * 500, email="no address")
    identity(provider, "y", preferred_username="../\u2028", name="${7*7}")
    for sub in ("x", "y"):
        assert log_in(Client(), sub).status_code == 302
    assert {user.username for user in User.objects.all()} == {("imgonerror131m" + "a" * 500)[:100], ".."}


def test_a4_disabling_ends_and_refuses_it(provider, set_env):
    set_env(OIDC_ROLE="guest")
    identity(provider, "sub-bob", preferred_username="bob")
    browser = Client(raise_request_exception=False)
    log_in(browser, "sub-bob")
    services.set_active(User.objects.get(username="bob"), False, by=None)
    assert browser.get("/auth/me").status_code == 401
    again = Client(raise_request_exception=False)
    answer = log_in(again, "sub-bob")
    assert answer.status_code in (302, 401)  # a browser that holds no credential is led to the login page
    assert again.get("/auth/me").status_code == 401


def test_what_comes_back_must_be_what_was_asked_for(browser, provider, set_env):
    set_env(OIDC_ROLE="guest")
    identity(provider, "sub-eve", preferred_username="eve")
    address = leave(browser)
    query = parse_qs(urlsplit(address).query)
    assert query["code_challenge_method"] == ["S256"]
    assert query["response_type"] == ["code"]
    victim = Client(raise_request_exception=False)
    victim.get("/ui/login")
    assert come_back(victim, address, "sub-eve").status_code in (302, 401)  # the state is of another browser's session
    assert victim.get("/auth/me").status_code == 401
    for query in (
        "",
        "?code=x",
        "?code=x&state=y",
        "?error=access_denied&state=y",
        "?error=%00",
        "?code=" + "x" * 9_000,
    ):
        answer = browser.get(f"/ui/oidc/callback{query}")
        assert answer.status_code in (400, 401), query
        assert answer.headers["Content-Type"] == "application/problem+json"
    assert come_back(browser, address, "sub-eve").status_code == 302  # the positive control
    assert browser.get("/auth/me").status_code == 200


def test_a_code_is_used_once(browser, provider, set_env):
    set_env(OIDC_ROLE="guest")
    identity(provider, "sub-kim", preferred_username="kim")
    there = httpx.post(leave(browser), data={"sub": "sub-kim"})
    back = urlsplit(there.headers["location"])
    assert browser.get(f"{back.path}?{back.query}").status_code == 302
    assert browser.get(f"{back.path}?{back.query}").status_code == 401


@pytest.mark.parametrize(
    "following", ["https://evil.example/", "//evil.example", "javascript:alert(1)", "/\\evil.example"]
)
def test_it_leads_nobody_elsewhere(provider, set_env, following):
    set_env(OIDC_ROLE="guest")
    identity(provider, "sub-lee", preferred_username="lee")
    assert log_in(Client(), "sub-lee", next=following).headers["Location"] == "/ui/"
    assert log_in(Client(), "sub-lee", next="/ui/account").headers["Location"] == "/ui/account"


def test_it_begins_by_a_form_of_ours_alone(provider, make_user):
    strict = Client(enforce_csrf_checks=True, raise_request_exception=False)
    assert strict.post("/ui/oidc/login", {"process": "connect"}).status_code == 403
    assert strict.get("/ui/oidc/login").status_code == 405
    assert Client(raise_request_exception=False).post("/ui/oidc/login", {"process": "connect"}).status_code == 401
    assert Client(raise_request_exception=False).post("/ui/oidc/login", {"process": "redirect"}).status_code == 400


def test_an_identity_is_one_accounts(provider, make_user):
    make_user("ann"), make_user("eve")
    identity(provider, "sub-ann"), identity(provider, "sub-eve")
    ann, eve = Client(), Client(raise_request_exception=False)
    ann.login(username="ann", password=PASSWORD)
    eve.login(username="eve", password=PASSWORD)
    assert log_in(ann, "sub-ann", process="connect").status_code == 302
    assert log_in(eve, "sub-ann", process="connect").status_code == 409
    assert log_in(eve, "sub-eve", process="connect").status_code == 302
    assert SocialAccount.objects.get(uid="sub-ann").user.username == "ann"


def test_a_provider_that_does_not_answer_is_a_503(browser, set_env):
    set_env(OIDC_ISSUER="http://localhost:9", OIDC_CLIENT_ID="x", OIDC_CLIENT_SECRET="s")
    answer = browser.post("/ui/oidc/login")
    assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
    assert "localhost:9" not in answer.content.decode()


def test_what_lies_in_the_database_configures_nothing(browser, make_user):
    SocialApp.objects.create(provider="openid_connect", provider_id="oidc", name="x", client_id="x", secret="y")
    assert browser.post("/ui/oidc/login").status_code == 409


@pytest.mark.parametrize(
    "values",
    [
        {"OIDC_ISSUER": "http://idp.example.com"},
        {"OIDC_ISSUER": "idp"},
        {"OIDC_ROLE": "admin"},
    ],
)
def test_a1_a_provider_without_tls_and_an_admins_role_are_refused(values):
    given = {"OIDC_CLIENT_ID": "x", "OIDC_CLIENT_SECRET": "hunter2-hunter2", **values}
    with pytest.raises(UnsafeEnvironment) as refused:
        read(given)
    assert refused.value.lines[0].startswith(next(iter(values)))
    assert "hunter2" not in str(refused.value)


def test_a_provider_needs_its_client():
    with pytest.raises(UnsafeEnvironment) as refused:
        read({"OIDC_ISSUER": "https://idp.example.com"})
    assert "OIDC_CLIENT_ID" in refused.value.lines[0]
    assert read({"OIDC_ISSUER": "https://idp.example.com/", "OIDC_CLIENT_ID": "x", "OIDC_CLIENT_SECRET": "y"})
