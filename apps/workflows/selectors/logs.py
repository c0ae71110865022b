"""What steps wrote: in the order of writing, from a cursor on, or as one text. Reads only."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import NamedTuple
from uuid import UUID

from django.db.models import Q, QuerySet

from apps.workflows.models import Execution, LogChunk

AT_ONCE = 200  # pieces read together for a text
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_CURSOR = re.compile(r"(\d{1,17})\.([0-9a-f]{32})\.(\d{1,18})\.(\d{1,10})", re.ASCII)


LATE = timedelta(seconds=3)
"""How much later than its time a piece may be there: that of a worker's transaction which took so long."""


class Cursor(NamedTuple):
    """A piece in the order of writing."""

    at: datetime
    task: UUID
    fence: int
    number: int


def cursor_of(chunk: LogChunk) -> str:
    """The cursor of a piece, as text."""
    micros = (chunk.at - _EPOCH) // timedelta(microseconds=1)
    return f"{micros}.{chunk.task_id.hex}.{chunk.fence}.{chunk.number}"


def read_cursor(text: str) -> Cursor:
    """The cursor of this text. Raises ValueError."""
    found = _CURSOR.fullmatch(text)
    if found is None:
        raise ValueError("no cursor")
    try:
        at = _EPOCH + timedelta(microseconds=int(found[1]))
    except OverflowError:
        raise ValueError("no cursor") from None
    return Cursor(at=at, task=UUID(found[2]), fence=int(found[3]), number=int(found[4]))


def written(execution: Execution, *, step: str = "", after: Cursor | None = None) -> QuerySet[LogChunk]:
    """Its pieces of log in the order of writing, of one step or of all, after a cursor."""
    rows = LogChunk.objects.filter(task__execution=execution).select_related("task")
    if step:
        rows = rows.filter(task__step_id=step)
    return _ordered(_after(rows, after))


def _after(rows: QuerySet[LogChunk], after: Cursor | None) -> QuerySet[LogChunk]:
    if after is None:
        return rows
    same = Q(at=after.at) & (
        Q(task_id__gt=after.task)
        | Q(task_id=after.task, fence__gt=after.fence)
        | Q(task_id=after.task, fence=after.fence, number__gt=after.number)
    )
    return rows.filter(Q(at__gt=after.at) | same)


def _ordered(rows: QuerySet[LogChunk]) -> QuerySet[LogChunk]:
    return rows.order_by("at", "task_id", "fence", "number")


class Tail:
    """Follows the log of an execution: each piece once, also one that comes behind others that are younger.

    Within `LATE` of the newest it is known which ones were told; of `after` all before it are taken to have been.
    """

    def __init__(self, execution: UUID, *, step: str = "", after: Cursor | None = None) -> None:
        self._rows = LogChunk.objects.filter(task__execution=execution)
        if step:
            self._rows = self._rows.filter(task__step_id=step)
        self._newest = after
        self._told: dict[tuple[UUID, int, int], datetime] = {}
        self._caught_up = False

    def look(self, most: int = AT_ONCE) -> list[LogChunk]:
        """At most so many pieces that were not told yet, in the order of writing; `most` of them: look again."""
        if self._newest is not None and not self._told and not self._caught_up:
            before = self._rows.filter(at__gte=self._newest.at - LATE, at__lte=self._newest.at)
            keys = before.values_list("task_id", "fence", "number", "at")
            self._told = {
                (task, fence, number): at
                for task, fence, number, at in keys
                if (at, task, fence, number) <= self._newest
            }
        found = self._late(most) if self._caught_up and self._newest is not None else self._following(most)
        self._caught_up = self._caught_up or len(found) < most
        if not found:
            return []
        last = found[-1]
        newest = Cursor(at=last.at, task=last.task_id, fence=last.fence, number=last.number)
        self._newest = newest if self._newest is None else max(self._newest, newest)
        self._told |= {(chunk.task_id, chunk.fence, chunk.number): chunk.at for chunk in found}
        since = self._newest.at - LATE
        self._told = {key: at for key, at in self._told.items() if at >= since}
        return found

    def _following(self, most: int) -> list[LogChunk]:
        return list(_ordered(_after(self._rows.select_related("task"), self._newest))[:most])

    def _late(self, most: int) -> list[LogChunk]:
        assert self._newest is not None  # noqa: S101 (the caller has looked)
        recent = _ordered(self._rows.filter(at__gte=self._newest.at - LATE))
        keys = [key for key in recent.values_list("task_id", "fence", "number") if key not in self._told][:most]
        return list(_ordered(LogChunk.objects.filter(pk__in=keys).select_related("task"))) if keys else []


def newest(execution: Execution, most: int) -> list[LogChunk]:
    """Its last pieces, in the order of writing."""
    rows = LogChunk.objects.filter(task__execution=execution).select_related("task")
    return list(rows.order_by("-at", "-task_id", "-fence", "-number")[:most])[::-1]


def as_text(execution: Execution, *, step: str = "") -> Iterator[str]:
    """All of it as text, one attempt of a task after the other, each under a line that names it."""
    rows = LogChunk.objects.filter(task__execution=execution).select_related("task")
    if step:
        rows = rows.filter(task__step_id=step)
    rows, head, ended = rows.order_by("task_id", "fence", "number"), None, True
    after: LogChunk | None = None
    while True:
        some = list((rows if after is None else rows.filter(_behind(after)))[:AT_ONCE])
        for chunk in some:
            if head != (chunk.task_id, chunk.fence):
                head = (chunk.task_id, chunk.fence)
                yield f"{'' if ended else chr(10)}=== {chunk.task.step_id}, attempt {chunk.fence} ===\n"
            yield chunk.text
            ended = chunk.text.endswith("\n")
        if len(some) < AT_ONCE:
            return
        after = some[-1]


def _behind(chunk: LogChunk) -> Q:
    return (
        Q(task_id__gt=chunk.task_id)
        | Q(task_id=chunk.task_id, fence__gt=chunk.fence)
        | Q(task_id=chunk.task_id, fence=chunk.fence, number__gt=chunk.number)
    )
