"""What each step weighs in its run: the work that it is expected to be, by which percentages are counted."""

import math
from collections.abc import Mapping, Sequence

from apps.workflows.estimate.profile import Profile, median
from apps.workflows.estimate.shapes import Run, Situation

LEAST_SHARE = 0.02  # of the mean weight: no step is so short that its end is not seen
CHANGED = 0.1  # the share of all weight that must have moved before weights are given anew


def weights_of(runs: Sequence[Run]) -> dict[str, float]:
    """By step its weight: the median of its work in those runs in which it was not skipped, scaled to a mean of 1."""
    seconds: dict[str, list[float]] = {}
    for run in runs:
        for name, took in run.steps.items():
            if not took.skipped:
                seconds.setdefault(name, []).append(took.work)
    typical = {name: median(values) for name, values in seconds.items()}
    total = sum(typical.values())
    if total <= 0:
        return {}
    mean = total / len(typical)
    least = [max(LEAST_SHARE, value / mean) for value in typical.values()]
    scale = len(least) / sum(least)
    return {name: round(value * scale, 4) for name, value in zip(typical, least, strict=True)}


def differ(before: Mapping[str, float], after: Mapping[str, float]) -> bool:
    """Whether weights have moved so far that percentages would tell something else."""
    names = before.keys() | after.keys()
    if not names:
        return False
    moved = sum(abs(before.get(name, 1.0) - after.get(name, 1.0)) for name in names)
    return moved / 2 > CHANGED * max(1, len(names))


def work_left(profile: Profile, now: Situation) -> float:
    """The share of the expected work that is left, 0 to 1, with the sizes that are known by now."""
    left = done = 0.0
    for place, step in enumerate(now.steps):
        if step.state == "skipped":
            continue
        each = math.exp(profile.times[place].level)
        count = profile.counts[place]
        items = (step.items or math.exp(min(20.0, count.level))) if count is not None else 1.0
        work = each * items
        share = _share(
            step.state, step.items_done / step.items if step.items else None, step.percent, step.seconds, each
        )
        done += share * work
        left += (1.0 - share) * work
    return left / (left + done) if left + done > 0 else 0.0


def _share(state: str, items: float | None, percent: float, age: float, typical: float) -> float:
    """How much of a step is done."""
    if state == "done":
        return 1.0
    if state != "running":
        return 0.0
    if items is not None:
        return items
    return percent / 100.0 if percent else min(0.95, age / max(age + typical / 4, typical))
