"""A reader that asked for coalescing: snapshots in place of what it was too slow for, and never the end."""

import asyncio
import json

import pytest
from asgiref.sync import sync_to_async
from channels.testing import WebsocketCommunicator

from apps.progress import outbox as outboxes
from apps.progress.feed import feed
from apps.progress.frames import Frame
from apps.progress.outbox import Outbox, TooSlow
from tests.integration.progress.conftest import PATIENCE
from tests.integration.progress.test_feed import _behind, _burst, _Deaf

pytestmark = pytest.mark.django_db(transaction=True)

run = sync_to_async


async def _read_by_the_feed(reporter):
    """Ten events, when the feed has handed them on."""
    row = await run(_burst)(reporter, 10)
    async with asyncio.timeout(PATIENCE):
        while any(watch.seq < row.seq for watch in feed()._watches.values()):
            await asyncio.sleep(0.02)
    return row


async def test_a19_who_coalesces_gets_a_snapshot_and_then_what_follows(reporter, monkeypatch):
    await run(_burst)(reporter, 1)
    monkeypatch.setattr(outboxes, "MAX_FRAMES", 20)
    headers = [(b"authorization", f"Bearer {reporter.token}".encode())]
    slow = _Deaf()
    link = WebsocketCommunicator(_behind(slow), "/progress/ws?workflow_id=t&coalesce=true", headers=headers)
    assert (await link.connect(timeout=PATIENCE))[0]
    first = json.loads(await link.receive_from(PATIENCE))
    for _ in range(5):
        row = await _read_by_the_feed(reporter)
    assert await link.receive_nothing(timeout=0.5)
    slow.dataBuffer = b""  # it reads again
    told = []
    while not told or told[-1]["seq"] < row.seq:
        told.append(json.loads(await link.receive_from(PATIENCE)))
    snapshots = [at for at, frame in enumerate(told) if frame["type"] == "snapshot"]
    assert snapshots, "something was thrown away, and a snapshot stands for it"
    before, after = told[: snapshots[0]], told[snapshots[0] :]
    assert [frame["seq"] for frame in before] == list(range(first["seq"] + 1, first["seq"] + 1 + len(before)))
    assert [frame["seq"] for frame in after] == list(range(after[0]["seq"], row.seq + 1))
    more = await run(_burst)(reporter, 3)
    assert [json.loads(await link.receive_from(PATIENCE))["message"] for _ in range(3)] == more.told
    await link.disconnect(timeout=PATIENCE)


async def test_what_is_about_no_execution_is_kept_in_bounds(monkeypatch):
    monkeypatch.setattr(outboxes, "MAX_FRAMES", 10)
    box = Outbox(coalesce=True)
    box.put(Frame(text="newer"))
    for seq in range(30):
        box.put(Frame(text=str(seq), execution_id="e", seq=seq))
    assert [frame.text for frame in (await box.get()).frames] == ["newer"]
    assert await box.get() == ["e"]
    box.put(Frame(text="late", execution_id="e", seq=31))  # not before the snapshot
    box.renew("e")
    box.put(Frame(text="snapshot", execution_id="e", seq=31, snapshot=True))
    assert [frame.text for frame in (await box.get()).frames] == ["snapshot"]
    for _ in range(30):  # pongs that nobody reads
        box.put(Frame(text="pong"))
    with pytest.raises(TooSlow):
        await box.get()


async def test_a19_without_coalescing_the_same_reader_is_closed(reporter, monkeypatch):
    await run(_burst)(reporter, 1)
    monkeypatch.setattr(outboxes, "MAX_FRAMES", 20)
    headers = [(b"authorization", f"Bearer {reporter.token}".encode())]
    link = WebsocketCommunicator(_behind(_Deaf()), "/progress/ws?workflow_id=t", headers=headers)
    assert (await link.connect(timeout=PATIENCE))[0]
    await link.receive_from(PATIENCE)
    for _ in range(5):
        await _read_by_the_feed(reporter)
    assert json.loads(await link.receive_from(PATIENCE))["code"] == "too_slow"
    assert (await link.receive_output(PATIENCE))["code"] == 1013
