"""The socket: who gets in, what is told, and what ends it."""

import asyncio
import json

import pytest
from asgiref.sync import sync_to_async
from channels.testing import WebsocketCommunicator
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
from django.contrib.sessions.backends.db import SessionStore
from guardian.shortcuts import assign_perm, remove_perm

from apps.accounts import services as accounts
from apps.accounts import tokens
from apps.accounts.models import RefreshFamily, Role
from apps.core.errors import TooMany
from apps.progress import credentials
from apps.progress.handshake import admit
from apps.progress.routing import websocket
from apps.workflows.models import Workflow
from tests.integration.progress.conftest import PATIENCE

pytestmark = pytest.mark.django_db(transaction=True)

run = sync_to_async
LOCAL = [(b"host", b"localhost:8000"), (b"origin", b"http://localhost:8000")]
FOREIGN = [(b"host", b"localhost:8000"), (b"origin", b"https://evil.example")]


@pytest.fixture
def started(reporter):
    """A tracker with one event after its beginning."""
    return reporter.report("t", 10, message="begun").json()


def session_of(user):
    store = SessionStore()
    store[SESSION_KEY] = str(user.pk)
    store[BACKEND_SESSION_KEY] = "apps.accounts.backends.PasswordBackend"
    store[HASH_SESSION_KEY] = user.get_session_auth_hash()
    store.save()
    return store


def cookie(store):
    return (b"cookie", f"sessionid={store.session_key}".encode())


# --- what is told -----------------------------------------------------------------------------------------------------


async def test_first_a_snapshot_then_every_event(socket, reporter, started):
    one = socket("workflow_id=t", by=reporter)
    assert await one.open()
    first = await one.frame()
    assert (first["type"], first["workflow_id"], first["seq"]) == ("snapshot", "t", started["seq"])
    await run(reporter.report)("t", 20, message="on")
    await run(reporter.report)("t", 100, "completed", step="s")
    await run(reporter.report)("t", 100, "completed")
    frames = await one.until(event="execution.completed")
    assert [frame["seq"] for frame in frames] == list(range(started["seq"] + 1, started["seq"] + 1 + len(frames)))
    told = frames[0]
    assert {k: told[k] for k in ("type", "event", "workflow_id", "execution_id", "step_id", "status")} == {
        "type": "event",
        "event": "execution.progress",
        "workflow_id": "t",
        "execution_id": started["execution_id"],
        "step_id": None,
        "status": "in_progress",
    }
    assert (told["percent_complete"], told["overall_percent"], told["message"]) == (20, 20, "on")
    assert frames[-1]["percent_complete"] == 100
    await one.close()


async def test_a20_a_reader_that_comes_again_misses_and_doubles_nothing(socket, reporter, started):
    seen, last = [], 0
    reports = asyncio.create_task(
        run(lambda: [reporter.report("t", 10 + n / 10, message=str(n)) for n in range(120)])()
    )
    total = started["seq"] + 120
    while len(seen) < total:
        one = socket(f"workflow_id=t&since={last}", by=reporter)
        assert await one.open()
        assert (await one.frame())["type"] == "snapshot"
        for _ in range(min(25, total - len(seen))):
            last = (await one.frame())["seq"]
            seen.append(last)
        await one.close()
    await reports
    assert seen == list(range(1, len(seen) + 1))


async def test_events_before_the_snapshot_are_told_to_whoever_asks_for_them(socket, reporter, started):
    one = socket("workflow_id=t&since=0", by=reporter)
    await one.open()
    assert (await one.frame())["seq"] == started["seq"]
    assert [(await one.frame())["seq"] for _ in range(started["seq"])] == list(range(1, started["seq"] + 1))


async def test_a_newer_execution_is_announced_and_not_mixed_in(socket, reporter, started):
    one = socket("workflow_id=t", by=reporter)
    await one.open()
    await one.frame()
    await run(reporter.report)("t", 100, "completed")
    newer = (await run(reporter.report)("t", 5, restart=True)).json()
    frames = await one.until(type="execution")
    assert frames[-1]["execution_id"] == newer["execution_id"]
    assert {frame["execution_id"] for frame in frames[:-1]} == {started["execution_id"]}
    await one.say(type="subscribe", workflow_id="t", since=0)
    frames = [await one.frame() for _ in range(1 + newer["seq"])]
    assert frames[0]["type"] == "snapshot"
    assert {frame["execution_id"] for frame in frames} == {newer["execution_id"]}


async def test_ping_subscribe_and_unsubscribe(socket, reporter, started):
    await run(reporter.report)("u", 1)
    one = socket("workflow_id=t", by=reporter)
    await one.open()
    await one.frame()
    await one.say(type="ping")
    assert await one.frame() == {"type": "pong"}
    await one.say(type="subscribe", workflow_id="u")
    assert (await one.frame())["workflow_id"] == "u"
    await one.say(type="unsubscribe", workflow_id="t")
    assert (await one.frame())["type"] == "unsubscribed"
    await run(reporter.report)("t", 50)
    await run(reporter.report)("u", 50)
    assert (await one.frame())["workflow_id"] == "u"


async def test_without_an_id_all_that_the_caller_may_read(socket, reporter, nobody, started):
    everything, own = socket("", by=reporter), socket("", by=nobody)
    await run(lambda: Workflow.objects.filter(slug="t").update(owner=nobody.user))()
    assert await everything.open()
    assert await own.open()
    assert [row["workflow_id"] for row in (await everything.frame())["executions"]] == ["t"]
    assert [row["workflow_id"] for row in (await own.frame())["executions"]] == ["t"]
    new = (await run(reporter.report)("new", 100, "completed")).json()
    frames = await everything.until(event="execution.completed")
    assert frames[0]["type"] == "execution"
    assert [frame["seq"] for frame in frames[1:]] == list(range(1, new["seq"] + 1))
    await run(reporter.report)("t", 50)
    assert (await own.frame())["workflow_id"] == "t"


async def test_endings_that_were_not_asked_for_are_left_out(socket, reporter, started):
    await run(reporter.report)("t", 100, "completed", step="a")
    await run(reporter.report)("t", 1, "failed", step="b")
    one = socket("workflow_id=t&include_completed=false&include_failed=0", by=reporter)
    await one.open()
    assert (await one.frame())["steps"] == {}
    await run(reporter.report)("t", 100, "completed", step="c")
    await run(reporter.report)("t", 60)
    assert [f["event"] for f in await one.until(event="execution.progress")] == ["task.started", "execution.progress"]


# --- who gets in ------------------------------------------------------------------------------------------------------


async def test_a15_handshakes_without_a_good_credential_are_refused(socket, reporter, started):
    for query in (
        "workflow_id=t",
        f"workflow_id=t&token={reporter.token}",
        f"access_token={reporter.token}",
        "ticket=x",
    ):
        assert not await socket(query).open(), query
    assert not await socket(f"token={reporter.token}", by=reporter).open()
    assert not await socket("workflow_id=t", headers=[(b"authorization", b"Bearer nonsense")]).open()
    assert not await socket("workflow_id=t", subprotocols=["bearer", "nonsense"]).open()
    assert await socket("workflow_id=t", by=reporter).open()


async def test_handshakes_are_requests_of_whoever_makes_them(socket, reporter, reader, started, set_env):
    """A caller who has none left gets no socket either; others do, and what fails counts for the address."""
    nonsense = [(b"authorization", b"Bearer nonsense")]
    set_env(RATE_LIMIT_USER="3/m")
    for _ in range(2):
        assert await socket("workflow_id=t", by=reporter).open()
    assert await socket("workflow_id=t", subprotocols=["bearer", reporter.token]).open()
    assert not await socket("workflow_id=t", by=reporter).open()
    assert (await run(reporter.get)("/progress/t")).status_code == 429
    assert await socket("workflow_id=t", by=reader).open()
    for _ in range(3):
        assert not await socket("workflow_id=t", headers=nonsense).open()
    with pytest.raises(TooMany):
        await run(admit)({"type": "websocket", "headers": nonsense})
    set_env(RATE_LIMIT_ENABLED=False)
    assert await socket("workflow_id=t", by=reporter).open()


async def test_a_refused_handshake_is_counted_by_its_reason(socket, reporter, started):
    from apps.monitoring.receivers import auth_failures

    before = auth_failures.read()
    assert not await socket("workflow_id=t").open()
    assert not await socket("workflow_id=t&ticket=x").open()
    assert not await socket("workflow_id=t", headers=[(b"authorization", b"Bearer nonsense")]).open()
    after = auth_failures.read()
    assert {reason: after[reason] - before[reason] for reason in after if after[reason] != before[reason]} == {
        ("missing",): 1, ("token",): 2,
    }  # fmt: skip
    assert await socket("workflow_id=t", by=reporter).open()
    assert auth_failures.read() == after


async def test_a15_a_ticket_works_once_and_for_a_while(socket, reporter, started, monkeypatch):
    def ticket():
        return reporter.post("/progress/ticket").json()["ticket"]

    given = await run(ticket)()
    assert await socket(f"workflow_id=t&ticket={given}").open()
    assert not await socket(f"workflow_id=t&ticket={given}").open()
    monkeypatch.setattr("apps.progress.tickets.LIFETIME", 0.05)
    late = await run(ticket)()
    await asyncio.sleep(0.1)
    assert not await socket(f"workflow_id=t&ticket={late}").open()


async def test_a15_no_token_and_no_ticket_is_in_the_log(socket, reporter, started, caplog):
    caplog.set_level("DEBUG")
    ticket = (await run(reporter.post)("/progress/ticket")).json()["ticket"]
    for query in (f"token={reporter.token}", f"access_token={reporter.token}&workflow_id=t", f"ticket={ticket}x"):
        assert not await socket(query).open()
    assert not await socket("workflow_id=t", subprotocols=["bearer", reporter.token + "x"]).open()
    for let_in in (socket(f"workflow_id=t&ticket={ticket}"), socket("workflow_id=t", by=reporter)):
        assert await let_in.open()
    told = "\n".join([caplog.text, *(str(record.__dict__) for record in caplog.records)])
    assert reporter.token not in told
    assert ticket not in told


async def test_a_token_as_subprotocol(reporter, started):
    link = WebsocketCommunicator(websocket, "/progress/ws?workflow_id=t", subprotocols=["bearer", reporter.token])
    assert await link.connect(timeout=PATIENCE) == (True, "bearer")
    await link.disconnect(timeout=PATIENCE)


async def test_a16_a_cookie_counts_only_beside_an_allowed_origin(socket, reporter, started, settings):
    store = await run(session_of)(reporter.user)
    assert not await socket("workflow_id=t", headers=[cookie(store), *FOREIGN]).open()
    assert not await socket("workflow_id=t", headers=[cookie(store), (b"host", b"localhost:8000")]).open()
    for origin in (
        b"null",
        b"http://localhost.evil.example:8000",
        b"http://localhost:8001",
        b"http://evillocalhost:8000",
    ):
        headers = [cookie(store), (b"host", b"localhost:8000"), (b"origin", origin)]
        assert not await socket("workflow_id=t", headers=headers).open(), origin
    rebound = [cookie(store), (b"host", b"evil.example"), (b"origin", b"http://evil.example")]
    assert not await socket("workflow_id=t", headers=rebound).open()
    assert await socket("workflow_id=t", headers=[cookie(store), *LOCAL]).open()
    settings.CORS_ALLOWED_ORIGINS = ["https://evil.example"]
    assert await socket("workflow_id=t", headers=[cookie(store), *FOREIGN]).open()


async def test_a16_a_foreign_origin_with_a_header_credential_is_let_in(socket, reporter, started):
    assert await socket("workflow_id=t", by=reporter, headers=FOREIGN).open()
    assert not await socket("workflow_id=t", subprotocols=["bearer", reporter.token], headers=FOREIGN).open()


async def test_the_anonymous_role_opens_the_socket(socket, started, set_env):
    assert not await socket("workflow_id=t").open()
    set_env(ANONYMOUS_ROLE="guest")
    one = socket("workflow_id=t")
    assert await one.open()
    assert (await one.frame())["type"] == "snapshot"
    assert not await socket("workflow_id=t", headers=FOREIGN).open()


async def test_who_may_read_nothing_is_refused(socket, nobody, started):
    assert not await socket("workflow_id=t", by=nobody).open()


async def test_unknown_paths_are_refused(reporter):
    for path in ("/", "/progress/wsx", "/other\nline"):
        link = WebsocketCommunicator(websocket, path, headers=[(b"authorization", f"Bearer {reporter.token}".encode())])
        assert (await link.connect(timeout=PATIENCE))[0] is False


# --- what ends it -----------------------------------------------------------------------------------------------------


async def test_a18_frames_that_are_wrong(socket, reporter, started):
    wrong = [
        ({"text": "{"}, 4400),
        ({"text": ""}, 4400),
        ({"text": "[" * 60_000}, 4400),
        ({"text": "[1]"}, 4400),
        ({"text": '{"type": "shout"}'}, 4400),
        ({"text": '{"type": "ping", "type": "ping"}'}, 4400),
        ({"text": '{"type": "subscribe", "workflow_id": 5}'}, 4400),
        ({"text": '{"type": "subscribe", "workflow_id": "t", "since": -1}'}, 4400),
        ({"text": '{"type": "subscribe", "workflow_id": "t", "since": 1e400}'}, 4400),
        ({"text": '{"type": "subscribe", "workflow_id": "\\u0000"}'}, 4400),
        ({"bytes": b"\x00" * 10}, 4400),
        ({"text": "x" * 2_000_000}, 1009),
        ({"text": json.dumps({"type": "subscribe", "workflow_id": "nowhere"})}, 4404),
        ({"text": json.dumps({"type": "subscribe", "workflow_id": "x" * 5000})}, 4404),
        ({"text": json.dumps({"type": "subscribe", "workflow_id": "../t"})}, 4404),
    ]
    for frame, code in wrong:
        one = socket("workflow_id=t", by=reporter)
        await one.open()
        await one.link.send_input({"type": "websocket.receive", **frame})
        closed, frames = await one.closed()
        assert closed == code, frame
        assert [f["type"] for f in frames].count("error") == 1
        assert frames[-1]["type"] == "error"


@pytest.mark.parametrize("query", ["since=x&workflow_id=t", "workflow_id=t&workflow_id=u", "include_failed=maybe"])
async def test_a18_queries_that_are_wrong(socket, reporter, started, query):
    one = socket(query, by=reporter)
    assert await one.open()
    assert (await one.closed())[0] == 4400


async def test_a09_a_foreign_id_is_told_like_one_that_does_not_exist(socket, reporter, nobody, started):
    await run(reporter.report)("mine", 1)
    await run(lambda: Workflow.objects.filter(slug="mine").update(owner=nobody.user))()
    answers = []
    for asked in ("t", started["execution_id"], "nowhere", "00000000-0000-0000-0000-000000000000", "%00", "a%20b"):
        one = socket(f"workflow_id={asked}", by=nobody)
        assert await one.open()
        answers.append(await one.closed())
    assert answers == [answers[0]] * len(answers)
    assert answers[0][0] == 4404
    control = socket("workflow_id=mine", by=nobody)
    await control.open()
    assert (await control.frame())["type"] == "snapshot"


async def _ended(one, act, code):
    assert await one.open()
    assert (await one.frame())["type"] == "snapshot"
    await run(act)()
    begun = asyncio.get_running_loop().time()  # the five seconds are counted from when it is done
    closed, frames = await one.closed()
    assert closed == code
    assert [frame["type"] for frame in frames] == ["error"]
    assert asyncio.get_running_loop().time() - begun < 5


async def test_a17_logging_out_closes_the_socket(socket, reporter, started):
    def log_out():
        tokens.revoke_family(RefreshFamily.objects.get(user=reporter.user).pk)

    await _ended(socket("workflow_id=t", by=reporter), log_out, 4401)


async def test_a17_disabling_the_account_closes_the_socket(socket, reporter, started):
    await _ended(socket("workflow_id=t", by=reporter), lambda: accounts.set_active(reporter.user, False, by=None), 4401)


async def test_a17_the_end_of_the_token_closes_the_socket(socket, reporter, started, monkeypatch):
    def expire():
        from django.utils import timezone

        later = timezone.now() + tokens._Access.lifetime
        monkeypatch.setattr(credentials.timezone, "now", lambda: later)

    await _ended(socket("workflow_id=t", by=reporter), expire, 4401)


async def test_a17_the_end_of_the_session_closes_the_socket(socket, reporter, started):
    store = await run(session_of)(reporter.user)
    await _ended(socket("workflow_id=t", headers=[cookie(store), *LOCAL]), store.flush, 4401)


async def test_a17_a_ticket_ends_with_the_token_it_was_made_with(socket, reporter, started):
    ticket = (await run(reporter.post)("/progress/ticket")).json()["ticket"]
    await _ended(socket(f"workflow_id=t&ticket={ticket}"), lambda: tokens.revoke_all(reporter.user), 4401)


async def test_a17_losing_the_permission_closes_the_socket(socket, reporter, started):
    def take_away():
        role = Role.objects.get(name="agent")
        role.permissions.set(role.permissions.exclude(code="progress:read"))

    def give_back():
        from apps.accounts.models import Permission

        Role.objects.get(name="agent").permissions.add(Permission.objects.get(code="progress:read"))

    await run(lambda: Workflow.objects.filter(slug="t").update(owner=None))()
    try:
        await _ended(socket("workflow_id=t", by=reporter), take_away, 4403)
    finally:
        await run(give_back)()


async def test_a17_losing_the_grant_closes_the_socket(socket, nobody, started):
    workflow = await run(Workflow.objects.get)(slug="t")
    await run(assign_perm)("workflow:read", nobody.user, workflow)
    await _ended(socket("workflow_id=t", by=nobody), lambda: remove_perm("workflow:read", nobody.user, workflow), 4403)


async def test_a17_deleting_the_workflow_closes_the_socket(socket, reporter, started):
    def delete():
        workflow = Workflow.objects.get(slug="t")
        workflow.executions.all().delete()
        workflow.delete()

    await _ended(socket("workflow_id=t", by=reporter), delete, 4403)


async def test_a17_what_holds_stays_open(socket, reporter, started):
    one = socket("workflow_id=t", by=reporter)
    await one.open()
    await one.frame()
    assert await one.link.receive_nothing(timeout=1)
    await run(reporter.report)("t", 77)
    assert (await one.frame())["percent_complete"] == 77
