"""How estimates did before, and what follows: which method is believed, and how wide its interval must be.

Every past run is judged as it was at several moments, with what was known then. The errors are logarithms of (what
was left / what was said); divided by the spread that the method itself gave, they are the scores of a conformal
prediction (V. Vovk et al., "Algorithmic Learning in a Random World", 2005). Scores from alike moments and newer runs
count more. The two tails are steered one by one by adaptive conformal inference (I. Gibbs and E. Candès, "Adaptive
Conformal Inference Under Distribution Shift", 2021), so that each misses one time in ten, whatever drifts.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from apps.workflows.estimate.methods import Raw, weighted_quantile

MISS = 0.1  # the share of outcomes on either side of the interval
STEP = 0.01  # by how much a tail is moved for each outcome
LEAST_MISS, MOST_MISS = 0.02, 0.25
KEPT_RUNS = 40
NEAR = 0.12  # how alike two moments are: the standard deviation of a kernel over how far along the run seems
HALF_LIFE = 12.0  # runs
PRIOR_SCORES = 5.0  # how many scores the prior is worth
PRIOR = ((-2.2, 1.0), (-1.3, 2.0), (-0.6, 3.0), (0.0, 3.0), (0.6, 3.0), (1.3, 2.0), (2.2, 1.0))
FIRST = "monte_carlo"
HEAD_START = 0.93  # what the error of the first method counts for: another must be better by more than chance
PRIOR_ERROR = 0.35
APART = 0.4  # so far, in logarithms, methods may always differ
SEEN = 0.1  # what a moment must count for to be alike


@dataclass(frozen=True, slots=True)
class Judged:
    """What the methods said at one moment of a run that has ended since, and what was true."""

    run: int  # its number, rising
    along: float  # how far along it seemed, 0 to 1
    left: float  # seconds that were really left
    said: Mapping[str, Raw]

    def as_json(self) -> list[Any]:
        """As it is kept."""
        said = {name: [_short(raw.seconds), _short(raw.low), _short(raw.high)] for name, raw in self.said.items()}
        return [self.run, round(self.along, 3), _short(self.left), said]

    @classmethod
    def of_json(cls, kept: Sequence[Any]) -> "Judged":
        """The reverse."""
        run, along, left, said = kept
        return cls(run, along, left, {name: Raw(*figures) for name, figures in said.items()})


def _short(value: float) -> float:
    return float(f"{value:.4g}")


@dataclass(frozen=True, slots=True)
class Given:
    """An answer: seconds left, and by which method."""

    p10: float
    p50: float
    p90: float
    method: str

    def covers(self, left: float) -> bool:
        """Whether what was really left lies within."""
        return self.p10 <= left <= self.p90


@dataclass
class Calibration:
    """What is remembered of a workflow's estimates. `held` tells of the last intervals whether they held."""

    judged: list[Judged] = field(default_factory=list)
    low: float = MISS
    high: float = MISS
    held: list[bool] = field(default_factory=list)
    runs: int = 0

    @property
    def coverage(self) -> float | None:
        """The share of past 80 % intervals that held; None while there are few."""
        return sum(self.held) / len(self.held) if len(self.held) >= 10 else None

    def answer(self, said: Mapping[str, Raw], along: float, *, least: float) -> Given:
        """The calibrated answer to what the methods say, of which one must say something."""
        near = [(one, self._weight(one, along)) for one in self.judged]
        method = _best(said, near)
        raw = said[method]
        scores = [(_score(one.said[method], one.left), weight) for one, weight in near if method in one.said]
        # Runs, not moments: those of one run go wrong together.
        prior = PRIOR_SCORES / sum(weight for _, weight in PRIOR)
        ordered = sorted([*scores, *((score, weight * prior) for score, weight in PRIOR)])
        low, middle, high = (weighted_quantile(ordered, share) for share in (self.low, 0.5, 1.0 - self.high))
        known = sum(weight for _, weight in scores)
        p50 = _at(raw, middle * known / (known + 3.0))
        p10, p90 = _at(raw, low), _at(raw, high)
        p50 = max(least, p50)
        return Given(p10=min(max(0.0, p10), p50), p50=p50, p90=max(p90, p50), method=method)

    def _weight(self, one: Judged, along: float) -> float:
        away = (one.along - along) / NEAR
        return math.exp(-0.5 * away * away - math.log(2.0) * (self.runs - one.run) / HALF_LIFE)

    def take(self, run: Iterable[tuple[float, float, Mapping[str, Raw]]], *, least: float) -> None:
        """Learn from a run that has ended: for moments of it how far along it seemed, what was left, and what was said.

        Each moment is answered first, by what was known before the run, and the tails move by how that went.
        """
        self.runs += 1
        fresh = [Judged(self.runs, along, left, said) for along, left, said in run if said]
        answers = [(one, self.answer(one.said, one.along, least=least)) for one in fresh]
        for one, given in answers:
            self.held.append(given.covers(one.left))
            self.low = _moved(self.low, one.left < given.p10)
            self.high = _moved(self.high, one.left > given.p90)
        self.held = self.held[-200:]
        self.judged = [one for one in self.judged if one.run > self.runs - KEPT_RUNS] + fresh

    def as_json(self) -> dict[str, Any]:
        """As it is kept."""
        return {
            "judged": [one.as_json() for one in self.judged],
            "low": self.low,
            "high": self.high,
            "held": "".join("1" if held else "0" for held in self.held),
            "runs": self.runs,
        }

    @classmethod
    def of_json(cls, kept: Mapping[str, Any]) -> "Calibration":
        """The reverse; of an empty mapping a fresh one."""
        if not kept:
            return cls()
        return cls(
            judged=[Judged.of_json(one) for one in kept["judged"]],
            low=kept["low"],
            high=kept["high"],
            held=[held == "1" for held in kept["held"]],
            runs=kept["runs"],
        )


def _moved(miss: float, missed: bool) -> float:
    return max(LEAST_MISS, min(MOST_MISS, miss + STEP * (MISS - missed)))


def _score(raw: Raw, left: float) -> float:
    """How far off it was, in spreads of its own."""
    error = math.log(max(left, 1e-6) / max(raw.seconds, 1e-6))
    return error / (raw.high if error > 0 else raw.low)


def _at(raw: Raw, score: float) -> float:
    return raw.seconds * math.exp(max(-20.0, min(20.0, score * (raw.high if score > 0 else raw.low))))


def _best(said: Mapping[str, Raw], near: Sequence[tuple[Judged, float]]) -> str:
    """The method whose errors at alike moments were least, among those that may be believed now."""
    errors = {}
    for name in said:
        if _contradicts(name, said, near):
            continue
        total, weight = PRIOR_ERROR * 2.0, 2.0
        for one, counts in near:
            if name in one.said:
                total += counts * abs(math.log(max(one.left, 1e-6) / max(one.said[name].seconds, 1e-6)))
                weight += counts
        errors[name] = total / weight * (HEAD_START if name == FIRST else 1.0)
    return min(errors, key=lambda name: errors[name])


def _contradicts(name: str, said: Mapping[str, Raw], near: Sequence[tuple[Judged, float]]) -> bool:
    """Whether a method is further from the simulation than it ever was at alike moments.

    Then there is something about this run that only the simulation looks at: a list that is ten times as long, say.
    """
    if name == FIRST or FIRST not in said:
        return False
    usual = max((_apart(one.said, name) for one, counts in near if counts > SEEN), default=0.0)
    return _apart(said, name) > max(APART, 1.5 * usual)


def _apart(said: Mapping[str, Raw], name: str) -> float:
    if name not in said or FIRST not in said:
        return 0.0
    return abs(math.log(max(said[name].seconds, 1e-6) / max(said[FIRST].seconds, 1e-6)))
