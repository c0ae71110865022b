"""One feed for each server process: reads the new events of executions that somebody watches once, and fans them out.

The journal is the truth: rings of the doorbell say only when to look, and whoever misses one is served by the poll.
Each reader has a cursor for each execution and gets the events after it, every one once and in order.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, ParamSpec, TypeVar
from uuid import UUID
from weakref import WeakKeyDictionary

from channels.db import database_sync_to_async

from apps.core import bell
from apps.progress import across, payloads
from apps.progress.frames import Batch, Frame, batches
from apps.progress.outbox import Outbox
from apps.workflows.selectors import progress

logger = logging.getLogger(__name__)

POLL_SECONDS = 1.0
GATHER_SECONDS = 0.01  # from one look to the next: the first ring is heeded at once, those close behind it together
PAGE = 200  # events of one execution that are read at a time
HISTORY_BYTES = 128 * 1024  # of a history that are handed on at a time; the last event may exceed it
MOST_AT_ONCE = 600  # frames of one look, less than an outbox holds; between looks it is emptied
MOST_BYTES_AT_ONCE = 1024 * 1024  # of one look; the last event may exceed it
NEW_WINDOW = timedelta(seconds=60)  # an execution's id is older than its commit by less than this
MAX_NEW = 5000

THREADS = 4

_threads = ThreadPoolExecutor(max_workers=THREADS, thread_name_prefix="progress")
P = ParamSpec("P")
T = TypeVar("T")


async def in_thread(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call code that uses the database, off the loop and off the one thread that Django's own sync code shares."""
    call: Any = database_sync_to_async(function, thread_sensitive=False, executor=_threads)
    answer: T = await call(*args, **kwargs)
    return answer


@dataclass(eq=False, slots=True)
class Reader:
    """Whoever is fed. `found` are executions that began since a reader of everything came."""

    outbox: Outbox
    found: set[UUID] = field(default_factory=set)
    new: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass(eq=False, slots=True)
class _Watch:
    """An execution that is watched. `seq` is how far the feed has read; `readers` have their own cursors."""

    slug: str
    seq: int
    readers: dict[Reader, int] = field(default_factory=dict)


class Feed:
    """The feed of one event loop; use `feed()`."""

    def __init__(self) -> None:
        self._watches: dict[UUID, _Watch] = {}
        self._newest: dict[UUID, dict[Reader, UUID]] = {}  # workflow → reader → newest execution it knows of
        self._roaming: set[Reader] = set()
        self._known: set[UUID] | None = None  # executions of the last minute, while somebody watches everything
        self._readers: set[Reader] = set()
        self._rung = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    # -- coming and going ----------------------------------------------------------------------------------------------

    def enter(self, reader: Reader) -> None:
        """Take in a reader; the feed runs while it has any."""
        self._readers.add(reader)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run(), name="progress-feed")

    def leave(self, reader: Reader) -> None:
        """Nothing more for this reader, from this moment on."""
        self._readers.discard(reader)
        self._roaming.discard(reader)
        if not self._roaming:
            self._known = None
        for workflow in [w for w, readers in self._newest.items() if reader in readers]:
            self.forget_newer(reader, workflow)
        for execution in self.followed(reader):
            self.unfollow(reader, execution)
        if not self._readers and self._task is not None:
            self._task.cancel()
            self._task = None

    def followed(self, reader: Reader) -> list[UUID]:
        """The executions whose further events this reader gets."""
        return [execution for execution, watch in self._watches.items() if reader in watch.readers]

    def unfollow(self, reader: Reader, execution: UUID) -> None:
        """No further events of this execution for this reader."""
        watch = self._watches.get(execution)
        if watch is not None and watch.readers.pop(reader, None) is not None and not watch.readers:
            del self._watches[execution]

    async def follow(self, reader: Reader, execution: UUID, slug: str, *, after: int, fresh: bool = False) -> None:
        """Every event after `after`: first those that are history, in pages and no faster than they are sent.

        `fresh` means `after` was the present a moment ago, so the feed's own next look is soon enough.
        """
        cursor, limit = after, PAGE
        watch = self._watches.get(execution)
        if not (fresh and (watch is None or watch.seq <= cursor)):
            while True:
                found = await in_thread(_read, execution, slug, cursor, limit)
                frames = _within(found, HISTORY_BYTES)
                for batch in batches(frames):
                    reader.outbox.put_all(batch)
                cursor = frames[-1].seq if frames else cursor
                if frames and frames[-1].last:
                    return
                watch = self._watches.get(execution)
                if len(found) < limit and len(frames) == len(found) and (watch is None or watch.seq <= cursor):
                    break
                limit = _next_page(frames)
                await reader.outbox.room()
        # Nothing was awaited since `watch` was looked at: what the feed reads next comes after its `seq`, which is
        # not beyond this cursor, and what of it the cursor has passed is left out below. So no gap and no double.
        if reader not in self._readers:
            return
        watch = self._watches.setdefault(execution, _Watch(slug=slug, seq=cursor))
        watch.readers[reader] = cursor
        self._rung.set()

    def tell_newer(self, reader: Reader, workflow: UUID, than: UUID) -> None:
        """Announce executions of a workflow that are newer than the one given."""
        self._newest.setdefault(workflow, {})[reader] = than
        self._rung.set()

    def forget_newer(self, reader: Reader, workflow: UUID) -> None:
        """Announce no more executions of a workflow."""
        readers = self._newest.get(workflow, {})
        readers.pop(reader, None)
        if not readers:
            self._newest.pop(workflow, None)

    async def roam(self, reader: Reader) -> None:
        """From here on tell this reader (`found`, `new`) of every execution that begins, whoever may read it."""
        if self._known is None:
            known = await in_thread(_recent)
            self._known = known if self._known is None else self._known
        self._roaming.add(reader)

    # -- looking -------------------------------------------------------------------------------------------------------

    async def _run(self) -> None:
        listener = await in_thread(_listen)
        elsewhere = across.heard(self._rung)
        try:
            with _Ear(listener, self._rung) as ear:
                while True:
                    # Not `wait_for`: in Python 3.11 it loses a cancellation that comes together with the ring.
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(POLL_SECONDS):
                            await self._rung.wait()
                    self._rung.clear()
                    try:
                        with ear.reading():
                            more = await self._look(listener)
                        while more:
                            await asyncio.sleep(0)  # the sockets' turn
                            more = await self._look()
                        await self._look_for_new()
                    except Exception:
                        logger.exception("the feed could not look; it will again")
                        await asyncio.sleep(POLL_SECONDS)
                    await asyncio.sleep(GATHER_SECONDS)
        finally:
            elsewhere.cancel()
            if listener is not None:
                listener.close()

    async def _look(self, listener: bell.Listener | None = None) -> bool:
        """Empty the bell, read and hand on what is new; whether there was more than one look takes.

        Which ids rang does not matter: a look costs one query for all.
        """
        asked = {execution: watch.seq for execution, watch in self._watches.items()}
        if not asked and listener is None:
            return False
        slugs = {execution: self._watches[execution].slug for execution in asked}
        found, more = await in_thread(_heard_and_read, listener, asked, slugs)
        for execution, frames in found:
            self._deliver(execution, frames)
        return more

    def _deliver(self, execution: UUID, frames: list[Frame]) -> None:
        watch = self._watches.get(execution)
        if watch is None:
            return
        # Only what comes next: a look that was begun for an earlier watch of the same execution may be ahead.
        frames = [frame for frame in frames if frame.seq > watch.seq]
        if not frames or frames[0].seq != watch.seq + 1:
            return
        before, watch.seq = watch.seq, frames[-1].seq
        whole = batches(frames)  # encoded and joined once for all who are at the same place: mostly everybody
        for reader, cursor in watch.readers.items():
            watch.readers[reader] = max(cursor, watch.seq)
            for batch in whole if cursor <= before else _after(cursor, frames):
                reader.outbox.put_all(batch)
        if frames[-1].last:
            self._watches.pop(execution, None)

    async def _look_for_new(self) -> None:
        if self._newest:
            asked = {workflow: min(readers.values()) for workflow, readers in self._newest.items()}
            for row in await in_thread(progress.newer_executions, asked):
                frame = payloads.execution(row)
                readers = self._newest.get(row.workflow_id, {})
                for reader, known in readers.items():
                    if row.pk > known:
                        readers[reader] = row.pk
                        reader.outbox.put(frame)
        if self._roaming:
            recent = await in_thread(_recent)
            new = recent - self._known if self._known is not None else set()
            self._known = recent if self._roaming else None
            for reader in self._roaming if new else ():
                reader.found |= new
                reader.new.set()


class _Ear:
    """Watches the doorbell's descriptor; the bell itself is read in a thread, since on PostgreSQL it may reconnect."""

    def __init__(self, listener: bell.Listener | None, rung: asyncio.Event) -> None:
        self._listener = listener
        self._rung = rung
        self._loop = asyncio.get_running_loop()
        self._descriptor: int | None = None

    def __enter__(self) -> "_Ear":
        self._attend()
        return self

    def __exit__(self, *_: object) -> None:
        self._ignore()

    def _attend(self) -> None:
        if self._listener is not None and self._descriptor is None:
            with contextlib.suppress(OSError, ValueError):  # it is gone; the poll remains
                descriptor = self._listener.fileno()
                self._loop.add_reader(descriptor, self._ring)
                self._descriptor = descriptor

    def _ignore(self) -> None:
        if self._descriptor is not None:
            self._loop.remove_reader(self._descriptor)
            self._descriptor = None

    def _ring(self) -> None:
        self._ignore()  # until it was read
        self._rung.set()

    @contextlib.contextmanager
    def reading(self) -> Iterator[None]:
        """While the bell is being read its descriptor, which that may change, is not watched."""
        self._ignore()
        try:
            yield
        finally:
            self._attend()


def _listen() -> bell.Listener | None:
    try:
        return bell.listen("events")
    except Exception:
        logger.warning("no doorbell can be heard; the feed polls", exc_info=True)
        return None


def _read(execution: UUID, slug: str, after: int, limit: int) -> list[Frame]:
    told = progress.events_after(execution, after, limit)
    return [payloads.event(one, execution_id=execution, slug=slug) for one in told]


def _next_page(frames: Sequence[Frame]) -> int:
    """How many events to read next, when these were the last: about as many as are handed on."""
    size = sum(frame.size for frame in frames) // max(1, len(frames))
    return max(1, min(PAGE, HISTORY_BYTES // max(1, size)))


def _within(frames: list[Frame], most: int) -> list[Frame]:
    """The first ones of no more than so many bytes together, but one at least."""
    size = 0
    for number, frame in enumerate(frames):
        size += frame.size
        if number and size > most:
            return frames[:number]
    return frames


def _after(cursor: int, frames: list[Frame]) -> list[Batch]:
    return batches(frame for frame in frames if frame.seq > cursor)


def _heard_and_read(
    listener: bell.Listener | None, asked: Mapping[UUID, int], slugs: Mapping[UUID, str]
) -> tuple[list[tuple[UUID, list[Frame]]], bool]:
    if listener is not None:
        listener.read()
    return _news(asked, slugs)


def _news(asked: Mapping[UUID, int], slugs: Mapping[UUID, str]) -> tuple[list[tuple[UUID, list[Frame]]], bool]:
    """The events after each execution's number, and whether there were more than one look takes."""
    found: list[tuple[UUID, list[Frame]]] = []
    count = size = 0
    more = False
    for some in _chunks(asked, 500):
        for execution, seq in progress.positions(some).items():
            if seq <= asked[execution]:
                continue
            if count >= MOST_AT_ONCE or size >= MOST_BYTES_AT_ONCE:
                return found, True
            whole = _read(execution, slugs[execution], asked[execution], PAGE)
            read = _within(whole, MOST_BYTES_AT_ONCE - size)
            more = more or len(whole) == PAGE or len(read) < len(whole)
            found.append((execution, read))
            count += len(read)
            size += sum(frame.size for frame in read)
    return found, more


def _chunks(items: Iterable[UUID], size: int) -> Iterable[list[UUID]]:
    all_of_them = list(items)
    for start in range(0, len(all_of_them), size):
        yield all_of_them[start : start + size]


def _recent() -> set[UUID]:
    return set(progress.created_since(datetime.now(UTC) - NEW_WINDOW, limit=MAX_NEW))


_feeds: WeakKeyDictionary[asyncio.AbstractEventLoop, Feed] = WeakKeyDictionary()


def readers() -> int:
    """How many readers this process feeds."""
    return sum(len(one._readers) for one in list(_feeds.values()))


def feed() -> Feed:
    """The feed of the running loop."""
    return _feeds.setdefault(asyncio.get_running_loop(), Feed())
