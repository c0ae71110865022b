"""How often things ended in which way: as counted from rows, as kept of rows that were pruned, and both together.

A total of what was pruned has a name (`task.bucket`) and labels, the canonical JSON of `[workflow, step, status, error
type]`; a bucket's have its upper bound in microseconds besides, null for what lasted longer than every bound. Buckets
are kept apart and not summed up, so that bounds may change from one version of the platform to the next.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

ERROR_TYPES: tuple[str, ...] = (
    "error", "exit_code", "timeout", "oom", "http_status", "connection", "refused", "unavailable", "invalid",
    "output", "lost", "cancelled",
)  # fmt: skip
"""The types of `StepError`; whatever else a row says is told apart by nobody."""

MEASURES = ("count", "retries", "microseconds", "bucket")

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


def together(
    counted: Iterable[Outcome], pruned: Iterable[tuple[str, str, int]], bounds: Sequence[float]
) -> list[Outcome]:
    """`counted` with the totals `pruned` (measure, labels, value) added, in an order that rests on the keys alone.

    Who gets a label of his own depends on that order, so it must not change when rows go.
    """
    limits = [_microseconds(bound) for bound in bounds]
    found: dict[_Key, Outcome] = {(o.workflow_id, o.step_id, o.status, o.error_type): o for o in counted}
    for measure, labels, value in pruned:
        workflow, step, status, error, *rest = json.loads(labels)
        key = (UUID(workflow), step, status, error)
        if key not in found:
            found[key] = Outcome(
                workflow_id=key[0], step_id=step, status=status, error_type=error, within=[0] * len(limits)
            )
        outcome = found[key]
        if measure == "bucket":
            (limit,) = rest
            outcome.timed += value
            for index, mine in enumerate(limits):
                if limit is not None and limit <= mine:
                    outcome.within[index] += value
        else:
            setattr(outcome, measure, getattr(outcome, measure) + value)
    return [found[key] for key in sorted(found, key=lambda key: (*key[:3], key[3] is None, key[3] or ""))]


def totals(
    outcomes: Iterable[Outcome], bounds: Sequence[float], *, without_steps: Iterable[UUID] = ()
) -> Mapping[tuple[str, str], int]:
    """What is to be kept of `outcomes` that go: value by (measure, labels), in the order of the labels.

    The steps of the workflows `without_steps` are not told apart: metrics have one label for all of them. Nor are
    errors of an unknown type, so that no row can make labels without end.
    """
    nameless = frozenset(without_steps)
    sums: dict[tuple[str, str], int] = {}
    for outcome in outcomes:
        step = "" if outcome.workflow_id in nameless else outcome.step_id
        error = outcome.error_type if outcome.error_type in ("", *ERROR_TYPES) else None
        for measure, more, value in _parts(outcome, bounds):
            labels = json.dumps([str(outcome.workflow_id), step, outcome.status, error, *more], separators=(",", ":"))
            sums[measure, labels] = sums.get((measure, labels), 0) + value
    return {key: sums[key] for key in sorted(sums) if sums[key]}


def _parts(outcome: Outcome, bounds: Sequence[float]) -> Iterator[tuple[str, list[int | None], int]]:
    yield "count", [], outcome.count
    yield "retries", [], outcome.retries
    yield "microseconds", [], outcome.microseconds
    below = 0
    for bound, within in zip(bounds, outcome.within, strict=True):
        yield "bucket", [_microseconds(bound)], within - below
        below = within
    yield "bucket", [None], outcome.timed - below


def _microseconds(seconds: float) -> int:
    return round(seconds * 1_000_000)
