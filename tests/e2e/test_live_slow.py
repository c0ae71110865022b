"""Slow readers of a real server: histories that nobody reads, patience that ends, snapshots in place of events; and
event streams, which go on after a restart.
"""

import asyncio
import contextlib
import json
import socket
import time

import httpx
import psutil
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from tests.e2e.test_live import PATIENCE, _open, ended, hello, prepared, reports  # noqa: F401

IMPATIENT = """
from apps.progress import wire
wire.STALLED_SECONDS = 5.0
"""  # instead of thirty
PATIENT = """
from apps.progress import wire
wire.STALLED_SECONDS = 600.0
"""  # for who is to be slow, and not too slow, on whatever machine
METRIC = "/monitoring/metrics/dagger_progress_subscribers"
WINDOW = 4096  # bytes that the kernel of a reader takes for him


@pytest.fixture(scope="module")
def server(prepared):  # noqa: F811
    prepared.start(before=IMPATIENT)
    yield prepared
    prepared.kill()


def burst(client, name, numbers, size=8000):
    """Events of eight kilobytes each; the number of the last one."""
    filled = {"workflow_id": name, "percent_complete": 1, "status": "in_progress", "metadata": {"x": "y" * size}}
    answer = client.post("/progress/update", json=[{**filled, "message": str(n)} for n in numbers])
    assert answer.status_code == 200, answer.text
    return answer.json()[-1]["seq"]


async def slow(server, token, query):
    """A socket whose reader has not begun to read."""
    link = socket.socket()
    link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, WINDOW)
    link.connect(("127.0.0.1", server.port))
    bearer = {"Authorization": f"Bearer {token}"}
    return await connect(
        f"{server.sockets}/progress/ws?{query}", sock=link, additional_headers=bearer, max_queue=1, compression=None,
        max_size=None, ping_interval=None, open_timeout=PATIENCE,
    )  # fmt: skip


def streaming(server, token, name):
    """The same of an event stream."""
    link = socket.socket()
    link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, WINDOW)
    link.connect(("127.0.0.1", server.port))
    link.settimeout(PATIENCE)
    lines = [f"GET /progress/{name}/stream?since=0 HTTP/1.1", "Host: 127.0.0.1", f"Authorization: Bearer {token}"]
    link.sendall("\r\n".join([*lines, "", ""]).encode())
    assert b" 200 " in link.recv(64)
    return link


async def everything(link):
    """All frames until the socket is closed, and its close code."""
    told = []
    with contextlib.suppress(ConnectionClosed):
        while True:
            told.append(json.loads(await asyncio.wait_for(link.recv(), PATIENCE)))
    return told, link.close_code


async def test_a19_histories_that_nobody_reads_are_kept_in_bounds_and_end(server):
    client, process = server.client(), psutil.Process(server.process.pid)
    for first in range(0, 1000, 500):
        burst(client, "long", range(first, first + 500))  # 8 MB
    before = process.memory_info().rss
    links = [await asyncio.to_thread(hello, server, client.token, "long&since=0", window=WINDOW) for _ in range(20)]
    links += [await asyncio.to_thread(streaming, server, client.token, "long") for _ in range(20)]
    most, deadline = 0, time.monotonic() + PATIENCE
    while _open(process, links) and time.monotonic() < deadline:
        most = max(most, process.memory_info().rss)
        await asyncio.sleep(0.1)
    each = (most - before) / len(links)
    print(f"40 readers that ask for a history of 8 MB and never read it: at most {each / 1024:.0f} KiB each")
    assert each < 3 * 1024 * 1024
    assert not _open(process, links), "sockets and streams alike are closed in the end"
    for link in links:
        link.close()


async def test_a19_who_takes_nothing_for_long_is_closed_by_1013_and_told_why(server):
    client = server.client()
    last = burst(client, "stalled", range(500))
    link = await slow(server, client.token, "workflow_id=stalled&since=0")
    assert json.loads(await link.recv())["type"] == "snapshot"  # and from here on nothing is read
    async with asyncio.timeout(PATIENCE):
        while "dagger_progress_subscribers 0" not in (await asyncio.to_thread(client.get, METRIC)).text:
            await asyncio.sleep(0.2)
    told, code = await everything(link)
    assert (told[-1]["type"], told[-1]["code"], code) == ("error", "too_slow", 1013)
    seen = [frame["seq"] for frame in told[:-1]]
    assert seen == list(range(1, len(seen) + 1)), "what was sent before is whole"
    again = await slow(server, client.token, f"workflow_id=stalled&since={seen[-1]}")
    assert json.loads(await again.recv())["type"] == "snapshot"
    assert [json.loads(await again.recv())["seq"] for _ in range(last - seen[-1])] == list(
        range(seen[-1] + 1, last + 1)
    )
    await again.close()


async def listen(server, token, name, cursor, enough, seen):
    """Add to `seen` the numbers that a stream tells until there are `enough`, or it breaks; gives its cursor."""
    headers = {"Authorization": f"Bearer {token}"} | ({"Last-Event-ID": cursor} if cursor else {})
    with contextlib.suppress(httpx.HTTPError):
        async with (
            httpx.AsyncClient(base_url=server.base, timeout=PATIENCE) as client,
            client.stream("GET", f"/progress/{name}/stream?since=0", headers=headers) as answer,
        ):
            assert answer.status_code == 200
            async for line in answer.aiter_lines():
                if line.startswith("id: "):
                    cursor = line.removeprefix("id: ")
                    seen.append(int(cursor.rpartition(":")[2]))
                if len(seen) >= enough:
                    break
    return cursor


async def test_a20_an_event_stream_goes_on_after_a_restart_by_its_last_event_id(server):
    token = server.client().token  # it outlives the restart
    reports(server.client(), "streamed", range(20))
    seen, more = [], []
    listening = asyncio.create_task(listen(server, token, "streamed", None, 10_000, seen))
    async with asyncio.timeout(PATIENCE):
        while len(seen) < 20:
            await asyncio.sleep(0.05)
    await asyncio.to_thread(reports, server.client(), "streamed", range(10))
    await asyncio.to_thread(server.kill)
    cursor = await listening
    # With the patience that the next test needs; on this thread, for it ends with the one that started it.
    server.start(before=PATIENT)
    await asyncio.to_thread(reports, server.client(), "streamed", range(10))
    last = await asyncio.to_thread(ended, server.client(), "streamed")
    cursor = await listen(server, token, "streamed", cursor, last - len(seen), more)
    print(f"{len(seen)} events before the server was killed, {len(more)} after its restart")
    assert len(seen) >= 20
    assert more
    assert seen + more == list(range(1, last + 1))
    assert cursor.endswith(f":{last}")


async def test_a19_who_coalesces_over_a_real_socket_gets_snapshots_and_then_every_event(server):
    client = server.client()
    burst(client, "coalesced", [0])
    link = await slow(server, client.token, "workflow_id=coalesced&coalesce=true")
    first = json.loads(await link.recv())
    for start in range(0, 1500, 500):  # 12 MB: more than anybody keeps for a reader
        last = burst(client, "coalesced", range(start, start + 500))
    told = []
    while not told or told[-1]["seq"] < last:
        told.append(json.loads(await asyncio.wait_for(link.recv(), PATIENCE)))
    snapshots = [at for at, frame in enumerate(told) if frame["type"] == "snapshot"]
    assert snapshots, "a snapshot stands for what was thrown away"
    assert len(told) < last - first["seq"]
    expected = first["seq"]
    for frame in told:
        assert frame["seq"] >= expected if frame["type"] == "snapshot" else frame["seq"] == expected + 1
        expected = frame["seq"]
    last = burst(client, "coalesced", [0])
    assert json.loads(await asyncio.wait_for(link.recv(), PATIENCE))["seq"] == last
    await link.close()
