"""The socket at /progress/ws: a snapshot, then every event after it, while the credential and the right hold."""

import asyncio
import contextlib
import logging
from typing import Any

from channels.exceptions import StopConsumer
from channels.generic.websocket import AsyncWebsocketConsumer
from channels.utils import await_many_dispatch

from apps.accounts.permissions import Permission
from apps.core.api.parsers import loads
from apps.core.api.viewsets import turned_away
from apps.core.errors import PlatformError
from apps.progress import payloads, protocol
from apps.progress import wire as wires
from apps.progress.feed import in_thread
from apps.progress.frames import Frame
from apps.progress.handshake import Admission, admit, wish
from apps.progress.noting import noted
from apps.progress.outbox import TooSlow
from apps.progress.session import BAD_FRAME, SLOW, TOO_LARGE, Ending, Session, ending_of
from apps.progress.sweep import sweeper
from apps.progress.wire import Wire, until_drained

logger = logging.getLogger(__name__)

MAX_FRAME = 64 * 1024  # bytes of one frame from a client
GOODBYE_SECONDS = 5.0
_BURST = 64  # frames sent before others have their turn


class ProgressConsumer(AsyncWebsocketConsumer):
    """Live updates: a snapshot, then every event once and in order. See "The socket"."""

    required_permissions = {"connect": Permission.PROGRESS_READ}

    _session: Session | None = None

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # here and below: Channels has no annotations
        self._sending: asyncio.Task[None] | None = None
        self._open = False

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve one socket until it closes. The feed is asked for events, and nothing of a channel layer."""
        self.scope, self.channel_layer, self.base_send = scope, None, send
        try:
            await await_many_dispatch([receive], self.dispatch)
        except StopConsumer:
            pass
        finally:
            self._leave()

    # -- the handshake -------------------------------------------------------------------------------------------------

    async def connect(self) -> None:
        """Let the caller in or refuse the handshake (HTTP 403)."""
        try:
            admission: Admission = await in_thread(admit, self.scope)
        except PlatformError as error:
            turned_away.send_robust(sender=type(self), error=error)
            await self._end()
            return
        except Exception:
            logger.exception("a handshake could not be judged")
            await self._end()
            return
        wires.bound(self.base_send, MAX_FRAME, self._unfit)
        await self.accept(admission.subprotocol)  # type: ignore[no-untyped-call]
        self._open = True
        try:
            asked = wish(self.scope)
            self._session = session = Session(
                admission.credential,
                admission.user,
                ended=self._end_soon,
                without=asked.without,
                coalesce=asked.coalesce,
            )
            sweeper().enter(session)
            self._sending = asyncio.create_task(self._send_all(session))
            await session.subscribe(asked.workflow_id, asked.since)
            await in_thread(noted, self.scope, session.user, asked.workflow_id)
        except Exception as error:
            await self._fail(ending_of(error))

    # -- what the client says ------------------------------------------------------------------------------------------

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:  # noqa: ARG002
        """One frame of the client's."""
        if not self._open:
            return
        if text_data is None:
            await self._fail(_bad(BAD_FRAME, "bad_frame", "Frames are JSON text; binary ones are not understood."))
        elif len(text_data) > MAX_FRAME or len(text_data.encode("utf-8", "replace")) > MAX_FRAME:
            await self._fail(_TOO_LARGE)
        else:
            try:
                if self._session is not None:
                    await self._answer(self._session, protocol.said(loads(text_data.encode("utf-8", "surrogatepass"))))
            except Exception as error:
                await self._fail(ending_of(error))

    async def _answer(self, session: Session, said: protocol.Ping | protocol.Subscribe | protocol.Unsubscribe) -> None:
        match said:
            case protocol.Ping():
                session.reader.outbox.put(payloads.plain("pong"))
            case protocol.Subscribe(workflow_id=workflow_id, since=since):
                await session.subscribe(workflow_id, since)
                await in_thread(noted, self.scope, session.user, workflow_id)
            case protocol.Unsubscribe(workflow_id=workflow_id):
                session.subscriptions.remove(workflow_id)
                session.reader.outbox.put(payloads.plain("unsubscribed", workflow_id=workflow_id))

    def _unfit(self, code: int) -> None:
        """The server would not gather a message, for this reason."""
        self._end_soon(_TOO_LARGE if code == TOO_LARGE else _bad(BAD_FRAME, "bad_frame", "Frames are UTF-8 text."))

    # -- what is sent --------------------------------------------------------------------------------------------------

    async def _send_all(self, session: Session) -> None:
        wire, sent = Wire(self.base_send, self._say), 0
        try:
            while True:
                batch = await session.next()
                await wire.send(batch)
                await until_drained(wire.held, session.reader.outbox)
                sent += len(batch.frames)
                if sent >= _BURST:
                    sent = 0
                    await asyncio.sleep(0)
        except TooSlow:
            await self._fail(SLOW)
        except Exception:
            logger.info("a socket could not be written", exc_info=True)
            self._leave()

    # -- the end -------------------------------------------------------------------------------------------------------

    def _end_soon(self, ending: Ending) -> None:
        self._last_words = asyncio.create_task(self._fail(ending))

    async def _fail(self, ending: Ending) -> None:
        """The last frame says why; after it nothing is sent."""
        if not self._open:
            return
        self._open = False
        self._leave()
        with contextlib.suppress(Exception):
            async with asyncio.timeout(GOODBYE_SECONDS):
                await self._say(payloads.plain("error", code=ending.code, message=ending.message))
                await self._end(ending.close_code)

    async def _say(self, frame: Frame) -> None:
        await self.send(text_data=frame.text)  # type: ignore[no-untyped-call]

    async def _end(self, code: int | None = None) -> None:
        """Close; before the handshake is accepted that refuses it."""
        if code is not None and wires.close(self.base_send, code):
            return
        await self.close(code=code)  # type: ignore[no-untyped-call]

    async def disconnect(self, _code: int) -> None:
        """The client has gone."""
        self._leave()

    def _leave(self) -> None:
        """Stop being fed, swept and sent to."""
        self._open = False
        if self._session is not None:
            sweeper().leave(self._session)
            self._session.leave()
        if self._sending is not None and self._sending is not asyncio.current_task():
            self._sending.cancel()


def _bad(close_code: int, code: str, message: str) -> Ending:
    return Ending(close_code=close_code, code=code, message=message)


_TOO_LARGE = _bad(TOO_LARGE, "too_large", f"A frame is at most {MAX_FRAME:,} bytes.")
