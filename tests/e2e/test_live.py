"""Live updates over real sockets of a real server: connections that drop, a server that is killed, readers that do not
read. The clients are those that users get: apps/progress/client.py and static/progress.js.
"""

import asyncio
import contextlib
import json
import random
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from statistics import quantiles

import httpx
import psutil
import pytest
from websockets.asyncio.client import connect

from apps.progress.client import Ended, Progress
from tests.e2e.conftest import PASSWORD, ROOT, users_environment
from tests.support.postgres import free_port
from tests.support.server import prepare_sqlite

PATIENCE = 120.0

# From an event of this number on what is committed is sent to nobody, and a moment after that the server dies.
DYING = """
import asyncio, os, signal
from apps.progress.feed import Feed
deliver = Feed._deliver
def dying(self, execution, frames):
    if frames and frames[-1].seq >= int(os.environ["DIE_AT"]):
        asyncio.get_running_loop().call_later(1.0, os.kill, os.getpid(), signal.SIGKILL)
    else:
        deliver(self, execution, frames)
Feed._deliver = dying
"""


class Server:
    """`manage.py server` with a database of its own; it can be killed and started again."""

    def __init__(self, directory):
        self.port = free_port()
        self.base, self.sockets = f"http://127.0.0.1:{self.port}", f"ws://127.0.0.1:{self.port}"
        self.environment = users_environment(
            DATA_DIR=str(directory), ADMIN_PASSWORD=PASSWORD, DAGGER_TRACING_ENABLED="false", LOG_LEVEL="WARNING",
            RATE_LIMIT_ENABLED="false", DJANGO_SETTINGS_MODULE="orchestration.settings.dev", PORT=str(self.port),
        )  # fmt: skip
        self.log = directory / "log"
        self.process = None

    def python(self, code):
        """What Python prints in the server's environment, with Django set up."""
        code = f"import django; django.setup()\n{code}"
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=ROOT, env=self.environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def start(self, *, before="", **environment):
        code = f"import django; django.setup()\n{before}\nfrom django.core.management import call_command\n"
        command = [sys.executable, "-c", code + f"call_command('server', port={self.port})"]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                command, cwd=ROOT, env={**self.environment, **environment}, stdout=log, stderr=log
            )
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            assert self.process.poll() is None, self.log.read_text()
            with contextlib.suppress(httpx.HTTPError):
                if httpx.get(f"{self.base}/monitoring/health/live", timeout=10).status_code == 200:
                    return self
            time.sleep(0.1)
        raise AssertionError("it did not start")

    def kill(self):
        self.process.kill()
        self.process.wait(60)

    def client(self, username="admin", password=PASSWORD):
        client = httpx.Client(base_url=self.base, timeout=PATIENCE)
        answer = client.post("/auth/token", data={"username": username, "password": password})
        assert answer.status_code == 200, answer.text
        client.token = answer.json()["access_token"]
        client.headers["Authorization"] = f"Bearer {client.token}"
        return client


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    directory = tmp_path_factory.mktemp("live")
    server = Server(directory)
    prepare_sqlite(directory)
    server.python(
        f"from apps.accounts.models import Role, User\nUser.objects.create_superuser('admin', '', '{PASSWORD}')"
    )
    return server


@pytest.fixture
def server(prepared):
    prepared.start()
    yield prepared
    prepared.kill()


def reports(client, name, numbers):
    body = [
        {"workflow_id": name, "percent_complete": 1, "status": "in_progress", "message": f"event {n}"} for n in numbers
    ]
    answer = client.post("/progress/update", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()[-1]


def ended(client, name):
    return client.post(
        "/progress/update", json={"workflow_id": name, "percent_complete": 100, "status": "completed"}
    ).json()["seq"]


class Cutting:
    """A proxy on a port of its own that cuts each connection after some bytes, mostly in the middle of a frame."""

    def __init__(self, port, seed):
        self.to, self.random, self.cuts = port, random.Random(seed), 0

    async def __aenter__(self):
        self.server = await asyncio.start_server(self.handle, "127.0.0.1", 0)
        self.port = self.server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_):
        self.server.close()

    async def handle(self, reader, writer):
        there, back = await asyncio.open_connection("127.0.0.1", self.to)
        left = self.random.randrange(2_000, 16_000)

        async def out():
            while data := await reader.read(4096):
                back.write(data)

        sending = asyncio.ensure_future(out())
        with contextlib.suppress(OSError):
            while left > 0 and (data := await there.read(min(left, 4096))):
                writer.write(data)
                await writer.drain()
                left -= len(data)
            self.cuts += left <= 0
        sending.cancel()
        for one in (writer, back):
            one.transport.abort()


async def test_a20_500_events_to_a_slow_reader_whose_connection_drops(server, monkeypatch):
    monkeypatch.setattr("apps.progress.client.FIRST_WAIT", 0.02)
    client, seen, chance = server.client(), [], random.Random(6)
    reports(client, "dropped", [0])

    def publish():
        for n in range(1, 500):
            reports(client, "dropped", [n])
        return ended(client, "dropped")

    async def watch(port):
        async with Progress(f"ws://127.0.0.1:{port}", "dropped", token=client.token, since=0) as told:
            async for frame in told:
                if frame["type"] == "event":
                    seen.append(frame["seq"])
                await asyncio.sleep(chance.random() * 0.01)
        return told.connections

    async with Cutting(server.port, seed=6) as proxy, asyncio.TaskGroup() as both:  # one that fails ends the other
        publishing = both.create_task(asyncio.to_thread(publish))
        watching = both.create_task(watch(proxy.port))
    last = publishing.result()
    print(f"500 events: {len(seen)} frames of events, {proxy.cuts} connections cut, {watching.result()} made")
    assert proxy.cuts > 5
    assert last > 500
    assert seen == list(range(1, last + 1))


async def test_a20_a_server_killed_between_commit_and_send_loses_nothing(prepared, monkeypatch):
    monkeypatch.setattr("apps.progress.client.FIRST_WAIT", 0.05)
    server = prepared.start(before=DYING, DIE_AT="25")
    seen = []
    try:
        client = server.client()
        reports(client, "killed", range(10))

        async def watch():
            async with Progress(server.sockets, "killed", token=client.token, since=0) as told:
                async for frame in told:
                    seen.extend([frame["seq"]] if frame["type"] == "event" else [])
            return told.connections

        watching = asyncio.create_task(watch())
        async with asyncio.timeout(PATIENCE):
            while len(seen) < 10:
                await asyncio.sleep(0.05)
        committed = 0
        for n in range(10, 60):
            with contextlib.suppress(httpx.HTTPError):
                committed = (await asyncio.to_thread(reports, client, "killed", [n]))["seq"]
            if server.process.poll() is not None:
                break
            await asyncio.sleep(0.05)
        async with asyncio.timeout(PATIENCE):
            while server.process.poll() is None:
                await asyncio.sleep(0.05)
        assert server.process.returncode == -signal.SIGKILL
        assert committed > max(seen), "the last event was acknowledged and not sent"
        server.start()
        last = await asyncio.to_thread(ended, server.client(), "killed")
        connections = await asyncio.wait_for(watching, PATIENCE)
    finally:
        server.kill()
    print(f"killed after {committed} were committed; {connections} connections")
    assert connections > 1
    assert seen == list(range(1, last + 1))


# --- readers that do not read -----------------------------------------------------------------------------------------


def hello(server, token, name, *, window=None):
    """A socket that was let in, and of which nothing was read but that; its peer's window is at most `window`."""
    link = socket.socket()
    if window:
        link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, window)
    link.connect(("127.0.0.1", server.port))
    link.settimeout(PATIENCE)
    lines = [f"GET /progress/ws?workflow_id={name} HTTP/1.1", "Host: 127.0.0.1", "Upgrade: websocket"]
    lines += ["Connection: Upgrade", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg=="]
    link.sendall("\r\n".join([*lines, f"Authorization: Bearer {token}", "", ""]).encode())
    assert b" 101 " in link.recv(64)
    return link


async def watched(server, token, name, events, act):
    """The latencies (seconds) of a reader that reads, over so many events; `act(n)` publishes the n-th."""
    late = []
    async with connect(
        f"{server.sockets}/progress/ws?workflow_id={name}",
        additional_headers={"Authorization": f"Bearer {token}"},
        open_timeout=PATIENCE,
    ) as link:
        await link.recv()
        for n in range(events):
            began = time.monotonic()
            last = await asyncio.to_thread(act, n)
            while (json.loads(await asyncio.wait_for(link.recv(), PATIENCE))).get("seq") != last:
                pass
            late.append(time.monotonic() - began)
    return late


async def test_a19_200_sockets_that_never_read_cost_bounded_memory_and_nobody_else(server):
    client, process = server.client(), psutil.Process(server.process.pid)
    big = {"workflow_id": "deaf", "percent_complete": 1, "status": "in_progress", "metadata": {"x": "y" * 8000}}

    def burst(n):
        body = [{**big, "message": f"{n} {i}"} for i in range(20)]
        answer = client.post("/progress/update", json=body)
        assert answer.status_code == 200, f"{answer.text}\n{server.log.read_text()[-4000:]}"
        return answer.json()[-1]["seq"]

    burst(0)
    alone = await watched(server, client.token, "deaf", 12, burst)
    before = process.memory_info().rss
    links = [await asyncio.to_thread(hello, server, client.token, "deaf", window=4096) for _ in range(200)]
    most = process.memory_info().rss
    beside, rounds, kernel = [], 0, 0
    deadline = time.monotonic() + PATIENCE  # each is given some seconds to say goodbye
    while _open(process, links) and time.monotonic() < deadline:
        beside += await watched(server, client.token, "deaf", 12, burst)
        kernel = max(kernel, waiting(links))
        most, rounds = max(most, process.memory_info().rss), rounds + 1
    each = (most - before) / len(links)
    p99 = [quantiles(some, n=100)[98] for some in (alone, beside)]
    print(
        f"200 sockets that never read, {rounds * 12 * 20} events of 8 kB: at most {each / 1024:.0f} KiB of the server "
        f"each, {kernel / 1024:.0f} KiB of the kernel; "
        f"p99 of a reader {1000 * p99[0]:.0f} ms alone, {1000 * p99[1]:.0f} ms beside them"
    )
    assert not _open(process, links), "all of them are closed in the end"
    assert each < 1024 * 1024
    assert 0 < kernel < 1024 * 1024
    assert p99[1] < 2 * p99[0] + 8.0  # generous: the machine is everybody's; who waits for the deaf waits for thirty
    for link in links:
        link.close()


def waiting(links):
    """The most bytes that the kernel holds for one of these because he does not read."""
    ours = {link.getsockname()[1] for link in links}
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return max((int(row[4].split(":")[0], 16) for row in rows if int(row[2].split(":")[1], 16) in ours), default=0)


def _open(process, links):
    """How many of these connections the server still holds."""
    ours = {link.getsockname()[1] for link in links}
    held = [one for one in process.net_connections("tcp") if one.status == psutil.CONN_ESTABLISHED]
    return sum(1 for one in held if one.raddr and one.raddr.port in ours)


async def test_the_client_says_when_it_is_in_vain(server):
    with pytest.raises(Ended) as refused:
        async for _ in Progress(server.sockets, "nowhere", token="nonsense"):
            pass
    assert refused.value.code == 403
    with pytest.raises(Ended) as unknown:
        async for _ in Progress(server.sockets, "nowhere", token=server.client().token):
            pass
    assert unknown.value.code == 4404
