"""The socket at /progress/ws: a snapshot, then every event after it, while the credential and the right hold."""

import asyncio
import contextlib
import logging
from collections.abc import Mapping
from time import monotonic
from typing import Any
from uuid import UUID

from channels.exceptions import StopConsumer
from channels.generic.websocket import AsyncWebsocketConsumer
from channels.utils import await_many_dispatch
from django.contrib.auth.models import AnonymousUser

from apps.accounts.models import User
from apps.accounts.permissions import Permission
from apps.core.api.parsers import loads
from apps.core.errors import Denied, Invalid, NotFound, PlatformError, Unauthenticated
from apps.progress import payloads
from apps.progress.conversation import Subscription, Subscriptions
from apps.progress.credentials import Credential, may_watch, user_behind
from apps.progress.feed import Feed, Reader, feed, in_thread
from apps.progress.handshake import Admission, admit, wish
from apps.progress.noting import noted
from apps.progress.outbox import Outbox, TooSlow, held_back, until_drained
from apps.workflows.selectors import progress

logger = logging.getLogger(__name__)

BAD_FRAME, UNAUTHENTICATED, DENIED, NOT_FOUND = 4400, 4401, 4403, 4404
TOO_LARGE, TOO_SLOW = 1009, 1013
MAX_FRAME = 64 * 1024  # bytes of one frame from a client
SWEEP_SECONDS = 2.0
UNVERIFIED_SECONDS = 4.0  # with no answer about the credential for so long nothing more is sent
GOODBYE_SECONDS = 5.0
_BURST = 64  # frames sent before others have their turn


class ProgressConsumer(AsyncWebsocketConsumer):
    """One socket. It asks the feed for events and nothing of a channel layer."""

    required_permissions = {"connect": Permission.PROGRESS_READ}

    _credential: Credential
    _user: User | AnonymousUser
    _feed: Feed
    _reader: Reader
    _subscriptions: Subscriptions

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # here and below: Channels has no annotations
        self._tasks: list[asyncio.Task[None]] = []
        self._open = False

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve one socket until it closes."""
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
        except PlatformError:
            await self._end()
            return
        except Exception:
            logger.exception("a handshake could not be judged")
            await self._end()
            return
        self._credential, self._user = admission.credential, admission.user
        await self.accept(admission.subprotocol)  # type: ignore[no-untyped-call]
        self._open = True
        try:
            asked = wish(self.scope)
            self._feed, self._reader = feed(), Reader(outbox=Outbox(without=asked.without))
            self._feed.enter(self._reader)
            self._subscriptions = Subscriptions(self._feed, self._reader, without=asked.without, failed=self._fail_soon)
            self._tasks = [asyncio.create_task(self._send_all()), asyncio.create_task(self._sweep())]
            if asked.workflow_id is not None:
                await self._subscriptions.add(self._user, asked.workflow_id, asked.since)
            else:
                await self._subscriptions.add_everything(lambda: self._user)
            await in_thread(noted, self.scope, self._user, asked.workflow_id)
        except Exception as error:
            await self._fail_for(error)

    # -- what the client says ------------------------------------------------------------------------------------------

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:  # noqa: ARG002
        """One frame of the client's."""
        if not self._open:
            return
        if text_data is None:
            await self._fail(BAD_FRAME, "bad_frame", "Frames are JSON text; binary ones are not understood.")
        elif len(text_data) > MAX_FRAME or len(text_data.encode("utf-8", "replace")) > MAX_FRAME:
            await self._fail(TOO_LARGE, "too_large", f"A frame is at most {MAX_FRAME:,} bytes.")
        else:
            try:
                await self._answer(_parsed(text_data))
            except Exception as error:
                await self._fail_for(error)

    async def _answer(self, said: Mapping[str, Any]) -> None:
        match said.get("type"):
            case "ping":
                self._reader.outbox.put(payloads.plain("pong"))
            case "subscribe":
                await self._subscriptions.add(self._user, _id_in(said), _since_in(said))
                await in_thread(noted, self.scope, self._user, _id_in(said))
            case "unsubscribe":
                self._subscriptions.remove(_id_in(said))
                self._reader.outbox.put(payloads.plain("unsubscribed", workflow_id=_id_in(said)))
            case _:
                raise Invalid("`type` must be ping, subscribe or unsubscribe.", code="unknown_type")

    # -- what is sent --------------------------------------------------------------------------------------------------

    async def _send_all(self) -> None:
        outbox, count, sent = self._reader.outbox, held_back(self.base_send), 0
        try:
            while True:
                frame = await outbox.get()
                await self._say(frame.text)
                await until_drained(count, outbox)
                sent += 1
                if sent % _BURST == 0:
                    await asyncio.sleep(0)
        except TooSlow:
            await self._fail(TOO_SLOW, "too_slow", "You read too slowly; connect again with `since`.")
        except Exception:
            logger.info("a socket could not be written", exc_info=True)
            self._leave()

    # -- while it lasts ------------------------------------------------------------------------------------------------

    async def _sweep(self) -> None:
        """Ask again and again whether this caller may still read what is sent; the answer ends the socket."""
        verified = monotonic()
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            try:
                asking = in_thread(_still, self._credential, self._subscriptions.chosen(), self._subscriptions.roamed())
                async with asyncio.timeout(UNVERIFIED_SECONDS - SWEEP_SECONDS):
                    self._user, gone = await asking
            except PlatformError as error:
                await self._fail_for(error)
                return
            except Exception:
                logger.warning("a socket's right could not be checked", exc_info=True)
                if monotonic() - verified >= UNVERIFIED_SECONDS:
                    await self._fail(TOO_SLOW, "unavailable", "Your right cannot be checked now; connect again.")
                    return
                continue
            verified = monotonic()
            for execution in gone:
                self._subscriptions.drop(execution)

    def _fail_soon(self, error: Exception) -> None:
        self._last_words = asyncio.create_task(self._fail_for(error))

    async def _fail_for(self, error: Exception) -> None:
        match error:
            case Unauthenticated():
                await self._fail(UNAUTHENTICATED, error.code, error.detail)
            case NotFound():
                # One answer for what is not there, what is another's and what was never executed.
                await self._fail(NOT_FOUND, "not_found", "There is no such thing, or you may not know of it.")
            case Denied():
                await self._fail(DENIED, error.code, error.detail)
            case PlatformError():
                await self._fail(BAD_FRAME, error.code, error.detail)
            case _:
                logger.error("a socket failed", exc_info=error)
                await self._fail(TOO_SLOW, "internal_error", "Something went wrong on our side; connect again.")

    async def _fail(self, close_code: int, code: str, message: str) -> None:
        """The last frame says why; after it nothing is sent."""
        if not self._open:
            return
        self._open = False
        self._leave()
        with contextlib.suppress(Exception):
            async with asyncio.timeout(GOODBYE_SECONDS):
                await self._say(payloads.plain("error", code=code, message=message).text)
                await self._end(close_code)

    async def _say(self, text: str) -> None:
        await self.send(text_data=text)  # type: ignore[no-untyped-call]

    async def _end(self, code: int | None = None) -> None:
        """Close; before the handshake is accepted that refuses it."""
        await self.close(code=code)  # type: ignore[no-untyped-call]

    async def disconnect(self, _code: int) -> None:
        """The client has gone."""
        self._leave()

    def _leave(self) -> None:
        """Stop being fed, and every task but the one that calls."""
        self._open = False
        if hasattr(self, "_subscriptions"):
            self._subscriptions.end()
        if hasattr(self, "_reader"):
            self._feed.leave(self._reader)
        for task in self._tasks:
            if task is not asyncio.current_task():
                task.cancel()


def _still(
    credential: Credential, chosen: list[Subscription], roamed: list[UUID]
) -> tuple[User | AnonymousUser, list[UUID]]:
    """The caller as it is now, and what of everything it may no longer read.

    Raises `Unauthenticated`, or `Denied` where it may no longer read something that it chose, or anything at all.
    """
    user = user_behind(credential)
    if not may_watch(user):
        raise Denied("You may no longer read progress.")
    visible = progress.visible_among(user, [*(one.execution for one in chosen), *roamed])
    if any(one.execution not in visible for one in chosen):
        raise Denied("You may no longer read this, or it was deleted.")
    return user, [execution for execution in roamed if execution not in visible]


def _parsed(text: str) -> Mapping[str, Any]:
    said = loads(text.encode("utf-8", "surrogatepass"))
    if not isinstance(said, dict):
        raise Invalid("A frame is a JSON object.", code="bad_frame")
    return said


def _id_in(said: Mapping[str, Any]) -> str:
    given = said.get("workflow_id")
    if not isinstance(given, str):
        raise Invalid("`workflow_id` must be text.", code="bad_frame")
    return given


def _since_in(said: Mapping[str, Any]) -> int | None:
    given = said.get("since")
    if given is not None and (isinstance(given, bool) or not isinstance(given, int) or given < 0):
        raise Invalid("`since` must be a whole number from 0.", code="bad_frame")
    return given
