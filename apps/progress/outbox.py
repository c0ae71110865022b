"""What waits to be sent to one socket, bounded in frames and bytes: who reads too slowly is told so and closed."""

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from apps.core.metrics import Tally

MAX_FRAMES = 1000
MAX_BYTES = 8 * 1024 * 1024
CONGESTED = 256 * 1024  # bytes that the server holds for a socket before we send no more
_LOOK_AGAIN = 0.05  # seconds


dropped = Tally(())
"""Frames that were not sent because their reader was closed as too slow."""


class TooSlow(Exception):
    """The reader did not keep up: more waits for it than is kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """A text frame, encoded once for all sockets. `ending` is the terminal status it tells of, if any."""

    text: str
    execution_id: Any = None
    seq: int = 0
    ending: str | None = None
    last: bool = False  # nothing follows in this execution


class Outbox:
    """The frames of one socket, in order."""

    def __init__(self, *, without: frozenset[str] = frozenset()) -> None:
        self._frames: deque[Frame] = deque()
        self._bytes = 0
        self._without = without  # terminal statuses that this reader did not ask for
        self._something = asyncio.Event()
        self._less = asyncio.Event()
        self.overflowed = False

    def put(self, frame: Frame) -> None:
        """Add a frame, unless the reader does not want it, or it is too late for that."""
        if frame.ending is not None and frame.ending in self._without:
            return
        if self.overflowed:
            dropped.add()
            return
        # A single frame is always taken: a snapshot may be larger than the bound.
        if self._frames and (len(self._frames) >= MAX_FRAMES or self._bytes + len(frame.text) > MAX_BYTES):
            self.overflowed = True
            dropped.add(number=len(self._frames) + 1)
            self._frames.clear()
            self._bytes = 0
            self._less.set()
        else:
            self._frames.append(frame)
            self._bytes += len(frame.text)
        self._something.set()

    async def get(self) -> Frame:
        """The next frame. Raises `TooSlow` once the bound was reached."""
        while not self._frames:
            if self.overflowed:
                raise TooSlow
            self._something.clear()
            await self._something.wait()
        frame = self._frames.popleft()
        self._bytes -= len(frame.text)
        if len(self._frames) <= MAX_FRAMES // 2:
            self._less.set()
        return frame

    async def room(self) -> None:
        """Wait until at most half of it is taken, so that a long history is read no faster than it is sent."""
        while len(self._frames) > MAX_FRAMES // 2 or self._bytes > MAX_BYTES // 2:
            self._less.clear()
            await self._less.wait()


def held_back(send: Any) -> Callable[[], int]:
    """How many bytes the server holds for this socket because its peer does not read.

    ASGI's `send` waits for the peer in some servers and never does in daphne, where one socket that never read cost
    54 MB: there the transport behind it is asked (Twisted's write buffer). Where nothing is known the answer is 0.
    """
    protocols = getattr(send, "args", ())  # daphne: functools.partial(server.handle_reply, protocol)
    transport = next((found for one in protocols if (found := getattr(one, "transport", None)) is not None), None)

    def count() -> int:
        buffered = len(getattr(transport, "dataBuffer", b"")) - int(getattr(transport, "offset", 0))
        return buffered + int(getattr(transport, "_tempDataLen", 0))

    return count if transport is not None else lambda: 0


async def until_drained(count: Callable[[], int], outbox: Outbox) -> None:
    """Wait while the server holds too much for this socket. Raises `TooSlow` when meanwhile too much gathers."""
    while count() > CONGESTED:
        if outbox.overflowed:
            raise TooSlow
        await asyncio.sleep(_LOOK_AGAIN)
