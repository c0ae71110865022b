"""How sockets of a real server end: by frames that are wrong, by bytes that are none, by rights that are lost."""

import asyncio
import contextlib
import json
import random
import struct

import psutil
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from tests.e2e.test_live import PATIENCE, hello, prepared, reports, server  # noqa: F401
from tests.support.sockets import closed

SLOWLY = {"open_timeout": PATIENCE, "ping_timeout": PATIENCE}  # a loaded machine is no reason to hang up

# --- frames that are wrong --------------------------------------------------------------------------------------------

WRONG = {
    "no JSON": ("{", 4400), "binary": (b"\0" * 10, 4400), "too large": (" " * 70_000, 1009),
    "2 MB": (" " * 2_000_000, 1009), "2 MB in pieces": ([" " * 50_000] * 40, 1009), "10 MB": (" " * 10_000_000, 1009),
    "depth": ("[" * 60_000, 4400), "depth 100,000": ("[" * 100_000, 1009), "no type": ("{}", 4400),
    "an unknown type": ('{"type": "admin"}', 4400), "a number": ("1e400", 4400), "a surrogate": ('"\\ud800"', 4400),
    "an odd id": ('{"type": "subscribe", "workflow_id": "../%00\\n"}', 4404),
    "an id with NUL": ('{"type": "subscribe", "workflow_id": "a\\u0000"}', 4400),
    "no id of this place": ('{"type": "subscribe", "workflow_id": "nowhere"}', 4404),
}  # fmt: skip


async def test_a18_a_real_socket_is_closed_by_the_code_that_the_frame_deserves(server):  # noqa: F811
    client = server.client()
    reports(client, "wrong", [0])
    bearer, found = {"Authorization": f"Bearer {client.token}"}, {}
    for name, (frame, _) in WRONG.items():
        async with connect(
            f"{server.sockets}/progress/ws?workflow_id=wrong", additional_headers=bearer, **SLOWLY
        ) as link:
            assert json.loads(await link.recv())["type"] == "snapshot"
            with contextlib.suppress(ConnectionClosed):
                await link.send(frame)
            _, code, frames = await closed(link, PATIENCE)
        found[name] = code
        assert [told["type"] for told in frames] == ["error"], name
    assert found == {name: code for name, (_, code) in WRONG.items()}


def frame_of(payload, *, first=0x81, length=None, masked=True):
    """A client's frame, or what pretends to be one; `length` is what it says of itself."""
    size = len(payload) if length is None else length
    mark = 0x80 if masked else 0
    if size < 126:
        head = struct.pack("!BB", first, mark | size)
    elif size < 65536:
        head = struct.pack("!BBH", first, mark | 126, size)
    else:
        head = struct.pack("!BBQ", first, mark | 127, size)
    return head + (bytes(4) if masked else b"") + payload


# What is sent after the handshake, and the close code; None where it is no WebSocket and the connection is cut.
BYTES = {
    "no UTF-8": (frame_of(b"\xff\xfe{}"), 4400),
    "a size of 2^62": (frame_of(b" " * 1000, length=2**62), 1009),
    "a size of 2^62, and much of it": (frame_of(b" " * 8_000_000, length=2**62), 1009),
    "pieces without end": (frame_of(b"{", first=0x01) + frame_of(b" " * 60_000, first=0x00) * 100, 1009),
    "not masked": (frame_of(b"{}", masked=False), None),
    "a reserved opcode": (frame_of(b"{}", first=0x83), None),
    "a reserved bit": (frame_of(b"{}", first=0xF1), None),
    "a ping of 2^40": (frame_of(b"x" * 500_000, first=0x89, length=2**40), None),
    "HTTP": (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 1000, None),
    "noise": (random.Random(18).randbytes(100_000) + b"\x83", None),
}


async def test_a18_bytes_that_lie_cost_their_own_connection_and_nothing_else(server):  # noqa: F811
    client, process = server.client(), psutil.Process(server.process.pid)
    reports(client, "liars", [0])
    before = process.memory_info().rss
    for name, (sent, code) in BYTES.items():
        for _ in range(3):
            with contextlib.closing(hello(server, client.token, "liars")) as link:
                code_seen, errors = await asyncio.to_thread(raw_end, link, sent)
            if name != "noise":  # which may be anything, a close frame as well
                assert (code_seen, errors) == (code, 1 if code else 0), name
            assert code_seen != 1011, name
    assert process.memory_info().rss - before < 40 * 1024 * 1024
    assert reports(client, "liars", [1])["percent_complete"] == 1


def raw_end(link, sent):
    """(close code or None, error frames) that come back for these bytes."""
    came = b""
    with contextlib.suppress(OSError):
        link.sendall(sent)
    with contextlib.suppress(OSError):
        while b"\x88\x02" not in came and (data := link.recv(65536)):
            came += data
    _, ended, code = came.rpartition(b"\x88\x02")
    return (struct.unpack("!H", code[:2])[0] if ended else None), came.count(b'"type":"error"')


# --- rights that end --------------------------------------------------------------------------------------------------


# What takes the right away, in Python that has Django set up, with `user` and `workflow`; and the close code.
LOSSES = {
    "the account is disabled": ("services.set_active(user, False, by=None)", 4401),
    "logout everywhere": ("tokens.revoke_all(user)", 4401),
    "the password is changed": ("services.set_password(user, 'another good password', by=None)", 4401),
    "the grant is removed": ("remove_perm('workflow:read', user, workflow)", 4403),
    "the workflow is deleted": ("workflow.executions.all().delete(); workflow.delete()", 4403),
    "the token expires": ("", 4401),  # it is made last, with a short life
}
SHORT = 20.0  # seconds that the token lives which is to expire
IMPORTS = """
import json, time
from datetime import timedelta
from guardian.shortcuts import assign_perm, remove_perm
from apps.accounts import services, tokens
from apps.accounts.models import User
from apps.workflows.models import Workflow
"""
ENTER = """
user = User.objects.create_user('watcher-{number}', password='a good password')
assign_perm('workflow:read', user, Workflow.objects.get(slug='lost-{number}'))
tokens._Access.lifetime = timedelta(seconds={life})
found.append([tokens.issue(user).access_token, time.monotonic()])
"""  # an account that may read only this one workflow, by a grant
LOSE = """
user, workflow = User.objects.get(username='watcher-{number}'), Workflow.objects.get(slug='lost-{number}')
{act}
found.append(time.monotonic())
"""


def told(server, pieces):  # noqa: F811
    """What the pieces of Python found, in one process with Django set up."""
    return json.loads(server.python("\n".join([IMPORTS, "found = []", *pieces, "print(json.dumps(found))"])))


async def test_a17_every_way_of_losing_the_right_closes_idle_and_busy_sockets(server):  # noqa: F811
    client, ways = server.client(), list(LOSSES.items())
    for number in range(len(ways)):
        reports(client, f"lost-{number}", [0])
    entering = [
        ENTER.format(number=number, life=SHORT if not act else 900) for number, (_, (act, _)) in enumerate(ways)
    ]
    watchers = await asyncio.to_thread(told, server, entering)
    closing = []
    for number, (token, _) in reversed(list(enumerate(watchers))):  # the one that expires soon first
        for busy in (False, False, True):
            bearer = {"Authorization": f"Bearer {token}"}
            url = f"{server.sockets}/progress/ws?workflow_id=lost-{number}"
            link = await connect(url, additional_headers=bearer, **SLOWLY)
            assert json.loads(await link.recv())["type"] == "snapshot"
            closing.append((number, asyncio.create_task(pinging(link) if busy else closed(link, PATIENCE))))
    lost = await asyncio.to_thread(
        told, server, [LOSE.format(number=n, act=act) for n, (_, (act, _)) in enumerate(ways) if act]
    )
    moments = [*lost, watchers[-1][1] + SHORT]
    took = {way: [] for way in LOSSES}
    for number, ending in closing:
        way, (_, code) = ways[number]
        moment, seen, frames = await ending
        assert (way, seen) == (way, code)
        assert [frame["type"] for frame in frames if frame["type"] != "pong"] == ["error"], way
        assert frames[-1]["type"] == "error", "nothing is sent after it"
        took[way].append(moment - moments[number])
    for way, seconds in took.items():
        print(f"{way}: closed after {min(seconds):.2f} to {max(seconds):.2f} s")
    assert max(seconds for some in took.values() for seconds in some) < 5
    control = await connect(
        f"{server.sockets}/progress/ws", additional_headers={"Authorization": f"Bearer {client.token}"}, **SLOWLY
    )
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(closed(control, PATIENCE), 3)  # who holds the right stays


async def pinging(link):
    """The same of a socket that says something all the time."""

    async def pings():
        with contextlib.suppress(ConnectionClosed):
            while True:
                await link.send('{"type": "ping"}')
                await asyncio.sleep(0.05)

    saying = asyncio.create_task(pings())
    try:
        return await closed(link, PATIENCE)
    finally:
        saying.cancel()
