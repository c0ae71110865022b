"""The sweep: once a second every watcher's right is asked for again, of all watchers of this process together.

Together, because a thousand watchers that each ask for themselves cost more than telling them everything. It costs a
handful of queries for each part of them: credentials, accounts, roles, what still exists, what was granted to those
without a role that reads; and one for each session and each API token.
"""

import asyncio
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from time import monotonic
from typing import TypeAlias
from uuid import UUID
from weakref import WeakKeyDictionary

from django.contrib.auth.models import AnonymousUser

from apps.accounts.models import User
from apps.accounts.permissions import Permission, scope_of
from apps.core.errors import Denied, PlatformError
from apps.progress.credentials import Credential, may_watch, users_behind
from apps.progress.feed import in_thread
from apps.progress.session import UNVERIFIED, Session, ending_of
from apps.workflows.models import Workflow
from apps.workflows.models.gate import sees_all
from apps.workflows.selectors import progress

logger = logging.getLogger(__name__)

SWEEP_SECONDS = 1.0
PART = 200  # watchers that are asked for together: an answer that is late is late for no more than these
UNVERIFIED_SECONDS = 4.0  # with no answer about the credential for so long nothing more is sent

Caller: TypeAlias = User | AnonymousUser


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What one watcher is told of: executions that it chose, and those that it only roams."""

    credential: Credential
    chosen: frozenset[UUID]
    roamed: frozenset[UUID]


Verdict: TypeAlias = tuple[Caller, list[UUID]] | PlatformError
"""The caller as it is now and what it no longer may read of everything; or why nothing more is for it."""


class Sweeper:
    """The sweep of one event loop; use `sweeper()`."""

    def __init__(self) -> None:
        self._sessions: set[Session] = set()
        self._task: asyncio.Task[None] | None = None

    def enter(self, session: Session) -> None:
        """Ask for this watcher as well, from now on."""
        self._sessions.add(session)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run(), name="progress-sweep")

    def leave(self, session: Session) -> None:
        """It has gone."""
        self._sessions.discard(session)
        if not self._sessions and self._task is not None:
            self._task.cancel()
            self._task = None

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            sessions = list(self._sessions)
            for start in range(0, len(sessions), PART):
                await self._ask(sessions[start : start + PART])

    async def _ask(self, sessions: Sequence[Session]) -> None:
        try:
            asked = [_asked(session) for session in sessions]
            async with asyncio.timeout(max(1.0, UNVERIFIED_SECONDS / 2)):
                verdicts = await in_thread(judge, asked)
            for session, verdict in zip(sessions, verdicts, strict=True):
                self._tell(session, verdict)
        except Exception:
            logger.warning("the watchers' right could not be checked", exc_info=True)
            self._end_unverified()

    def _tell(self, session: Session, verdict: Verdict) -> None:
        if session not in self._sessions:
            return
        if isinstance(verdict, PlatformError):
            session.end(ending_of(verdict))
        else:
            session.confirm(*verdict)

    def _end_unverified(self) -> None:
        latest = monotonic() - UNVERIFIED_SECONDS + SWEEP_SECONDS  # the next look would be too late
        for session in [one for one in self._sessions if one.verified <= latest]:
            session.end(UNVERIFIED)


def _asked(session: Session) -> Asked:
    return Asked(
        credential=session.credential,
        chosen=frozenset(one.execution for one in session.chosen()),
        roamed=frozenset(session.roamed()),
    )


def judge(asked: Sequence[Asked]) -> list[Verdict]:
    """The verdict on each watcher, in their order. Uses the database."""
    users = users_behind({one.credential for one in asked})
    wanted: dict[Credential, set[UUID]] = {credential: set() for credential in users}
    for one in asked:
        wanted[one.credential] |= one.chosen | one.roamed
    known = {credential: user for credential, user in users.items() if not isinstance(user, PlatformError)}
    seeing_all = {credential for credential, user in known.items() if sees_all(user, Permission.PROGRESS_READ)}
    existing = _existing(set().union(*(wanted[credential] for credential in seeing_all)))
    visible: dict[Credential, frozenset[UUID]] = dict.fromkeys(seeing_all, existing)
    watching = set(seeing_all)
    by_grant = {c: u for c, u in known.items() if c not in seeing_all and isinstance(u, User) and scope_of(u) is None}
    _judge_granted(by_grant, wanted, visible, watching)
    for credential, caller in known.items():
        if credential not in visible:
            visible[credential] = _visible(caller, wanted[credential])
            if visible[credential] or may_watch(caller):
                watching.add(credential)
    return [
        user
        if isinstance(user := users[one.credential], PlatformError)
        else _verdict(one, user, watches=one.credential in watching, visible=visible[one.credential])
        for one in asked
    ]


def _judge_granted(
    known: Mapping[Credential, User],
    wanted: Mapping[Credential, set[UUID]],
    visible: dict[Credential, frozenset[UUID]],
    watching: set[Credential],
) -> None:
    """Of accounts without a role that reads, all together: what each sees of what it wants; whether it may watch."""
    users = {user.pk for user in known.values()}
    if not users:
        return
    seen: dict[UUID, set[UUID]] = {user: set() for user in users}
    for some in _parts(set().union(*(wanted[credential] for credential in known))):
        for key, found in progress.visible_to_each(users, some).items():
            seen[key] |= found
    blind = {user.pk for credential, user in known.items() if not seen[user.pk] & wanted[credential]}
    some_day = Workflow.objects.all().seen_by_some(blind, Permission.PROGRESS_READ) if blind else set()
    for credential, user in known.items():
        visible[credential] = frozenset(seen[user.pk] & wanted[credential])
        if visible[credential] or user.pk in some_day:
            watching.add(credential)


def _existing(executions: set[UUID]) -> frozenset[UUID]:
    return frozenset(key for some in _parts(executions) for key in progress.positions(some))


def _visible(user: Caller, executions: set[UUID]) -> frozenset[UUID]:
    return frozenset(key for some in _parts(executions) for key in progress.visible_among(user, some))


def _parts(executions: set[UUID]) -> Iterator[list[UUID]]:
    """In pieces that every database takes in one statement."""
    every = list(executions)
    for start in range(0, len(every), 500):
        yield every[start : start + 500]


def _verdict(one: Asked, user: Caller, *, watches: bool, visible: frozenset[UUID]) -> Verdict:
    if not watches:
        return Denied("You may no longer read progress.")
    if not one.chosen <= visible:
        return Denied("You may no longer read this, or it was deleted.")
    return user, sorted(one.roamed - visible)


_sweepers: WeakKeyDictionary[asyncio.AbstractEventLoop, Sweeper] = WeakKeyDictionary()


def sweeper() -> Sweeper:
    """The sweep of the running loop."""
    return _sweepers.setdefault(asyncio.get_running_loop(), Sweeper())
