"""A web server on a loopback port that counts who connects and keeps what they ask."""

import asyncio
import contextlib
import json
import socket
import ssl
from dataclasses import dataclass, field

HANGS_SECONDS = 300.0


@dataclass
class Asked:
    """One request."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Server:
    """Answers each path with what `answers` holds for it: (status, headers, body)."""

    answers: dict[str, tuple[int, dict[str, str], bytes]] = field(default_factory=dict)
    asked: list[Asked] = field(default_factory=list)
    connections: int = 0
    port: int = 0
    released: asyncio.Event = field(default_factory=asyncio.Event)  # what hangs is answered

    async def start(self, tls: ssl.SSLContext | None = None, *, everywhere: bool = False) -> None:
        """On IPv4's loopback, or on every address of this host, IPv4 and IPv6."""
        if everywhere:
            listening = socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True)
        else:
            listening = socket.create_server(("127.0.0.1", 0))
        self._server = await asyncio.start_server(self._serve, sock=listening, ssl=tls)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        self._server.close()

    def url(self, path: str = "/", host: str = "127.0.0.1", scheme: str = "http") -> str:
        return f"{scheme}://{host}:{self.port}{path}"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while await self._answer(reader, writer):
                pass
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().strip().split("\r\n")
        method, path, _ = first.split(" ")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        self.asked.append(Asked(method, path, headers, body))
        if path == "/hang":
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.released.wait(), HANGS_SECONDS)
        if path == "/hangup":
            return False
        status, own, content = self.answers.get(path, (200, {"content-type": "application/json"}, b'{"ok": true}'))
        given = {"content-length": str(len(content)), **own}
        head = "".join(f"{name}: {value}\r\n" for name, value in given.items())
        writer.write(f"HTTP/1.1 {status} Because\r\n{head}\r\n".encode() + (b"" if method == "HEAD" else content))
        await writer.drain()
        return given["content-length"] == str(len(content))


def as_json(value: object, status: int = 200) -> tuple[int, dict[str, str], bytes]:
    """An answer in JSON."""
    return status, {"content-type": "application/json"}, json.dumps(value).encode()


def to(url: str, status: int = 302) -> tuple[int, dict[str, str], bytes]:
    """A redirect."""
    return status, {"location": url}, b""
