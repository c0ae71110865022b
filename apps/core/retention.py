"""Tables that grow, and how they are kept small while everything runs: in short transactions, with pauses between.

Each app has rules for the tables it owns; who may import them all puts them together (`workflows.services.retention`).
"""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db import transaction
from django.db.models import QuerySet

AT_ONCE = 1000  # rows in one transaction
LONGEST_PAUSE = 1.0  # seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """What goes when. `count` tells what would go at a moment, by table, and changes nothing.

    `batches` prunes; each step of it is a transaction of its own, already committed, and tells what went, by table.
    """

    count: Callable[[datetime], Mapping[str, int]]
    batches: Callable[[datetime], Iterator[Mapping[str, int]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pruned:
    """How many rows went, by table; `finished` unless the time was up before everything had gone."""

    counts: Mapping[str, int]
    finished: bool


def run(
    rules: Iterable[Rule],
    now: datetime,
    budget_seconds: float | None = None,
    *,
    pause: Callable[[float], object] = time.sleep,
) -> Pruned:
    """Prune by each rule until nothing old is left, or the budget is spent (None: there is no hurry).

    After each transaction it rests as long as that took: half of the time the tables are everybody else's. Whoever
    kills it between two transactions loses nothing.
    """
    counts: Counter[str] = Counter()
    began = time.monotonic()
    for rule in rules:
        batches = rule.batches(now)
        while True:
            if budget_seconds is not None and time.monotonic() - began >= budget_seconds:
                return Pruned(counts=dict(counts), finished=False)
            asked = time.monotonic()
            gone = next(batches, None)
            if gone is None:
                break
            counts.update(gone)
            pause(min(LONGEST_PAUSE, time.monotonic() - asked))
    return Pruned(counts=dict(counts), finished=True)


def count(rules: Iterable[Rule], now: datetime) -> Mapping[str, int]:
    """How many rows would go, by table."""
    counts: Counter[str] = Counter()
    for rule in rules:
        counts.update(rule.count(now))
    return dict(counts)


def rows(old: Callable[[datetime], QuerySet[Any]]) -> Rule:
    """A rule for rows on which little or nothing hangs: `old(now)` are those that go, without a join."""

    def counted(now: datetime) -> Mapping[str, int]:
        found = old(now)
        return {found.model._meta.db_table: found.count()}

    def batches(now: datetime) -> Iterator[Mapping[str, int]]:
        while gone := delete_some(old(now), AT_ONCE):
            yield {old(now).model._meta.db_table: gone}

    return Rule(count=counted, batches=batches)


def delete_some(old: QuerySet[Any], at_most: int) -> int:
    """Delete some of these rows, in a transaction; how many. What somebody else has locked is left for another time."""
    with transaction.atomic():
        locked = old.select_for_update(skip_locked=True).order_by("pk")
        keys = list(locked.values_list("pk", flat=True)[:at_most])
        if keys:
            old.model._base_manager.filter(pk__in=keys).delete()
    return len(keys)
