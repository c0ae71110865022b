"""How served estimates came out, as metrics tell it: exact sums that outlive the rows they were made from."""

from collections.abc import Sequence
from dataclasses import dataclass

from apps.workflows.models import PredictionTotal

ERROR_BOUNDS = (0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 2.0, 5.0)
"""Of |foretold − real| / real, where 1 is as far off as what was really left."""
SUM, COVERED, MISSED, BUCKET = "sum", "covered", "missed", "le"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcomes:
    """`within[i]` of the `count` errors are at most the i-th bound, `total` is their sum."""

    within: Sequence[int]
    count: int
    total: float
    covered: int
    missed: int


def bucket_of(error: float) -> str:
    """The name of the sum that counts an error: each in one bucket, so that bounds may change between versions."""
    bound = next((bound for bound in ERROR_BOUNDS if error <= bound), None)
    return BUCKET if bound is None else f"{BUCKET} {bound:g}"


def outcomes() -> Outcomes:
    """What came of all estimates that were served, of executions that have completed since."""
    sums = dict(PredictionTotal.objects.values_list("name", "value"))
    buckets = [(name.split(), value) for name, value in sums.items() if name.split()[0] == BUCKET]
    within = [
        int(sum(value for words, value in buckets if len(words) == 2 and float(words[1]) <= bound))
        for bound in ERROR_BOUNDS
    ]
    return Outcomes(
        within=within,
        count=int(sum(value for _, value in buckets)),
        total=sums.get(SUM, 0.0),
        covered=int(sums.get(COVERED, 0)),
        missed=int(sums.get(MISSED, 0)),
    )
