"""The Python client against a server of a script: cursors over lost connections, and events that are not the next."""

import contextlib
import json
from urllib.parse import parse_qs, urlsplit

import pytest
from websockets.asyncio.server import serve

from apps.progress.client import Gap, Progress

EXECUTION = "01a2"


def snapshot(seq, *, finished=None):
    return {"type": "snapshot", "execution_id": EXECUTION, "seq": seq, "finished_at": finished}


def event(seq, what="task.progress"):
    return {"type": "event", "event": what, "execution_id": EXECUTION, "seq": seq}


@contextlib.asynccontextmanager
async def scripted(*connections):
    """A server that tells each connection its frames and closes it; gives its address and what was asked of it."""
    waiting, asked = list(connections), []

    async def tell(link):
        asked.append({name: value[0] for name, value in parse_qs(urlsplit(link.request.path).query).items()})
        for frame in waiting.pop(0):
            await link.send(json.dumps(frame))
        await link.close(1013)

    async with serve(tell, "127.0.0.1", 0) as server:
        yield f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}", asked


@pytest.fixture(autouse=True)
def _soon(monkeypatch):
    monkeypatch.setattr("apps.progress.client.FIRST_WAIT", 0.01)


async def told(address, **options):
    async with Progress(address, "t", token="x", **options) as progress:
        return [(frame["type"], frame["seq"]) async for frame in progress]


async def test_a_lost_connection_goes_on_after_the_last_event_of_the_same_execution():
    ends = [snapshot(8), event(6), event(7), event(8), event(9, "execution.completed")]
    async with scripted([snapshot(4), event(5)], ends) as (address, asked):
        seen = await told(address)
    assert [seq for kind, seq in seen if kind == "event"] == [5, 6, 7, 8, 9]
    assert asked == [{"workflow_id": "t"}, {"workflow_id": EXECUTION, "since": "5"}]


@pytest.mark.parametrize("wrong", [8, 6, 5], ids=["one is missing", "one comes twice", "one comes late"])
async def test_an_event_that_is_not_the_next_is_told_and_not_given_out(wrong):
    async with scripted([snapshot(5), event(6), event(wrong)]) as (address, _):
        with pytest.raises(Gap, match=f"event {wrong} came after event 6"):
            await told(address)


async def test_who_coalesces_goes_on_after_his_cursor_and_takes_snapshots_for_events():
    again = [snapshot(9), event(7), event(8), event(9), snapshot(30), event(31, "execution.completed")]
    async with scripted([snapshot(5), event(6), snapshot(6)], again) as (address, asked):
        seen = await told(address, coalesce=True)
    assert [seq for kind, seq in seen if kind == "event"] == [6, 7, 8, 9, 31]
    assert asked[1]["since"] == "6"


async def test_who_coalesces_and_lost_an_event_that_no_snapshot_stands_for_is_told():
    async with scripted([snapshot(5), event(6)], [snapshot(9), event(8)]) as (address, _):
        with pytest.raises(Gap):
            await told(address, coalesce=True)


async def test_a_cursor_beyond_the_journal_is_another_executions():
    async with scripted([snapshot(3), event(4), event(5, "execution.failed")]) as (address, _):
        assert [seq for kind, seq in await told(address, since=90) if kind == "event"] == [4, 5]
