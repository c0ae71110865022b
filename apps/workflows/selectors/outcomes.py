"""How often things ended in which way: as counted from rows, and as kept of rows marked as counted.

What is kept has its buckets apart and not summed up, each by its upper bound in microseconds (empty for what lasted
longer than every bound), so that bounds may change from one version of the platform to the next.
"""

import json
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import accumulate
from uuid import UUID

ERROR_TYPES: tuple[str, ...] = (
    "error", "exit_code", "timeout", "oom", "http_status", "connection", "refused", "unavailable", "invalid",
    "output", "lost", "cancelled",
)  # fmt: skip
"""The types of `StepError`; whatever else a row says is told apart by nobody."""

UNKNOWN = "?"
"""How a row keeps an error without a type, or of one that is not in the list."""


class Heir:
    """Ids that no workflow has: in their names deleted workflows are counted on, each under the label that it had.

    Of one with a label of its own only what carries no workflow's label stays: errors, and waits in line.
    """

    OWN, OTHER, TRACKER, TASKS = (UUID(int=number) for number in range(1, 5))


TotalRow = tuple[str, str, str, str, int, int, int, int, str]
"""A row of `OutcomeTotal` as the database has it: workflow, step, status, error type, count, -1, microseconds, retries,
buckets as JSON. Rows that are equal say the same: what did not change needs not be worked out again."""


@dataclass(slots=True, kw_only=True)
class Outcome:
    """How often something ended in one way.

    `timed` of the `count` have begun, and lasted `microseconds` together (an exact sum: one of floats depends on the
    order of the rows, and a counter that falls by a rounding error counts as reset); `within[i]` of them lasted at
    most the i-th bound. `error_type` is empty where there was no error, and None for an error without a type.
    `retries` counts further attempts that were decided on, also of tasks that have not ended (then `status` is empty
    and `count` 0).
    """

    workflow_id: UUID
    step_id: str
    status: str
    error_type: str | None
    count: int = 0
    timed: int = 0
    microseconds: int = 0
    retries: int = 0
    within: list[int]

    @property
    def key(self) -> tuple[UUID, str, str, bool, str]:
        """To sort by: an order that rests on what it is about alone."""
        return self.workflow_id, self.step_id, self.status, self.error_type is None, self.error_type or ""


@dataclass(slots=True, kw_only=True)
class Kept:
    """The same without bounds: what a row of `OutcomeTotal` says."""

    workflow_id: UUID
    step_id: str
    status: str
    error_type: str
    count: int = 0
    retries: int = 0
    microseconds: int = 0
    buckets: dict[str, int] = field(default_factory=dict)

    @property
    def key(self) -> tuple[UUID, str, str, str]:
        """What it is about."""
        return self.workflow_id, self.step_id, self.status, self.error_type

    def add(self, other: "Kept") -> None:
        """Take what `other` counted in."""
        self.count += other.count
        self.retries += other.retries
        self.microseconds += other.microseconds
        for limit, number in other.buckets.items():
            self.buckets[limit] = self.buckets.get(limit, 0) + number


def of_total(row: TotalRow, bounds: Sequence[float]) -> Outcome:
    """What a row of the totals says, within these bounds."""
    workflow, step, status, error, count, _, microseconds, retries, text = row
    apart = [0] * (len(bounds) + 1)
    places = _places(tuple(bounds))
    for limit, number in json.loads(text).items():
        apart[places[limit] if limit in places else _place(limit, bounds)] += number
    within = list(accumulate(apart))
    return Outcome(
        workflow_id=_uuid(workflow), step_id=step, status=status, error_type=None if error == UNKNOWN else error,
        count=count, timed=within[-1], microseconds=microseconds, retries=retries, within=within[:-1],
    )  # fmt: skip


@lru_cache(maxsize=16)
def _places(bounds: tuple[float, ...]) -> Mapping[str, int]:
    """Of the buckets that are kept now; others were kept by an older version of the platform."""
    return {"": len(bounds), **{str(_microseconds(bound)): place for place, bound in enumerate(bounds)}}


_uuid = lru_cache(maxsize=4_096)(UUID)


def _place(limit: str, bounds: Sequence[float]) -> int:
    return bisect_left([_microseconds(bound) for bound in bounds], int(limit))


def to_keep(outcomes: Iterable[Outcome], bounds: Sequence[float], *, without_steps: Iterable[UUID] = ()) -> list[Kept]:
    """What is to be kept of `outcomes` that are counted now, in the order of their keys.

    The steps of the workflows `without_steps` are not told apart: metrics have one label for all of them. Nor are
    errors of an unknown type, so that no row can make labels without end.
    """
    nameless = frozenset(without_steps)
    sums: dict[tuple[UUID, str, str, str], Kept] = {}
    for outcome in outcomes:
        known = outcome.error_type in ("", *ERROR_TYPES)
        one = Kept(
            workflow_id=outcome.workflow_id,
            step_id="" if outcome.workflow_id in nameless else outcome.step_id,
            status=outcome.status,
            error_type=(outcome.error_type or "") if known else UNKNOWN,
            count=outcome.count,
            retries=outcome.retries,
            microseconds=outcome.microseconds,
            buckets=_buckets(outcome, bounds),
        )
        if (same := sums.get(one.key)) is None:
            sums[one.key] = one
        else:
            same.add(one)
    return [sums[key] for key in sorted(sums)]


def _buckets(outcome: Outcome, bounds: Sequence[float]) -> dict[str, int]:
    found: dict[str, int] = {}
    below = 0
    for bound, within in zip(bounds, outcome.within, strict=True):
        if within > below:
            found[str(_microseconds(bound))] = within - below
        below = within
    if outcome.timed > below:
        found[""] = outcome.timed - below
    return found


def _microseconds(seconds: float) -> int:
    return round(seconds * 1_000_000)
