"""Many sockets in one process that count what they are sent: the same for every server that is measured.

`python -m benchmarks.live.receiver PORT PATH SOCKETS EVENTS [TOKENS]` prints `ready` when all are open, then one line
of JSON: how many frames came, over which time, and the latencies in milliseconds. A frame that counts holds
`@SECONDS@`, the monotonic clock of this host at the moment before it was published.
"""

import asyncio
import base64
import json
import os
import sys
from pathlib import Path
from statistics import quantiles
from time import monotonic
from typing import Any

TOGETHER = 40  # handshakes at a time
QUIET_SECONDS = 6.0  # with no frame for so long, what has not come will not come
FIRST_SECONDS = 60.0
EACH = 1000  # of so few the moment of each is told as well


class Socket(asyncio.Protocol):
    """One socket: frames are told apart and their marks noted, and nothing else is done with them."""

    def __init__(self, request: bytes, board: "Board") -> None:
        self.request, self.board = request, board
        self.opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.buffer = b""
        self.in_frames = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask for the upgrade."""
        assert isinstance(transport, asyncio.Transport)
        transport.write(self.request)

    def data_received(self, data: bytes) -> None:
        """Take the answer, then frames."""
        self.buffer += data
        if not self.in_frames:
            head, found, rest = self.buffer.partition(b"\r\n\r\n")
            if not found:
                return
            if b" 101 " not in head.split(b"\r\n")[0]:
                raise SystemExit(f"the handshake was refused: {head[:200]!r}")
            self.in_frames, self.buffer = True, rest
            self.opened.set_result(None)
        buffer, at, end = self.buffer, 0, len(self.buffer)
        now = monotonic()
        while end - at >= 2:
            length, start = buffer[at + 1], at + 2
            if length == 126:
                length, start = int.from_bytes(buffer[at + 2 : at + 4], "big"), at + 4
            elif length == 127:
                length, start = int.from_bytes(buffer[at + 2 : at + 10], "big"), at + 10
            if end < start + length:
                break
            mark = buffer.find(b"@", start, start + length)
            if mark >= 0 and buffer[at] == 0x81:
                self.board.note(float(buffer[mark + 1 : buffer.index(b"@", mark + 1)]), now)
            at = start + length
        self.buffer = buffer[at:]

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        """Count it: what it would have got is missing."""
        self.board.lost += 1


class Board:
    """What came on all sockets together."""

    def __init__(self) -> None:
        self.sent: list[float] = []
        self.came: list[float] = []
        self.lost = 0
        self.since = monotonic()  # what was published before is in a snapshot, which may hold its mark

    def note(self, sent: float, came: float) -> None:
        """One frame."""
        if sent >= self.since:
            self.sent.append(sent)
            self.came.append(came)


async def run(port: int, path: str, sockets: int, events: int, tokens: list[str]) -> None:
    """Open, wait, count, print."""
    board, loop = Board(), asyncio.get_running_loop()
    gate = asyncio.Semaphore(TOGETHER)

    async def opened(number: int) -> None:
        lines = [f"GET {path} HTTP/1.1", f"Host: 127.0.0.1:{port}", "Upgrade: websocket", "Connection: Upgrade"]
        lines += [f"Sec-WebSocket-Key: {base64.b64encode(os.urandom(16)).decode()}", "Sec-WebSocket-Version: 13"]
        if tokens:
            lines.append(f"Authorization: Bearer {tokens[number % len(tokens)]}")
        request = "\r\n".join([*lines, "", ""]).encode()
        async with gate:
            _, one = await loop.create_connection(lambda: Socket(request, board), "127.0.0.1", port)
            await one.opened

    await asyncio.gather(*(opened(number) for number in range(sockets)))
    await asyncio.sleep(2.0)  # their snapshots
    board.since = monotonic()
    print("ready", flush=True)
    wanted, last, quiet_since = sockets * events, -1, monotonic()
    while len(board.came) < wanted:
        await asyncio.sleep(0.02)
        if len(board.came) != last:
            last, quiet_since = len(board.came), monotonic()
        if monotonic() - quiet_since > (QUIET_SECONDS if last else FIRST_SECONDS):
            break
    print(json.dumps(_figures(board, wanted)), flush=True)


def _figures(board: Board, wanted: int) -> dict[str, Any]:
    if not board.came:
        return {"received": 0, "wanted": wanted, "seconds": 0.0, "p50": 0.0, "p99": 0.0, "lost": board.lost}
    each = {"each": board.came} if wanted <= EACH else {}
    late = quantiles([1000 * (b - a) for a, b in zip(board.sent, board.came, strict=True)], n=100)
    return {
        "received": len(board.came), "wanted": wanted, "seconds": max(board.came) - min(board.sent),
        "p50": late[49], "p99": late[98], "lost": board.lost, **each,
    }  # fmt: skip


if __name__ == "__main__":
    given = sys.argv[1:]
    held = json.loads(Path(given[4]).read_text()) if len(given) > 4 else []
    asyncio.run(run(int(given[0]), given[1], int(given[2]), int(given[3]), held))
