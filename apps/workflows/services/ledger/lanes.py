"""Lanes: made when a definition is saved, served by performers whose labels hold, paused by queue."""

import time

from django.db import transaction

from apps.workflows.engine.graph import Graph
from apps.workflows.models import Lane
from apps.workflows.selectors.lanes import Taker, standing
from apps.workflows.services.ledger.sql import Lanes

DEFAULT = "default"
REMEMBERED_SECONDS = 0.5  # how late a pause of a queue may be noticed


class _Memory:
    """The lanes as they were read a moment ago. No lock is held while they are read: reading twice harms nobody."""

    def __init__(self) -> None:
        self._rows: tuple[Lane, ...] = ()
        self._until = float("-inf")
        self._forgotten = 0

    def rows(self) -> tuple[Lane, ...]:
        if time.monotonic() > self._until:
            forgotten = self._forgotten
            rows = tuple(Lane.objects.all())
            if forgotten != self._forgotten:
                return rows  # they changed meanwhile: the next claim reads anew
            self._rows, self._until = rows, time.monotonic() + REMEMBERED_SECONDS
        return self._rows

    def forget(self) -> None:
        self._forgotten += 1
        self._until = float("-inf")


_memory = _Memory()


def make(graph: Graph) -> None:
    """Have the lanes of a graph's steps exist."""
    wanted = {spec.lane: spec for spec in graph.steps.values() if not spec.own}
    missing = wanted.keys() - set(Lane.objects.filter(key__in=wanted).values_list("key", flat=True))
    paused = set(Lane.objects.filter(paused=True).values_list("queue", flat=True))
    Lane.objects.bulk_create(
        [
            Lane(
                key=key,
                queue=s.queue,
                kind="agent" if s.kind == "agent" else "worker",
                requires=list(s.requires),
                prefers=list(s.prefers),
                paused=s.queue in paused,
            )
            for key in sorted(missing)
            for s in (wanted[key],)
        ],
        ignore_conflicts=True,
    )
    if missing:
        transaction.on_commit(forget)


def pause(queue: str, *, paused: bool) -> None:
    """Stop or resume the claiming from all lanes of a queue."""
    with transaction.atomic():
        Lane.objects.get_or_create(key=queue, defaults={"queue": queue})
        Lane.objects.filter(queue=queue).update(paused=paused)
    forget()


def forget() -> None:
    """Have the lanes read anew at the next claim."""
    _memory.forget()


def served(taker: Taker) -> Lanes | None:
    """The lanes that a performer serves; None where it is all of them."""
    rows, queues, plain = _memory.rows(), taker.queues, taker.kind == "worker"
    first = [DEFAULT] if plain and queues is not None and DEFAULT in queues else []
    later = []
    everything = plain and queues is None
    for row in rows:
        how = None if row.paused else standing(row, taker)
        if how is None:
            everything = False
            if row.key in first:
                first.remove(row.key)
        elif how == "later":
            everything = False
            later.append(row.key)
        elif row.key not in first:
            first.append(row.key)
    if everything:
        return None
    if not plain:
        return Lanes(first=tuple(first), later=tuple(later))
    if queues is None and all(row.key != DEFAULT for row in rows):
        first.append(DEFAULT)
    # A queue that no definition has named yet has no lanes; its plain one is served all the same.
    first += [name for name in queues or () if name not in first and all(row.key != name for row in rows)]
    return Lanes(first=tuple(first), later=tuple(later))


def serves(key: str, lanes: Lanes | None) -> bool:
    """Whether a task of this lane may be taken: the lane may be younger than what was read."""
    if lanes is not None:
        return key in lanes.first or key in lanes.later
    return key == DEFAULT or any(row.key == key for row in _memory.rows())
