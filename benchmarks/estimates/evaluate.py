"""Runs of workflows one after the other, each judged at five moments by every estimator, all given the same past."""

from collections import defaultdict
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from statistics import median
from time import perf_counter

from apps.workflows.estimate import Calibration, estimate, learn
from apps.workflows.estimate.profile import profile_of
from benchmarks.estimates.generator import Kind, runs_of
from benchmarks.estimates.references import REFERENCES
from benchmarks.estimates.truth import TrueRun

OURS = "this platform"
BANDS = (0.10, 0.25, 0.50, 0.75, 0.90)
KEPT = 40  # past runs that an estimate rests on


@dataclass(slots=True)
class Scores:
    """By estimator and band the relative errors of the time left; of those with an interval, whether it held."""

    errors: dict[tuple[str, float], list[float]] = field(default_factory=lambda: defaultdict(list))
    held: dict[tuple[str, float], list[bool]] = field(default_factory=lambda: defaultdict(list))
    methods: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    told: list[float] = field(default_factory=list)  # the measured coverage that answers spoke of
    seconds: list[float] = field(default_factory=list)  # what one estimate of ours cost

    def join(self, other: "Scores") -> None:
        """Take in what another has found."""
        for key, values in other.errors.items():
            self.errors[key] += values
        for found, held in other.held.items():
            self.held[found] += held
        for name, count in other.methods.items():
            self.methods[name] += count
        self.told += other.told
        self.seconds += other.seconds

    def error(self, name: str, band: float) -> float:
        """The median relative error."""
        return median(self.errors[name, band])

    def coverage(self, name: str, band: float) -> float | None:
        """The share of intervals that held."""
        held = self.held.get((name, band))
        return sum(held) / len(held) if held else None


def judge(runs: Iterable[TrueRun], warm_up: int) -> Scores:
    """Go through the runs of one workflow; the first `warm_up` only make the past."""
    scores = Scores()
    calibration = Calibration()
    past: list[TrueRun] = []
    for number, true in enumerate(runs):
        before = [one.run() for one in past[-KEPT:]]
        if number >= max(1, warm_up):
            profile = profile_of(true.shape, before)
            for band in BANDS:
                now, left = true.at(band * true.seconds), (1 - band) * true.seconds
                began = perf_counter()
                ours = estimate(profile, now, calibration, seed=number * 100 + round(band * 100))
                scores.seconds.append(perf_counter() - began)
                scores.methods[ours.method] += 1
                if ours.coverage is not None:
                    scores.told.append(ours.coverage)
                scores.errors[OURS, band].append(abs(ours.p50 - left) / left)
                scores.held[OURS, band].append(ours.p10 <= left <= ours.p90)
                for name, reference in REFERENCES.items():
                    said, low, high = reference(true.shape, before, now)
                    scores.errors[name, band].append(abs(said - left) / left)
                    if low is not None and high is not None:
                        scores.held[name, band].append(low <= left <= high)
        learn(true.shape, before, true.run(), calibration, slots=true.slots)
        past.append(true)
    return scores


def judge_generated(kind: Kind, seed: int, runs: int, warm_up: int) -> Scores:
    """One generated workflow."""
    scores = judge(runs_of(kind, seed, runs), warm_up)
    return Scores(dict(scores.errors), dict(scores.held), dict(scores.methods), scores.told, scores.seconds)


def of_kind(kind: Kind, seeds: Iterable[int], *, runs: int, warm_up: int, processes: int = 2) -> Scores:
    """Generated workflows of a kind, one for each seed."""
    found = Scores()
    with ProcessPoolExecutor(processes) as pool:
        waiting = [pool.submit(judge_generated, kind, seed, runs, warm_up) for seed in seeds]
        for one in waiting:
            found.join(one.result())
    return found
