"""What ends an open socket, within five seconds; what never opens one (A2, A4, A17 on the socket)."""

import asyncio

import pytest
from asgiref.sync import sync_to_async

from apps.accounts import api_tokens, services, tokens
from apps.accounts.models import ApiToken, RefreshFamily, Role
from apps.progress import sweep
from tests.integration.accounts.test_tokens import FORGED

pytestmark = pytest.mark.django_db(transaction=True)

run = sync_to_async
BOUND = 5.0


@pytest.fixture
def started(reporter):
    return reporter.report("t", 10, message="begun").json()


@pytest.fixture(autouse=True)
def _as_it_ships(monkeypatch, socket):
    """The sweep of a server, not the quick one of the other tests: here the time is what is asserted."""
    monkeypatch.setattr(sweep, "SWEEP_SECONDS", 1.0)


def token_of(user, *permissions, **values):
    wanted = permissions or ("progress:read",)
    return api_tokens.create(by=user, name="ci", wanted=wanted, expires_in_days=1, **values)[1]


def bearing(token):
    return [(b"authorization", f"Bearer {token}".encode())]


async def _ended(one, act, *, code=4401):
    assert await one.open()
    assert (await one.frame())["type"] == "snapshot"
    await run(act)()
    begun = asyncio.get_running_loop().time()  # they are counted from when it is done
    closed, frames = await one.closed()
    assert closed == code
    assert [frame["type"] for frame in frames] == ["error"]
    assert asyncio.get_running_loop().time() - begun < BOUND


def spend_twice(user):
    pair = tokens.issue(user)
    tokens.rotate(pair.refresh_token)
    return pair


ENDINGS = {
    "a new password": lambda user: services.set_password(user, "another good password", by=None),
    "disabling": lambda user: services.set_active(user, False, by=None),
    "deleting": lambda user: services.delete_user(user, by=None),
    "other roles": lambda user: services.set_roles(user, [Role.objects.get(name="system")], by=None),
    "logout": lambda user: tokens.revoke_family(RefreshFamily.objects.get(user=user).pk),
    "logout everywhere": tokens.revoke_all,
}


@pytest.mark.parametrize("ending", ENDINGS)
async def test_a4_what_ends_a_login_closes_its_socket(socket, reporter, started, ending):
    await _ended(socket("workflow_id=t", by=reporter), lambda: ENDINGS[ending](reporter.user))


async def test_a3_a_spent_refresh_token_closes_the_familys_socket(socket, reporter, started):
    pair = await run(spend_twice)(reporter.user)

    def spend_again():
        with pytest.raises(tokens.Unauthenticated):
            tokens.rotate(pair.refresh_token)

    await _ended(socket("workflow_id=t", headers=bearing(pair.access_token)), spend_again)


API_ENDINGS = {
    "revoking": lambda user: api_tokens.revoke(ApiToken.objects.get()),
    "disabling the owner": lambda user: services.set_active(user, False, by=None),
    "deleting the owner": lambda user: services.delete_user(user, by=None),
    "expiry": lambda user: ApiToken.objects.update(expires_at="2020-01-01T00:00:00Z"),
}


@pytest.mark.parametrize("ending", API_ENDINGS)
async def test_a4_what_ends_an_api_token_closes_its_socket(socket, reporter, started, ending):
    token = await run(token_of)(reporter.user)
    await _ended(socket("workflow_id=t", headers=bearing(token)), lambda: API_ENDINGS[ending](reporter.user))


async def test_a17_what_the_owner_loses_closes_the_socket_of_his_api_token(socket, reporter, started, make_user):
    other = await run(make_user)("guest")
    token = await run(token_of)(other)
    nothing = lambda: services.set_roles(other, [], by=None)  # noqa: E731
    await _ended(socket("workflow_id=t", headers=bearing(token)), nothing, code=4403)


async def test_an_api_token_opens_a_socket_by_header_subprotocol_and_ticket(socket, reporter, started):
    token = await run(token_of)(reporter.user)
    for one in (
        socket("workflow_id=t", headers=bearing(token)),
        socket("workflow_id=t", subprotocols=["bearer", token]),
    ):
        assert await one.open()
        assert (await one.frame())["type"] == "snapshot"
    reporter.token = token
    ticket = (await run(reporter.post)("/progress/ticket")).json()["ticket"]
    await _ended(socket(f"workflow_id=t&ticket={ticket}"), lambda: api_tokens.revoke(ApiToken.objects.get()))


async def test_a_password_is_nothing_to_an_api_tokens_socket(socket, reporter, started):
    token = await run(token_of)(reporter.user)
    one = socket("workflow_id=t", headers=bearing(token))
    assert await one.open()
    await one.frame()
    await run(services.set_password)(reporter.user, "another good password", by=None)
    assert await one.link.receive_nothing(timeout=3)
    await one.say(type="ping")
    assert (await one.frame())["type"] == "pong"


async def test_a9_an_api_token_of_single_workflows_watches_no_other(socket, reporter, started):
    await run(reporter.report)("other", 5)
    token = await run(token_of)(reporter.user, workflows=["other"])
    one = socket("workflow_id=t", headers=bearing(token))
    assert await one.open()
    code, _ = await one.closed()
    assert code == 4404
    allowed = socket("workflow_id=other", headers=bearing(token))
    assert await allowed.open()
    assert (await allowed.frame())["type"] == "snapshot"


@pytest.mark.parametrize("scope", ["task:read", "workflow:read"])
async def test_an_api_token_without_the_scope_opens_none(socket, reporter, started, scope):
    token = await run(token_of)(reporter.user, scope)
    assert not await socket("workflow_id=t", headers=bearing(token)).open()


def forged(kind, user):
    user.username = "ann"
    user.save(update_fields=["username"])
    return FORGED[kind]()


@pytest.mark.parametrize("kind", [kind for kind in FORGED if kind != "not ASCII"])
@pytest.mark.parametrize("by", ["header", "subprotocol"])
async def test_a2_a_forged_token_opens_no_socket(socket, reporter, started, kind, by):
    token = await run(forged)(kind, reporter.user)
    if by == "header":
        one = socket("workflow_id=t", headers=bearing(token))
    else:
        one = socket("workflow_id=t", subprotocols=["bearer", token])
    assert not await one.open()


@pytest.mark.parametrize("token", ["aop_", "aop_" + "A" * 43, "aop_" + "A" * 7000])
async def test_a2_an_unknown_api_token_opens_no_socket(socket, started, token):
    assert not await socket("workflow_id=t", headers=bearing(token)).open()
