"""What one socket subscribed to: a workflow's newest execution, one execution, or all that its caller may read."""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from time import time
from typing import Any
from uuid import UUID

from apps.core.errors import Invalid
from apps.progress import payloads
from apps.progress.feed import NEW_WINDOW, Feed, Reader, in_thread
from apps.workflows.engine.states import TERMINAL, Status
from apps.workflows.models import Execution
from apps.workflows.selectors import progress

MAX_SUBSCRIPTIONS = 1000
MAX_OPEN = 1000  # executions that have not ended with which a reader of everything begins


@dataclass(frozen=True, slots=True, kw_only=True)
class Subscription:
    """An id that was asked for, and the execution it was pinned to. `workflow` where newer ones are announced."""

    execution: UUID
    workflow: UUID | None


class Subscriptions:
    """The subscriptions of one socket."""

    def __init__(
        self, feed: Feed, reader: Reader, *, without: frozenset[str], failed: Callable[[Exception], Any]
    ) -> None:
        self._failed = failed  # told when following ended by an error, so that the socket does not fall silent
        self._feed = feed
        self._reader = reader
        self._without = without
        self._by_id: dict[str, Subscription] = {}
        self._following: dict[UUID, asyncio.Task[None]] = {}
        self._everything: asyncio.Task[None] | None = None
        self._told: set[UUID] = set()  # executions of everything that this reader knows of

    def chosen(self) -> list[Subscription]:
        """What was asked for by an id."""
        return list(self._by_id.values())

    def roamed(self) -> list[UUID]:
        """Executions that are followed only because everything was asked for."""
        chosen = {one.execution for one in self._by_id.values()}
        return [execution for execution in self._feed.followed(self._reader) if execution not in chosen]

    async def add(self, user: Any, workflow_id: str, since: int | None, *, execution: UUID | None = None) -> None:
        """Send a snapshot, then every event after `since`, or after the snapshot. Raises `NotFound`, `Invalid`.

        `execution` is one of that workflow to go on with, though there may be a newer one, which is then announced.
        """
        if workflow_id not in self._by_id and len(self._by_id) >= MAX_SUBSCRIPTIONS:
            raise Invalid(f"A socket has at most {MAX_SUBSCRIPTIONS:,} subscriptions.", code="too_many")
        row, state = await in_thread(_look_up, user, workflow_id, execution)
        self.remove(workflow_id)
        by_slug = progress.execution_key(workflow_id) != row.pk
        self._stop(row.pk)  # it may be followed under another of its names
        self._by_id[workflow_id] = Subscription(execution=row.pk, workflow=row.workflow_id if by_slug else None)
        self._reader.outbox.renew(row.pk)
        self._reader.outbox.put(payloads.snapshot(state, without=self._without))
        seq = int(state["seq"])
        # A cursor beyond the journal is another execution's; the snapshot has told all there is.
        after = seq if since is None else min(since, seq)
        if by_slug:
            self._feed.tell_newer(self._reader, row.workflow_id, row.pk)
        if not (after == seq and Status(state["status"]) in TERMINAL):
            following = self._feed.follow(self._reader, row.pk, row.workflow.slug, after=after, fresh=after == seq)
            self._following[row.pk] = asyncio.create_task(self._guarded(following))

    def remove(self, workflow_id: str) -> None:
        """No more of what was asked for by this id."""
        subscription = self._by_id.pop(workflow_id, None)
        if subscription is None:
            return
        if not any(one.execution == subscription.execution for one in self._by_id.values()):
            self._stop(subscription.execution)
        if subscription.workflow is not None:
            self._feed.forget_newer(self._reader, subscription.workflow)

    async def renew(self, execution: UUID) -> None:
        """A snapshot in place of what a reader that coalesces was too slow for, then what follows it."""
        self._stop(execution)
        self._reader.outbox.renew(execution)
        found = await in_thread(_as_it_is, execution)
        if found is None:  # it was deleted; the next sweep tells
            return
        slug, state = found
        self._reader.outbox.put(payloads.snapshot(state, without=self._without))
        if Status(state["status"]) not in TERMINAL:
            await self._feed.follow(self._reader, execution, slug, after=int(state["seq"]), fresh=True)

    async def add_everything(self, user: Callable[[], Any]) -> None:
        """Send what has not ended, then all events of that and of whatever begins; `user` is asked each time."""
        await self._feed.roam(self._reader)  # first, so that nothing begins between the two unseen
        rows = await in_thread(progress.open_executions, user(), MAX_OPEN + 1)
        truncated, rows = len(rows) > MAX_OPEN, rows[:MAX_OPEN]
        self._reader.outbox.put(payloads.overview(rows, truncated=truncated))
        self._told |= {row.pk for row in rows}
        self._everything = asyncio.create_task(self._guarded(self._roam(rows, user)))

    def drop(self, execution: UUID) -> None:
        """No more events of an execution that is no longer the caller's to read."""
        self._stop(execution)

    def end(self) -> None:
        """Stop everything."""
        for task in (*self._following.values(), self._everything):
            if task is not None:
                task.cancel()

    async def _guarded(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except Exception as error:
            self._failed(error)

    def _stop(self, execution: UUID) -> None:
        task = self._following.pop(execution, None)
        if task is not None:
            task.cancel()
        self._feed.unfollow(self._reader, execution)

    async def _roam(self, rows: list[Execution], user: Callable[[], Any]) -> None:
        for row in rows:
            await self._feed.follow(self._reader, row.pk, row.workflow.slug, after=row.seq, fresh=True)
        while True:
            await self._reader.new.wait()
            self._reader.new.clear()
            found, self._reader.found = self._reader.found - self._told, set()
            visible = await in_thread(progress.visible_among, user(), found) if found else {}
            self._told |= found
            for execution in sorted(visible):
                row = visible[execution]
                self._reader.outbox.put(payloads.execution(row))
                await self._feed.follow(self._reader, row.pk, row.workflow.slug, after=0)
            self._forget_old()

    def _forget_old(self) -> None:
        """The feed finds an execution new for no longer than its window; after that nobody need remember it."""
        oldest = int((time() - 2 * NEW_WINDOW.total_seconds()) * 1000) << 80
        self._told = {execution for execution in self._told if execution.int >= oldest}


def _look_up(user: Any, workflow_id: str, execution: UUID | None = None) -> tuple[Execution, dict[str, Any]]:
    row = progress.target(user, workflow_id)
    if execution is not None and execution != row.pk:
        row = progress.visible_among(user, [execution]).get(execution, row)
    return row, progress.snapshot(row)


def _as_it_is(execution: UUID) -> tuple[str, dict[str, Any]] | None:
    row = Execution.objects.select_related("workflow").filter(pk=execution).first()
    return None if row is None else (row.workflow.slug, progress.snapshot(row))
