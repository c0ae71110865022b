"""Requests over a few kept-alive connections, as fast as they are answered: the same for every server."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from time import monotonic

CONNECTIONS = 8


@dataclass(slots=True)
class Load:
    """What was answered within `seconds`, and how long each answer took (milliseconds)."""

    seconds: float
    took: list[float] = field(default_factory=list)

    @property
    def per_second(self) -> float:
        """Answers a second."""
        return len(self.took) / self.seconds


def request(port: int, method: str, path: str, token: str, body: bytes = b"") -> bytes:
    """One HTTP request as bytes."""
    lines = [f"{method} {path} HTTP/1.1", f"Host: 127.0.0.1:{port}", f"Authorization: Bearer {token}"]
    lines += ["Accept: application/json"]
    if body:
        lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
    return "\r\n".join([*lines, "", ""]).encode() + body


def load(port: int, make: Callable[[int], bytes], seconds: float, connections: int = CONNECTIONS) -> Load:
    """Ask for `seconds`; `make(number)` is the request of that number. Ends the process at an answer that is no 200."""
    return asyncio.run(_load(port, make, seconds, connections))


async def _load(port: int, make: Callable[[int], bytes], seconds: float, connections: int) -> Load:
    numbers = iter(range(10**9))
    end = monotonic() + seconds
    found = Load(seconds=seconds)

    async def one() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        while monotonic() < end:
            began = monotonic()
            writer.write(make(next(numbers)))
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            if b" 200 " not in head.split(b"\r\n")[0]:
                raise SystemExit(f"not answered as it should be: {head!r}")
            await _body(reader, head)
            if monotonic() < end:
                found.took.append(1000 * (monotonic() - began))
        writer.close()

    await asyncio.gather(*(one() for _ in range(connections)))
    return found


async def _body(reader: asyncio.StreamReader, head: bytes) -> None:
    for line in head.split(b"\r\n"):
        if line.startswith(b"content-length:"):
            await reader.readexactly(int(line.split(b":")[1]))
            return
    while size := int(await reader.readuntil(b"\r\n"), 16):
        await reader.readexactly(size + 2)
    await reader.readuntil(b"\r\n")
