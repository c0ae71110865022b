"""One watcher, by socket or by stream: what it asked for, what is told to it, and the end when its right has ended."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic
from typing import Any
from uuid import UUID

from django.contrib.auth.models import AnonymousUser

from apps.accounts.models import User
from apps.core.errors import Denied, NotFound, PlatformError, Unauthenticated
from apps.progress.conversation import Subscription, Subscriptions
from apps.progress.credentials import Credential
from apps.progress.feed import Feed, Reader, feed
from apps.progress.frames import Batch
from apps.progress.outbox import Outbox

logger = logging.getLogger(__name__)

BAD_FRAME, UNAUTHENTICATED, DENIED, NOT_FOUND = 4400, 4401, 4403, 4404
TOO_LARGE, TOO_SLOW = 1009, 1013


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """How a watcher is told that it is over: a socket's close code, a word for programs and a sentence for people."""

    close_code: int
    code: str
    message: str


SLOW = Ending(close_code=TOO_SLOW, code="too_slow", message="You read too slowly; connect again with `since`.")
UNVERIFIED = Ending(close_code=TOO_SLOW, code="unavailable", message="Your right cannot be checked now; connect again.")


def ending_of(error: Exception) -> Ending:
    """What an error means to a watcher; what nobody foresaw is logged, and never tells more than that."""
    match error:
        case Unauthenticated():
            return Ending(close_code=UNAUTHENTICATED, code=error.code, message=error.detail)
        case NotFound():
            # One answer for what is not there, what is another's and what was never executed.
            message = "There is no such thing, or you may not know of it."
            return Ending(close_code=NOT_FOUND, code="not_found", message=message)
        case Denied():
            return Ending(close_code=DENIED, code=error.code, message=error.detail)
        case PlatformError():
            return Ending(close_code=BAD_FRAME, code=error.code, message=error.detail)
        case _:
            logger.error("a watcher failed", exc_info=error)
            message = "Something went wrong on our side; connect again."
            return Ending(close_code=TOO_SLOW, code="internal_error", message=message)


class Session:
    """A reader of the feed with a right that is swept. `ended` is called once at most, and only from outside calls.

    Whoever makes it enters it into the sweep, and leaves when the peer has gone.
    """

    def __init__(
        self,
        credential: Credential,
        user: User | AnonymousUser,
        *,
        ended: Callable[[Ending], None],
        without: frozenset[str] = frozenset(),
        coalesce: bool = False,
    ) -> None:
        self.credential, self.user = credential, user
        self.verified = monotonic()
        self.reader = Reader(outbox=Outbox(without=without, coalesce=coalesce))
        self._ended = ended
        self._feed: Feed = feed()
        self._feed.enter(self.reader)
        self.subscriptions = Subscriptions(self._feed, self.reader, without=without, failed=self._failed)

    async def subscribe(self, workflow_id: str | None, since: int | None, *, execution: UUID | None = None) -> None:
        """Be told of this, or (None) of everything that the caller may read. Raises `NotFound`, `Invalid`."""
        if workflow_id is None:
            await self.subscriptions.add_everything(lambda: self.user)
        else:
            await self.subscriptions.add(self.user, workflow_id, since, execution=execution)

    async def next(self) -> Batch:
        """What is to be sent next. Raises `TooSlow`."""
        while True:
            found = await self.reader.outbox.get()
            if isinstance(found, Batch):
                return found
            for execution in found:
                await self.subscriptions.renew(execution)

    # -- the sweep -----------------------------------------------------------------------------------------------------

    def chosen(self) -> list[Subscription]:
        """What was asked for by an id."""
        return self.subscriptions.chosen()

    def roamed(self) -> list[UUID]:
        """What is followed because everything was asked for."""
        return self.subscriptions.roamed()

    def confirm(self, user: User | AnonymousUser, gone: list[UUID]) -> None:
        """The right holds, as of now; nothing more of `gone`, though."""
        self.user, self.verified = user, monotonic()
        for execution in gone:
            self.subscriptions.drop(execution)

    def end(self, ending: Ending) -> None:
        """It is over, and this is why."""
        self._ended(ending)

    def leave(self) -> None:
        """Be fed no more, from this moment on."""
        self.subscriptions.end()
        self._feed.leave(self.reader)

    def _failed(self, error: Exception) -> Any:
        self._ended(ending_of(error))
