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
_CURSOR = re.compile(r"(\d{1,17})\.([0-9a-f]{32})\.(\d{1,18})\.(\d{1,9})", re.ASCII)


class Cursor(NamedTuple):
    """A piece in the order of writing. Pieces of an execution are written under its lock, so `at` never goes back."""

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
    if after is not None:
        same = Q(at=after.at) & (
            Q(task_id__gt=after.task)
            | Q(task_id=after.task, fence__gt=after.fence)
            | Q(task_id=after.task, fence=after.fence, number__gt=after.number)
        )
        rows = rows.filter(Q(at__gt=after.at) | same)
    return rows.order_by("at", "task_id", "fence", "number")


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
