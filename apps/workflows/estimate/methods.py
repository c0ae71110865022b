"""The ways to judge what is left of a run, each a middle and how far off it may be, before calibration.

A method answers None where it knows nothing. Which of them is believed is decided by how they did before.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from apps.workflows.estimate.profile import LEAST_SECONDS, Profile
from apps.workflows.estimate.sampling import draw
from apps.workflows.estimate.schedule import remaining
from apps.workflows.estimate.shapes import Situation
from apps.workflows.estimate.weights import work_left

LAST_RUNS = 10
MOST_SAMPLES, LEAST_SAMPLES = 240, 24
BUDGET = 24_000  # steps × samples of one simulation: what keeps it within some tens of milliseconds
LEAST_SPREAD = 0.05  # in logarithms: no method is as sure as it believes
FLOOR = 0.005  # of a typical run: less than that is not told apart


@dataclass(frozen=True, slots=True)
class Raw:
    """Seconds left as one method judges, with the logarithms of p50/p10 (`low`) and of p90/p50 (`high`)."""

    seconds: float
    low: float
    high: float


def floor_of(profile: Profile) -> float:
    """What is left of a run is told no finer than this, in seconds."""
    return max(LEAST_SECONDS, FLOOR * profile.typical_seconds)


def median_of_last_runs(profile: Profile, now: Situation, *, seed: int) -> Raw | None:
    """The median residual life of the last runs that took longer than this one has by now."""
    del seed
    left = sorted(run.seconds - now.elapsed for run in profile.runs[-LAST_RUNS:] if run.seconds > now.elapsed)
    return _raw(left, [1.0] * len(left), floor_of(profile)) if left else None


def work_weighted(profile: Profile, now: Situation, *, seed: int) -> Raw | None:
    """The share of the expected work that is left: of a typical run at first, and more and more at this run's pace."""
    del seed
    share = work_left(profile, now)
    done = 1.0 - share
    typical = max(profile.typical_seconds, LEAST_SECONDS)
    if done <= 0.01 or now.elapsed <= LEAST_SECONDS:
        pace = typical
    else:
        pace = math.exp((1.0 - done) * math.log(typical) + done * math.log(now.elapsed / done))
    seconds = max(floor_of(profile), share * pace)
    return Raw(seconds, 1.0, 1.0)


def simulation(profile: Profile, now: Situation, *, seed: int) -> Raw | None:
    """A Monte Carlo simulation of what is left through the graph."""
    opened = sum(1 for step in now.steps if step.state in ("open", "running"))
    if not opened:
        return Raw(floor_of(profile), LEAST_SPREAD, LEAST_SPREAD)
    samples = max(LEAST_SAMPLES, min(MOST_SAMPLES, BUDGET // opened))
    draws = draw(profile, now, samples=samples, seed=seed)
    return _raw(remaining(profile.shape, now, draws), draws.weights, floor_of(profile))


METHODS: Mapping[str, Callable[..., Raw | None]] = {
    "monte_carlo": simulation,
    "work_weighted": work_weighted,
    "median_of_last_runs": median_of_last_runs,
}


def all_of(profile: Profile, now: Situation, *, seed: int) -> dict[str, Raw]:
    """What each method says that says anything."""
    found = {name: method(profile, now, seed=seed) for name, method in METHODS.items()}
    return {name: raw for name, raw in found.items() if raw is not None}


def _raw(values: Sequence[float], weights: Sequence[float], least: float) -> Raw:
    ordered = sorted(zip(values, weights, strict=True))
    low, middle, high = (max(least, weighted_quantile(ordered, share)) for share in (0.1, 0.5, 0.9))
    return Raw(middle, max(LEAST_SPREAD, math.log(middle / low)), max(LEAST_SPREAD, math.log(high / middle)))


def weighted_quantile(ordered: Sequence[tuple[float, float]], share: float) -> float:
    """The value below which `share` of the weight lies, between neighbours by their middles; ascending pairs."""
    total = sum(weight for _, weight in ordered)
    wanted, gone = share * total, 0.0
    before: tuple[float, float] | None = None
    for value, weight in ordered:
        middle = gone + weight / 2
        if middle >= wanted:
            if before is None or middle <= before[1]:
                return value
            part = (wanted - before[1]) / (middle - before[1])
            return before[0] + part * (value - before[0])
        before = (value, middle)
        gone += weight
    return ordered[-1][0]
