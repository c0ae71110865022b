"""Claims that wait: no thread and no database connection each, one look for all of them.

A server process with waiting claims listens to the doorbell `work`, and looks each second without it. Agents alike in
their lanes find the same, so a look costs as many claims as there are kinds of agents, not agents. Of one agent a few
wait: one more ends the oldest, whose peer may be long gone.
"""

import asyncio
import contextlib
import json
import logging
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, ParamSpec, TypeVar
from uuid import UUID
from weakref import WeakKeyDictionary

from django.conf import settings
from django.db import Error, connection

from apps.agents import ledger
from apps.agents.models import Agent
from apps.agents.selectors import good, load_of
from apps.core import bell
from apps.core.errors import Unauthenticated
from apps.workflows.services import leases
from apps.workflows.services.ledger import ClaimedTask

logger = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")

POLL_SECONDS = 1.0  # how long a lost doorbell may go unnoticed
GATHER_SECONDS = 0.02  # rings of busy workers are looked at together
RIGHT_SECONDS = 2.0  # a credential that ended is noticed within this
OF_ONE_AGENT = 8  # claims that may wait, or as many as it has slots
_BEATS_A_LEASE = 3

# One thread of a process looks for all that wait; its connection ends when nobody does.
_thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="agents")


@dataclass(eq=False, slots=True)
class _Waiter:
    agent: Agent
    most: int
    found: asyncio.Future[Sequence[ClaimedTask]]


class Room:
    """Where claims wait, in one process."""

    def __init__(self) -> None:
        self._waiters: dict[_Waiter, None] = {}
        self._rung = asyncio.Event()
        self._running: asyncio.Task[None] | None = None
        self._checked_at = self._seen_at = 0.0

    async def wait(self, agent: Agent, most: int, seconds: float) -> Sequence[ClaimedTask]:
        """What is found for it within so many seconds; nothing where there is nothing, or its right has ended."""
        waiter = _Waiter(agent, most, asyncio.get_running_loop().create_future())
        its = [one for one in self._waiters if one.agent.pk == agent.pk]
        for oldest in its[: max(0, len(its) + 1 - max(agent.slots, OF_ONE_AGENT))]:
            _give(oldest, ())
        self._waiters[waiter] = None
        self._rung.set()  # something may have come between the first look and this moment
        if self._running is None or self._running.done():
            self._running = asyncio.create_task(self._run())
        try:
            await asyncio.wait((waiter.found,), timeout=seconds)
            # Nothing is awaited from here on: what is found after this moment is given back by who would hand it over.
            return waiter.found.result() if waiter.found.done() else ()
        except asyncio.CancelledError:
            if waiter.found.done() and (found := waiter.found.result()):
                await asyncio.shield(_in_thread(ledger.unheard, found))
            raise
        finally:
            self._waiters.pop(waiter, None)
            waiter.found.cancel()

    async def _run(self) -> None:
        while self._waiters:
            try:
                listener = await _in_thread(bell.listen, "work")
                try:
                    await self._listen(listener)
                finally:
                    await asyncio.shield(_in_thread(_end, listener))
            except Exception:
                logger.exception("waiting claims could not be looked for; they will again")
                await asyncio.sleep(POLL_SECONDS)

    async def _listen(self, listener: bell.Listener) -> None:
        loop = asyncio.get_running_loop()
        while self._waiters:
            descriptor = listener.fileno()
            loop.add_reader(descriptor, self._rung.set)
            try:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(POLL_SECONDS):
                        await self._rung.wait()
            finally:
                loop.remove_reader(descriptor)
            self._rung.clear()
            began = time.monotonic()
            try:
                await _in_thread(listener.read)
                await self._look()
            except Error as error:
                logger.warning("waiting claims: the database does not answer: %s", type(error).__name__)
                await asyncio.sleep(POLL_SECONDS)
            # Looking takes a small share of the time, however often it rings.
            await asyncio.sleep(max(GATHER_SECONDS, 2 * (time.monotonic() - began)))

    async def _look(self) -> None:
        now, waiting = time.monotonic(), list(self._waiters)
        if now - self._checked_at > RIGHT_SECONDS:
            self._checked_at = now
            allowed = await _in_thread(good, [waiter.agent for waiter in waiting])
            for waiter in list(waiting):
                if (fresh := allowed.get(waiter.agent.pk)) is not None:
                    waiter.agent = fresh
                else:
                    _give(waiter, ())
                    waiting.remove(waiter)
        if now - self._seen_at > settings.ENV.LEASE_SECONDS / _BEATS_A_LEASE:
            self._seen_at = now
            await _in_thread(leases.still_there, [waiter.agent.performer for waiter in waiting])
        for waiter, found in await _in_thread(_search, waiting):
            if not _give(waiter, found) and found:
                await _in_thread(ledger.unheard, found)


def _search(waiting: Sequence[_Waiter]) -> list[tuple[_Waiter, Sequence[ClaimedTask]]]:
    """What there is for them, in the order in which their agents came."""
    found: list[tuple[_Waiter, Sequence[ClaimedTask]]] = []
    load = load_of({waiter.agent.performer for waiter in waiting})
    served: dict[str, frozenset[str]] = {}  # by labels: many have the same
    # By lanes, and by whether it is idle: some tasks are for idle ones alone.
    fruitless: set[tuple[frozenset[str], bool]] = set()
    for waiter in _newest_first(waiting):
        agent = waiter.agent
        labels = json.dumps(agent.labels, sort_keys=True)
        if labels not in served:
            served[labels] = ledger.lanes_of(agent)
        lanes, held = served[labels], load.get(agent.performer, 0)
        if not lanes or held >= agent.slots or {(lanes, True), (lanes, not held)} & fruitless:
            continue
        try:
            tasks = ledger.claim(agent, waiter.most)
        except Unauthenticated:
            found.append((waiter, ()))
            continue
        except Error:
            if not found:
                raise
            connection.close()
            break  # what others were given is theirs; the next look begins anew
        if tasks:
            found.append((waiter, tasks))
            load[agent.performer] = held + len(tasks)
        else:
            fruitless.add((lanes, not held))
    return found


def _newest_first(waiting: Sequence[_Waiter]) -> Iterator[_Waiter]:
    """Agents in the order in which they came; of the claims of one the newest first: its peer is there."""
    by_agent: dict[UUID, list[_Waiter]] = {}
    for waiter in waiting:
        by_agent.setdefault(waiter.agent.pk, []).append(waiter)
    for its in by_agent.values():
        yield from reversed(its)


def _give(waiter: _Waiter, tasks: Sequence[ClaimedTask]) -> bool:
    """Whether it still waits."""
    if waiter.found.done():
        return False
    waiter.found.set_result(tasks)
    return True


def _end(listener: bell.Listener) -> None:
    listener.close()
    connection.close()


async def _in_thread(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    loop = asyncio.get_running_loop()
    call: Any = lambda: _connected(function, *args, **kwargs)  # noqa: E731
    answer: T = await loop.run_in_executor(_thread, call)
    return answer


def _connected(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    try:
        return function(*args, **kwargs)
    except Error:
        connection.close()  # the next call gets a new one
        raise


_rooms: WeakKeyDictionary[asyncio.AbstractEventLoop, Room] = WeakKeyDictionary()


async def later(
    agent: Agent, most: int, seconds: float, write: Callable[[Sequence[ClaimedTask]], bytes]
) -> AsyncIterator[bytes]:
    """The body of an answer that comes later: what `write` makes of the tasks, once they are there."""
    loop = asyncio.get_running_loop()
    room = _rooms.get(loop) or _rooms.setdefault(loop, Room())
    yield write(await room.wait(agent, most, seconds))
