"""The stream as Server-Sent Events: the same as the socket's, with a cursor that browsers send by themselves."""

import asyncio
import json

import pytest
from asgiref.sync import sync_to_async
from asgiref.testing import ApplicationCommunicator
from guardian.shortcuts import assign_perm, remove_perm

from apps.accounts import services, tokens
from apps.progress import sweep
from apps.progress.api import stream as streams
from apps.workflows.models import Workflow
from orchestration.asgi import application
from tests.integration.progress.conftest import PATIENCE

pytestmark = pytest.mark.django_db(transaction=True)

run = sync_to_async


class Stream:
    """A request of a test to the real application, read event by event."""

    def __init__(self, path, by=None, last=None):
        headers = [(b"host", b"localhost"), (b"accept", b"text/event-stream")]
        headers += [(b"authorization", f"Bearer {by.token}".encode())] if by else []
        headers += [(b"last-event-id", last.encode())] if last else []
        path, _, query = path.partition("?")
        scope = {"type": "http", "http_version": "1.1", "method": "GET", "path": path, "query_string": query.encode(),
                 "headers": headers, "client": ("127.0.0.1", 1)}  # fmt: skip
        self.link = ApplicationCommunicator(application, scope)
        self.text, self.last, self.over = "", None, False

    async def open(self):
        await self.link.send_input({"type": "http.request", "body": b""})
        begun = await self.link.receive_output(PATIENCE)
        self.headers = {name.decode().lower(): value.decode() for name, value in begun["headers"]}
        return begun["status"]

    async def event(self):
        """The next event's (name, data); None at the end."""
        while True:
            while "\n\n" not in self.text:
                if self.over:
                    return None
                message = await self.link.receive_output(PATIENCE)
                self.text += message.get("body", b"").decode()
                self.over = not message.get("more_body")
            one, _, self.text = self.text.partition("\n\n")
            fields = dict(line.split(": ", 1) for line in one.split("\n") if not line.startswith(":"))
            self.last = fields.get("id", self.last)
            if "data" in fields:
                return fields.get("event", "message"), json.loads(fields["data"])

    async def until(self, **wanted):
        found = []
        while not found or any(found[-1].get(name) != value for name, value in wanted.items()):
            found.append((await self.event())[1])
        return found

    async def close(self):
        await self.link.send_input({"type": "http.disconnect"})
        await self.link.wait(PATIENCE)


@pytest.fixture
async def stream(monkeypatch):
    monkeypatch.setattr(sweep, "SWEEP_SECONDS", 0.3)
    made = []

    def make(path, **more):
        made.append(Stream(path, **more))
        return made[-1]

    yield make
    for one in made:
        if not one.link.future.done():
            await one.close()


@pytest.fixture
def started(reporter):
    return reporter.report("t", 10, message="begun").json()


async def test_a_snapshot_then_every_event_with_its_cursor(stream, reporter, started):
    one = stream("/progress/t/stream", by=reporter)
    assert await one.open() == 200
    assert one.headers["content-type"] == "text/event-stream"
    kind, first = await one.event()
    assert (kind, first["type"], first["seq"]) == ("message", "snapshot", started["seq"])
    assert one.last == f"{started['execution_id']}:{started['seq']}"
    await run(reporter.report)("t", 20)
    await run(reporter.report)("t", 100, "completed")
    told = await one.until(event="execution.completed")
    assert [event["seq"] for event in told] == [started["seq"] + 1, started["seq"] + 2]
    assert one.last == f"{started['execution_id']}:{told[-1]['seq']}"


async def test_a20_a_stream_goes_on_after_the_last_event_id(stream, reporter, started):
    seen, last = [], f"{started['execution_id']}:0"
    reports = asyncio.create_task(run(lambda: [reporter.report("t", 10 + n / 10, message=str(n)) for n in range(60)])())
    while len(seen) < started["seq"] + 60:
        one = stream("/progress/t/stream", by=reporter, last=last)
        await one.open()
        assert (await one.event())[1]["type"] == "snapshot"
        assert one.last is None  # the snapshot is ahead of what was asked for: no cursor
        seen += [(await one.event())[1]["seq"] for _ in range(min(17, started["seq"] + 60 - len(seen)))]
        last = one.last
        await one.close()
    await reports
    assert seen == list(range(1, started["seq"] + 61))


async def test_a20_the_cursor_stays_with_its_execution_and_the_newer_one_is_announced(stream, reporter, started):
    await run(reporter.report)("t", 100, "completed")
    newer = (await run(reporter.report)("t", 5, restart=True)).json()
    one = stream("/progress/t/stream", by=reporter, last=f"{started['execution_id']}:{started['seq']}")
    await one.open()
    told = await one.until(type="execution")
    assert told[-1]["execution_id"] == newer["execution_id"]
    assert told[0]["execution_id"] == started["execution_id"]
    # The order within an execution is promised, that of two executions is not.
    while not (
        old := [e["seq"] for e in told if e["type"] == "event" and e["execution_id"] == started["execution_id"]]
    ):
        told.append((await one.event())[1])
    assert old == [started["seq"] + 1]


@pytest.mark.parametrize("last", ["x", "-1", "1.5", "nonsense:3", ":", "00000000-0000-0000-0000-000000000000:x"])
async def test_a_cursor_that_is_none_is_a_400(stream, reporter, started, last):
    one = stream("/progress/t/stream", by=reporter, last=last)
    assert await one.open() == 400
    assert one.headers["content-type"] == "application/problem+json"


async def test_a9_a_cursor_of_a_foreign_execution_leads_nowhere(stream, reporter, nobody, started):
    await run(reporter.report)("mine", 1)
    await run(lambda: Workflow.objects.filter(slug="mine").update(owner=nobody.user))()
    one = stream("/progress/mine/stream", by=nobody, last=f"{started['execution_id']}:0")
    assert await one.open() == 200
    assert (await one.event())[1]["workflow_id"] == "mine"
    for foreign in ("t", started["execution_id"], "nowhere"):
        assert await stream(f"/progress/{foreign}/stream", by=nobody).open() == 404


async def test_a15_without_a_credential_there_is_no_stream(stream, reporter, started):
    assert await stream("/progress/t/stream").open() == 401
    assert await stream(f"/progress/t/stream?token={reporter.token}").open() == 401
    assert await stream("/progress/t/stream", by=reporter).open() == 200


ENDINGS = {
    "logout everywhere": (tokens.revoke_all, "invalid_token"),
    "disabling": (lambda user: services.set_active(user, False, by=None), "invalid_token"),
    "the grant": (lambda user: remove_perm("workflow:read", user, Workflow.objects.get(slug="t")), "permission_denied"),
}


@pytest.mark.parametrize("ending", ENDINGS)
async def test_a17_what_ends_the_right_ends_the_stream(stream, nobody, reporter, started, ending):
    act, code = ENDINGS[ending]
    await run(lambda: assign_perm("workflow:read", nobody.user, Workflow.objects.get(slug="t")))()
    one = stream("/progress/t/stream", by=nobody)
    await one.open()
    await one.event()
    await run(act)(nobody.user)
    begun = asyncio.get_running_loop().time()
    kind, said = await one.event()
    assert (kind, said["type"], said["code"]) == ("error", "error", code)
    assert asyncio.get_running_loop().time() - begun < 5
    assert await one.event() is None


async def test_a_quiet_stream_says_that_it_lives_and_loses_nothing_meanwhile(stream, reporter, started, monkeypatch):
    monkeypatch.setattr(streams, "KEEPALIVE_SECONDS", 0.05)
    one = stream("/progress/t/stream", by=reporter)
    await one.open()
    await one.event()
    while ": nothing new" not in one.text:
        one.text += (await one.link.receive_output(PATIENCE))["body"].decode()
    await run(reporter.report)("t", 33)
    assert (await one.event())[1]["percent_complete"] == 33


async def test_a_stream_that_the_peer_left_is_fed_no_more(stream, reporter, started):
    from apps.progress.feed import feed
    from apps.progress.sweep import sweeper

    one = stream("/progress/t/stream", by=reporter)
    await one.open()
    await one.event()
    assert feed()._readers
    await one.close()
    assert (feed()._readers, sweeper()._sessions) == (set(), set())
