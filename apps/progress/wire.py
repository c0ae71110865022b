"""The way of frames to a peer: one write for many of them where the server lets us, one ASGI message each elsewhere.

Daphne's `send` never waits for a peer that does not read (one such socket cost it 54 MB), and makes of each text a
frame of its own for each socket. So the protocol behind it is asked how much it holds back (Twisted's write buffer),
and is handed frames that were encoded once for all (autobahn's `sendPreparedMessage`, which is made for that).
"""

import asyncio
import socket
import time
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import Any

from apps.progress.frames import Batch, Frame
from apps.progress.outbox import Outbox, TooSlow

CONGESTED = 256 * 1024  # bytes that the server holds for a peer before we send no more
STALLED_SECONDS = 30.0  # without a byte that such a peer takes: it is gone, or as good as that
SEND_BUFFER = 256 * 1024  # bytes that the kernel holds for a peer beside that; by itself it takes up to 4 MiB of each
CLOSING_SECONDS = 5  # for a peer to read why it is closed and to say goodbye; daphne's one second cuts off slow ones
_LOOK_AGAIN = 0.05


class Wire:
    """The peer of one socket. `say` sends one frame as an ASGI message."""

    def __init__(self, send: Any, say: Callable[[Frame], Awaitable[None]]) -> None:
        self._say = say
        self._protocol = _protocol_behind(send)
        self.held = held_back(send)

    async def send(self, batch: Batch) -> None:
        """Send these frames, in order."""
        protocol = self._protocol
        if protocol is not None and protocol.state == protocol.STATE_OPEN:
            protocol.sendPreparedMessage(_Prepared(batch.wire))
            return
        for frame in batch.frames:
            await self._say(frame)


def close(send: Any, code: int) -> bool:
    """Close a daphne socket with this code; False behind another server, where an ASGI message does it.

    By that message daphne takes 1000 and 3000 to 4999 only: for 1009 and 1013 it raises, and the socket stays open.
    """
    protocol = _protocol_behind(send)
    if protocol is None:
        return False
    protocol.closeHandshakeTimeout = CLOSING_SECONDS
    protocol.sendCloseFrame(code=code)
    return True


def bound(send: Any, most: int, refused: Callable[[int], None]) -> None:
    """Keep little for a daphne socket's peer who does not read, and no message of more than `most` bytes from him.

    `refused` is told why a message was not kept: 1009 too large, 1007 no UTF-8.
    By itself daphne cuts the connection at a frame of 1 MiB or a text that is no UTF-8, and the peer never hears why.
    Here what is left of such a message is read and dropped, so that the peer gets to our last words; who sends what is
    no WebSocket frame at all is cut off.
    """
    protocol = _protocol_behind(send)
    if protocol is None:
        return

    def fail(code: int, _reason: str) -> None:
        if code == protocol.CLOSE_STATUS_CODE_PROTOCOL_ERROR:
            protocol.dropConnection(abort=True)
        elif not protocol.failedByMe:
            protocol.failedByMe = True  # autobahn keeps nothing from here on
            refused(code)

    protocol.maxMessagePayloadSize = protocol.maxFramePayloadSize = most
    protocol.failByDrop = False
    protocol._fail_connection = fail
    if (handle := getattr(protocol.transport, "getHandle", None)) is not None:
        handle().setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)


class _Prepared:
    """What `sendPreparedMessage` asks of a message: its bytes on the wire, which are not compressed for each peer."""

    __slots__ = ("payloadHybi",)
    doNotCompress = True

    def __init__(self, wire: bytes) -> None:
        self.payloadHybi = wire


def _protocol_behind(send: Any) -> Any:
    """Daphne's protocol of a WebSocket; None behind another server."""
    protocols = getattr(send, "args", ())  # daphne: functools.partial(server.handle_reply, protocol)
    return next((one for one in protocols if hasattr(one, "sendPreparedMessage")), None)


def held_back(send: Any) -> Callable[[], int]:
    """How many bytes the server holds because the peer does not read; where nothing is known the answer is 0.

    ASGI's `send` waits for the peer in some servers; in daphne, which never does, the transport behind it is asked.
    """
    transport = _transport_behind(send)

    def count() -> int:
        buffered = len(getattr(transport, "dataBuffer", b"")) - int(getattr(transport, "offset", 0))
        return buffered + int(getattr(transport, "_tempDataLen", 0))

    return count if transport is not None else lambda: 0


def _transport_behind(send: Any) -> Any:
    protocols = getattr(send, "args", ())
    transport = next((found for one in protocols if (found := getattr(one, "transport", None)) is not None), None)
    # Of an HTTP request it is the channel, which many share; below it is the connection.
    return getattr(transport, "transport", None) or transport


class Peer:
    """Whoever gets the answer to one HTTP request, for answers that last."""

    def __init__(self, send: Any = None) -> None:
        self.held = held_back(send)
        self._transport = _transport_behind(send)
        self._request = next((one for one in getattr(send, "args", ()) if hasattr(one, "request_start")), None)

    def alive(self) -> None:
        """The answer goes on: daphne's limit on the time of a request (`--http-timeout`) begins anew."""
        if self._request is not None:
            self._request.request_start = time.time()

    def dismiss(self) -> None:
        """The answer has ended because it was not read: who takes nothing of the rest, either, is cut off.

        By itself the server would keep that for more than a minute, in case it is read after all.
        """
        rest = self.held()

        def cut() -> None:
            if 0 < rest <= self.held():
                self._transport.abortConnection()

        asyncio.get_running_loop().call_later(CLOSING_SECONDS, cut)


PEER: ContextVar[Peer | None] = ContextVar("peer", default=None)
"""The peer of the HTTP request that is being answered."""


def telling(application: Any) -> Any:
    """An ASGI application whose views can ask for `PEER`."""

    async def told(scope: Any, receive: Any, send: Any) -> None:
        PEER.set(Peer(send))
        await application(scope, receive, send)

    return told


async def until_drained(count: Callable[[], int], outbox: Outbox) -> None:
    """Wait while the server holds too much for this reader.

    Raises `TooSlow` when meanwhile too much gathers, or nothing is taken for long: who asked for a history and never
    reads it would otherwise keep his part of it for ever, since no more of it is read until that is sent.
    """
    least, since = count(), time.monotonic()
    while (held := count()) > CONGESTED:
        if held < least:
            least, since = held, time.monotonic()
        if outbox.overflowed or time.monotonic() - since > STALLED_SECONDS:
            raise TooSlow
        await asyncio.sleep(_LOOK_AGAIN)
