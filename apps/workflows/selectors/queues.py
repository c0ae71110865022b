"""Queues, their lanes, and the performers that serve them, as they are now."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db.models import Count, QuerySet

from apps.core.clock import database_now
from apps.workflows.engine.types import TRACKER
from apps.workflows.models import Lane, Performer, Task
from apps.workflows.selectors.lanes import standing
from apps.workflows.selectors.performers import Names

DEFAULT = "default"
MAX_LANES = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class LaneNow:
    """A lane: what its steps ask of performers, how many tasks are ready and running, and who could take them."""

    key: str
    requires: list[str]
    prefers: list[str]
    ready: int
    running: int
    performers: list[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueNow:
    """A queue: the sums of its lanes, and the live performers that serve at least one of them."""

    name: str
    paused: bool
    ready: int
    running: int
    performers: list[str]
    lanes: list[LaneNow]


def exists(name: str) -> bool:
    """Whether there is a queue of this name: a lane has it, or it is the one that every step has unless it says so."""
    return name == DEFAULT or Lane.objects.filter(queue=name).exists()


def live(now: datetime) -> QuerySet[Performer]:
    """The performers that were heard of within the last lease."""
    return Performer.objects.filter(seen_at__gte=now - timedelta(seconds=settings.ENV.LEASE_SECONDS)).order_by("pk")


def queues_now(user: Any, name: str | None = None) -> list[QueueNow]:
    """All queues, or the one of this name, in the order of their names, as `user` may know of performers."""
    now = database_now()
    rows = Lane.objects.order_by("queue", "key") if name is None else Lane.objects.filter(queue=name).order_by("key")
    by_queue: dict[str, list[Lane]] = {}
    for lane in rows[:MAX_LANES]:
        by_queue.setdefault(lane.queue, []).append(lane)
    if name in (None, DEFAULT) and not any(lane.key == DEFAULT for lane in by_queue.get(DEFAULT, [])):
        by_queue.setdefault(DEFAULT, []).insert(0, Lane(key=DEFAULT, queue=DEFAULT))
    counts = _counts(now)
    takers = [one for one in live(now) if not one.draining]
    names = Names(user)
    return [_queue(queue, by_queue[queue], counts, takers, names) for queue in sorted(by_queue)]


def _queue(
    name: str, lanes: list[Lane], counts: dict[str, tuple[int, int]], takers: list[Performer], names: Names
) -> QueueNow:
    found = [_lane(lane, counts.get(lane.key, (0, 0)), takers, names) for lane in lanes]
    return QueueNow(
        name=name,
        paused=any(lane.paused for lane in lanes),
        ready=sum(lane.ready for lane in found),
        running=sum(lane.running for lane in found),
        performers=sorted({performer for lane in found for performer in lane.performers}),
        lanes=found,
    )


def _lane(lane: Lane, counted: tuple[int, int], takers: list[Performer], names: Names) -> LaneNow:
    return LaneNow(
        key=lane.key,
        requires=lane.requires,
        prefers=lane.prefers,
        ready=counted[0],
        running=counted[1],
        performers=[names.of(one.name) for one in takers if standing(lane, one)],
    )


def _counts(now: datetime) -> dict[str, tuple[int, int]]:
    """By lane: tasks that could be claimed, and tasks under a lease; each found by a partial index."""
    ready = Task.objects.filter(ready_at__lte=now, execution__ready_at__isnull=False)
    running = Task.objects.filter(lease_expires_at__isnull=False).exclude(lease_owner=TRACKER)
    one = dict(ready.values_list("lane").annotate(Count("pk")).order_by())
    other = dict(running.values_list("lane").annotate(Count("pk")).order_by())
    return {lane: (one.get(lane, 0), other.get(lane, 0)) for lane in {*one, *other}}
