"""The feed: one reading for all, nothing lost when bells are silent or reads fail, bounded for who does not read."""

import asyncio
import functools
import itertools
from types import SimpleNamespace

import pytest
from asgiref.sync import sync_to_async
from channels.testing import WebsocketCommunicator

from apps.progress import feed as feeds
from apps.progress import outbox as outboxes
from apps.progress import wire
from apps.progress.frames import Frame
from apps.progress.outbox import Outbox, TooSlow
from apps.progress.routing import websocket
from apps.workflows.engine.states import Status
from apps.workflows.services import trackers
from tests.integration.progress.conftest import PATIENCE

pytestmark = pytest.mark.django_db(transaction=True)

run = sync_to_async


_numbers = itertools.count()


def _burst(reporter, count):
    """So many events at once, in one transaction, each with a number of its own as its message."""
    updates = [
        trackers.TrackerUpdate(workflow_id="t", status=Status.IN_PROGRESS, percent=1, message=str(next(_numbers)))
        for _ in range(count)
    ]
    row = trackers.update(updates, by=reporter.user)[-1]
    return SimpleNamespace(seq=row.seq, told=[update.message for update in updates])


class _Deaf:
    """What stands behind daphne's `send` when the peer does not read."""

    def __init__(self):
        self.transport = self
        self.dataBuffer = b"x" * (wire.CONGESTED + 1)
        self.offset = 0
        self._tempDataLen = 0


def _behind(protocol):
    async def application(scope, receive, send):
        async def reply(_protocol, message):
            await send(message)

        await websocket(scope, receive, functools.partial(reply, protocol))

    return application


async def test_a19_who_does_not_read_is_closed_and_others_are_served(socket, reporter, monkeypatch):
    await run(_burst)(reporter, 1)
    monkeypatch.setattr(outboxes, "MAX_FRAMES", 20)
    headers = [(b"authorization", f"Bearer {reporter.token}".encode())]
    deaf = WebsocketCommunicator(_behind(_Deaf()), "/progress/ws?workflow_id=t", headers=headers)
    assert (await deaf.connect(timeout=PATIENCE))[0]
    await deaf.receive_json_from(timeout=PATIENCE)  # the snapshot; from here on nothing is taken from it
    healthy = socket("workflow_id=t", by=reporter)
    await healthy.open()
    first = (await healthy.frame())["seq"]
    seen = []
    for _ in range(5):
        await run(_burst)(reporter, 10)
        seen += [(await healthy.frame())["seq"] for _ in range(10)]
    assert seen == list(range(first + 1, first + 51))
    said = await deaf.receive_json_from(timeout=PATIENCE)
    assert (said["type"], said["code"]) == ("error", "too_slow")
    assert (await deaf.receive_output(timeout=PATIENCE))["code"] == 1013


async def test_a_burst_larger_than_an_outbox_reaches_who_reads(socket, reporter):
    row = await run(_burst)(reporter, 1)
    one = socket("workflow_id=t", by=reporter)
    await one.open()
    first = (await one.frame())["seq"]
    for _ in range(3):
        row = await run(_burst)(reporter, 1000)
    seen = [(await one.frame())["seq"] for _ in range(3000)]
    assert seen == list(range(first + 1, row.seq + 1))


async def test_a_long_history_reaches_who_reads(socket, reporter):
    for _ in range(3):
        row = await run(_burst)(reporter, 1000)
    one = socket("workflow_id=t&since=0", by=reporter)
    await one.open()
    await one.frame()
    assert [(await one.frame())["seq"] for _ in range(row.seq)] == list(range(1, row.seq + 1))


async def test_without_a_bell_the_poll_finds_it(socket, reporter, monkeypatch):
    monkeypatch.setattr(feeds, "_listen", lambda: None)
    monkeypatch.setattr(feeds, "POLL_SECONDS", 0.1)
    await run(_burst)(reporter, 1)
    one = socket("workflow_id=t", by=reporter)
    await one.open()
    await one.frame()
    row = await run(_burst)(reporter, 3)
    assert [(await one.frame())["message"] for _ in range(3)] == row.told


async def test_a_look_that_fails_is_repeated(socket, reporter, monkeypatch):
    await run(_burst)(reporter, 1)
    one = socket("workflow_id=t", by=reporter)
    await one.open()
    await one.frame()
    real, failures = feeds._news, []

    def sometimes(asked, slugs):
        if len(failures) < 2:
            failures.append(1)
            raise OSError("the database is away")
        return real(asked, slugs)

    monkeypatch.setattr(feeds, "POLL_SECONDS", 0.1)
    monkeypatch.setattr(feeds, "_news", sometimes)
    row = await run(_burst)(reporter, 3)
    assert [(await one.frame())["message"] for _ in range(3)] == row.told
    assert len(failures) == 2


async def test_following_that_fails_closes_the_socket_instead_of_falling_silent(socket, reporter, monkeypatch):
    await run(_burst)(reporter, 5)

    def away(*_):
        raise OSError("the database is away")

    monkeypatch.setattr(feeds, "_read", away)
    one = socket("workflow_id=t&since=0", by=reporter)
    await one.open()
    code, frames = await one.closed()
    assert code == 1013
    assert frames[-1]["code"] == "internal_error"


async def test_many_readers_cost_one_reading(socket, reporter, monkeypatch):
    await run(_burst)(reporter, 1)
    sockets = [socket("workflow_id=t", by=reporter) for _ in range(10)]
    for one in sockets:
        await one.open()
        await one.frame()
    async with asyncio.timeout(PATIENCE):  # each follows: before, it reads what is history by itself
        while sum(len(watch.readers) for watch in feeds.feed()._watches.values()) < len(sockets):
            await asyncio.sleep(0.01)
    real, reads = feeds._read, []
    monkeypatch.setattr(feeds, "_read", lambda *given: reads.append(given) or real(*given))
    row = await run(_burst)(reporter, 5)
    for one in sockets:
        assert [(await one.frame())["message"] for _ in range(5)] == row.told
    assert len(reads) == 1


async def test_the_feed_ends_with_its_last_reader(socket, reporter):
    await run(_burst)(reporter, 1)
    one = socket("workflow_id=t", by=reporter)
    await one.open()
    await one.frame()
    feed = feeds.feed()
    task = feed._task
    await one.close()
    await asyncio.wait([task], timeout=PATIENCE)
    assert task.done()
    assert (feed._readers, feed._watches, feed._newest) == (set(), {}, {})


@pytest.mark.parametrize("turns", range(6))
async def test_the_feed_ends_though_the_bell_rings_at_that_moment(turns):
    feed, reader = feeds.Feed(), feeds.Reader(Outbox())
    feed.enter(reader)
    task = feed._task
    await asyncio.sleep(0.1)
    feed._rung.set()
    for _ in range(turns):
        await asyncio.sleep(0)
    feed.leave(reader)
    await asyncio.wait([task], timeout=PATIENCE)
    assert task.cancelled()


async def test_an_outbox_is_bounded_in_bytes_and_keeps_its_order(monkeypatch):
    box = Outbox(without=frozenset({"completed"}))
    box.put(Frame(text="a"))
    box.put(Frame(text="left out", ending="completed"))
    box.put(Frame(text="b", ending="failed"))
    assert [(await box.get()).frames[0].text for _ in range(2)] == ["a", "b"]
    monkeypatch.setattr(outboxes, "MAX_BYTES", 10)
    box.put(Frame(text="x" * 100))  # a single one is always taken
    assert len((await box.get()).frames[0].text) == 100
    for _ in range(3):
        box.put(Frame(text="12345"))
    with pytest.raises(TooSlow):
        await box.get()
