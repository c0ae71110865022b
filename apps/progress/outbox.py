"""What waits to be sent to one reader, bounded in frames and bytes: who reads too slowly is told so and closed.

A reader that asked for coalescing is not closed: what waited of an execution is thrown away, and a snapshot takes its
place once there is room again.
"""

import asyncio
from collections import deque
from typing import Any

from apps.core.metrics import Tally
from apps.progress.frames import Batch, Frame, batches

MAX_FRAMES = 1000
MAX_BYTES = 4 * 1024 * 1024
ROOM_FRAMES, ROOM_BYTES = MAX_FRAMES // 2, 256 * 1024  # with no more than this waiting, more of a history is read

dropped = Tally(())
"""Frames that were not sent because their reader was closed as too slow."""


class TooSlow(Exception):
    """The reader did not keep up: more waits for it than is kept."""


class Outbox:
    """The frames of one reader, in order."""

    def __init__(self, *, without: frozenset[str] = frozenset(), coalesce: bool = False) -> None:
        self._batches: deque[Batch] = deque()
        self._frames = 0
        self._bytes = 0
        self._without = without  # terminal statuses that this reader did not ask for
        self._coalesce = coalesce
        self._stale: dict[Any, None] = {}  # executions of which something was thrown away, oldest first
        self._something = asyncio.Event()
        self._less = asyncio.Event()
        self.overflowed = False

    def put(self, frame: Frame) -> None:
        """Add a frame, unless the reader does not want it, or it is too late for that."""
        self.put_all(Batch((frame,)))

    def put_all(self, batch: Batch) -> None:
        """Add frames that follow each other."""
        if self.overflowed:
            return
        if self._without or self._stale:
            wanted = [frame for frame in batch.frames if self._wants(frame)]
            if len(wanted) < len(batch.frames):
                for part in batches(wanted):
                    self._add(part)
                return
        self._add(batch)

    def _wants(self, frame: Frame) -> bool:
        return frame.ending not in self._without and frame.execution_id not in self._stale

    def _add(self, batch: Batch) -> None:
        # A single one is always taken: a snapshot may be larger than the bound.
        many = self._frames + len(batch.frames) > MAX_FRAMES or self._bytes + batch.size > MAX_BYTES
        if self._batches and many:
            self._overflow(batch)
        else:
            self._append(batch)
        self._something.set()

    def _append(self, batch: Batch) -> None:
        self._batches.append(batch)
        self._frames += len(batch.frames)
        self._bytes += batch.size

    def _overflow(self, batch: Batch) -> None:
        waiting = [frame for one in (*self._batches, batch) for frame in one.frames]
        self._batches.clear()
        self._frames = self._bytes = 0
        self._less.set()
        kept = [frame for frame in waiting if frame.execution_id is None]
        if not self._coalesce or len(kept) > MAX_FRAMES // 2 or sum(one.size for one in kept) > MAX_BYTES // 2:
            self.overflowed = True
            dropped.add(number=len(waiting))
            return
        for frame in waiting:
            if frame.execution_id is not None:
                self._stale[frame.execution_id] = None
        for part in batches(kept):
            self._append(part)

    def renew(self, execution_id: Any) -> None:
        """From here on take frames of this execution again; for whoever is about to put a snapshot of it."""
        self._stale.pop(execution_id, None)

    async def get(self) -> Batch | list[Any]:
        """The next frames; or, when none is left, the executions of which snapshots are due. Raises `TooSlow`."""
        while not self._batches:
            if self.overflowed:
                raise TooSlow
            if self._stale:
                return list(self._stale)
            self._something.clear()
            await self._something.wait()
        batch = self._batches.popleft()
        self._frames -= len(batch.frames)
        self._bytes -= batch.size
        if self._frames <= ROOM_FRAMES and self._bytes <= ROOM_BYTES:
            self._less.set()
        return batch

    async def room(self) -> None:
        """Wait until little is left in it, so that a long history is read no faster than it is sent.

        Much less than it holds: a history is each reader's own, while what is new waits once for all.
        """
        while self._frames > ROOM_FRAMES or self._bytes > ROOM_BYTES:
            self._less.clear()
            await self._less.wait()
