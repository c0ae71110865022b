"""The stream as Server-Sent Events, for clients without sockets: the same feed, the same right, swept the same way.

An event's id is `EXECUTION:SEQ`, the cursor: a client that comes again with `Last-Event-ID` goes on where it was,
within the same execution, though a newer one may have begun meanwhile (which is then announced).
"""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.contrib.auth.models import AnonymousUser
from django.http import HttpRequest

from apps.accounts.models import User
from apps.core.errors import Invalid
from apps.progress import payloads
from apps.progress.credentials import Credential
from apps.progress.frames import Frame
from apps.progress.handshake import Wish, cursor, wish_of
from apps.progress.outbox import TooSlow
from apps.progress.session import SLOW, Ending, Session, ending_of
from apps.progress.sweep import sweeper
from apps.progress.wire import Peer, until_drained
from apps.workflows.selectors.progress import execution_key

MEDIA_TYPE = "text/event-stream"
KEEPALIVE_SECONDS = 15.0  # a line now and then, so that no proxy takes a quiet stream for a dead one
RETRY_MS = 1000  # after which a browser that was cut off comes again
_LAST = "Last-Event-ID"


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What a stream is of: an id, what the query says, and the cursor of `Last-Event-ID`, which goes before `since`."""

    workflow_id: str
    wish: Wish
    since: int | None
    execution: UUID | None = None


def asked(request: HttpRequest, workflow_id: str) -> Asked:
    """What a request asks for. Raises `Invalid`."""
    wish = wish_of({name: [str(value) for value in values] for name, values in request.GET.lists()})
    last = request.headers.get(_LAST, "").strip()
    if not last:
        return Asked(workflow_id=workflow_id, wish=wish, since=wish.since)
    name, _, seq = last.rpartition(":")
    execution = execution_key(name) if name else None
    if name and execution is None:
        raise Invalid(f"The header {_LAST} must be the id of an event of this stream.")
    return Asked(workflow_id=workflow_id, wish=wish, since=cursor(seq), execution=execution)


async def stream(what: Asked, credential: Credential, user: User | AnonymousUser, peer: Peer) -> AsyncIterator[bytes]:
    """The stream's bytes until the right, or the patience with a slow reader, has ended; the last event says why."""
    over: asyncio.Future[Ending] = asyncio.get_running_loop().create_future()

    def end(ending: Ending) -> None:
        if not over.done():
            over.set_result(ending)

    session = Session(credential, user, ended=end, without=what.wish.without, coalesce=what.wish.coalesce)
    sweeper().enter(session)
    try:
        yield f"retry: {RETRY_MS}\n\n".encode()
        try:
            await session.subscribe(what.workflow_id, what.since, execution=what.execution)
            async for piece in _pieces(session, over, peer, fresh=what.since is None):
                yield piece
        except TooSlow:
            end(SLOW)
        except Exception as error:
            end(ending_of(error))
        ending = over.result()
        yield _event(payloads.plain("error", code=ending.code, message=ending.message), kind="error")
        if ending is SLOW:
            peer.dismiss()
    finally:
        sweeper().leave(session)
        session.leave()


async def _pieces(session: Session, over: asyncio.Future[Ending], peer: Peer, *, fresh: bool) -> AsyncIterator[bytes]:
    """What is to be written, until `over`. `fresh`: nothing before the snapshot was asked for, so it is a cursor."""
    following = asyncio.ensure_future(session.next())
    try:
        while True:
            await _either(following, over, KEEPALIVE_SECONDS)
            if over.done():
                return
            peer.alive()
            if not following.done():
                yield b": nothing new\n\n"
                continue
            batch = following.result()
            yield b"".join([_event(frame, cursor=fresh or not frame.snapshot) for frame in batch.frames])
            await _drained(session, over, peer)
            following = asyncio.ensure_future(session.next())
    finally:
        following.cancel()


async def _drained(session: Session, over: asyncio.Future[Ending], peer: Peer) -> None:
    draining = asyncio.ensure_future(until_drained(peer.held, session.reader.outbox))
    try:
        await _either(draining, over)
        if draining.done():
            draining.result()
    finally:
        draining.cancel()


async def _either(one: asyncio.Future[Any], other: asyncio.Future[Any], seconds: float | None = None) -> None:
    await asyncio.wait((one, other), timeout=seconds, return_when=asyncio.FIRST_COMPLETED)


def _event(frame: Frame, *, cursor: bool = True, kind: str = "") -> bytes:
    """A frame as one event of the stream."""
    name = f"id: {frame.execution_id}:{frame.seq}\n" if cursor and frame.execution_id is not None else ""
    about = f"event: {kind}\n" if kind else ""
    return f"{name}{about}data: {frame.text}\n\n".encode()
