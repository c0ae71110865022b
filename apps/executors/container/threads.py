"""Blocking calls of a client library, each in a thread of its own that nothing waits for at the end."""

import asyncio
import contextvars
import threading
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, TypeVar

from apps.executors.spawn import uninterrupted

GONE_WITHIN = 20.0
"""Seconds that what is cancelled in another thread is waited for."""

Result = TypeVar("Result")


def in_thread(work: Callable[..., Result], *given: Any) -> "asyncio.Future[Result]":
    """The future of `work(*given)`, which runs in a daemon thread: one that hangs cannot keep a worker from ending.

    asyncio's own threads are few, and a container occupies one for as long as it runs.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Result] = loop.create_future()

    def tell(result: Result | None, error: BaseException | None) -> None:
        if not future.done():
            if error is None:
                future.set_result(result)  # type: ignore[arg-type]  # a Result where there is no error
            else:
                future.set_exception(error)

    def perform() -> None:
        try:
            outcome: tuple[Result | None, BaseException | None] = work(*given), None
        except BaseException as error:
            outcome = None, error
        if not loop.is_closed():
            loop.call_soon_threadsafe(tell, *outcome)

    threading.Thread(target=perform, name="container", daemon=True).start()
    return future


async def apart(work: Callable[[], Coroutine[Any, Any, Result]]) -> Result:
    """`await work()` in an event loop of its own thread; a cancel is carried there, and waited for."""
    inside: list[tuple[asyncio.AbstractEventLoop, asyncio.Task[Result]]] = []
    context = contextvars.copy_context()
    cancelled = threading.Event()

    async def begin() -> Result:
        task = asyncio.ensure_future(work())
        inside.append((asyncio.get_running_loop(), task))
        if cancelled.is_set():
            task.cancel()
        return await task

    future = in_thread(context.run, asyncio.run, begin())
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        cancelled.set()
        for loop, task in inside:
            with suppress(RuntimeError):  # it has ended meanwhile
                loop.call_soon_threadsafe(task.cancel)
        await uninterrupted(_ended(future))
        raise


async def _ended(future: "asyncio.Future[Any]") -> None:
    await asyncio.wait([future], timeout=GONE_WITHIN)
    if future.done():
        with suppress(BaseException):
            future.result()


class Pouring:
    """Carries pieces from a thread to the event loop, a bounded number on their way at a time."""

    def __init__(self, receive: Callable[..., None], *, pieces: int = 64) -> None:
        self._loop = asyncio.get_running_loop()
        self._receive = receive
        self._room = threading.Semaphore(pieces)
        self._closed = False

    def pour(self, *piece: Any) -> None:
        """Called in the thread: wait for room, then hand over."""
        while not self._room.acquire(timeout=1.0):
            if self._closed or self._loop.is_closed():
                return
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._take, piece)

    def close(self) -> None:
        """Called in the loop: what comes from now on is let go of."""
        self._closed = True

    def _take(self, piece: tuple[Any, ...]) -> None:
        self._room.release()
        if not self._closed:
            self._receive(*piece)
