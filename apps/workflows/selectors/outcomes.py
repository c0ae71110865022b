"""How often things ended in which way: as counted from rows, as kept of rows marked as counted, and both together.

What is kept has its buckets apart and not summed up, each by its upper bound in microseconds (empty for what lasted
longer than every bound), so that bounds may change from one version of the platform to the next.
"""

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from uuid import UUID

ERROR_TYPES: tuple[str, ...] = (
    "error", "exit_code", "timeout", "oom", "http_status", "connection", "refused", "unavailable", "invalid",
    "output", "lost", "cancelled",
)  # fmt: skip
"""The types of `StepError`; whatever else a row says is told apart by nobody."""

UNKNOWN = "?"
"""How a row keeps an error without a type, or of one that is not in the list."""

_Key = tuple[UUID, str, str, str | None]


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


def together(counted: Iterable[Outcome], kept: Iterable[Kept], bounds: Sequence[float]) -> list[Outcome]:
    """`counted` with what was `kept` added, in an order that rests on the keys alone."""
    limits = [_microseconds(bound) for bound in bounds]
    found: dict[_Key, Outcome] = {(o.workflow_id, o.step_id, o.status, o.error_type): o for o in counted}
    for one in kept:
        key = (one.workflow_id, one.step_id, one.status, None if one.error_type == UNKNOWN else one.error_type)
        outcome = found.get(key)
        if outcome is None:
            outcome = found[key] = Outcome(
                workflow_id=key[0], step_id=key[1], status=key[2], error_type=key[3], within=[0] * len(limits)
            )
        outcome.count += one.count
        outcome.retries += one.retries
        outcome.microseconds += one.microseconds
        if one.buckets:
            outcome.timed += sum(one.buckets.values())
            _add_buckets(outcome.within, one.buckets, limits)
    return [found[key] for key in sorted(found, key=lambda key: (*key[:3], key[3] is None, key[3] or ""))]


def _add_buckets(within: list[int], buckets: Mapping[str, int], limits: Sequence[int]) -> None:
    apart = [0] * (len(limits) + 1)
    for text, number in buckets.items():
        apart[bisect_left(limits, int(text)) if text else -1] += number
    below = 0
    for index, number in enumerate(apart[:-1]):
        below += number
        within[index] += below


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
