"""Rate limits that steps share by name: a token bucket as one time, the GCRA of ITU-T I.371, Annex A."""

from datetime import datetime, timedelta

from django.db import connection

from apps.workflows.engine.graph import Graph, Rate
from apps.workflows.models import RateLimit

BUSY = timedelta(milliseconds=50)  # when another claim holds the bucket, look again after this
SPREAD = timedelta(seconds=10)  # those refused at once come back within this time, not all together


def make(graph: Graph, *, now: datetime) -> None:
    """Have the buckets of a graph's steps exist, full."""
    names = {spec.rate.name for spec in graph.steps.values() if spec.rate is not None}
    RateLimit.objects.bulk_create([RateLimit(name=name, free_at=now) for name in sorted(names)], ignore_conflicts=True)


def take(rate: Rate, *, now: datetime, refused: int = 0) -> datetime | None:
    """Take a token; None when there was one, else when to ask again.

    `refused` is how many were refused before in the same claim. The bucket's row is locked until the claim commits; a
    row that another claim holds is not waited for, so claims can never wait for each other in a ring.
    """
    gap = timedelta(minutes=1) / rate.per_minute
    rows = RateLimit.objects.filter(name=rate.name)
    if connection.features.has_select_for_update:
        rows = rows.select_for_update(skip_locked=True)
    row = rows.first()
    if row is None:
        return now + BUSY
    # A burst given lower than before must not have everybody wait for what the old one allowed.
    arrival = max(row.free_at, now)
    earliest = arrival - gap * (rate.burst - 1)
    if earliest > now:
        return earliest + min(SPREAD, gap * refused)
    RateLimit.objects.filter(name=rate.name).update(free_at=arrival + gap)
    return None
