"""When a rate limit lets the next step start, by the row of its bucket."""

from datetime import datetime, timedelta

from apps.workflows.engine.graph import Rate


def next_start(rate: Rate, free_at: datetime | None, now: datetime) -> datetime:
    """When the next step may start: not before `now`. `free_at` is the bucket's; None before its first use.

    The generic cell rate algorithm (ITU-T I.371, Annex A): a burst may run ahead by `burst` - 1 gaps.
    """
    gap = timedelta(minutes=1) / rate.per_minute
    return now if free_at is None else max(now, max(free_at, now) - gap * (rate.burst - 1))
