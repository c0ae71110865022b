"""Draws how the rest of a run may go: for every step and sample the seconds, tied together by run and by speed.

A sample takes the rests of one past run for all steps (a bootstrap of whole runs, so what went together stays
together) and a factor drawn from what this run has shown of itself. A step that is running is drawn among those that
lasted longer than it has: samples for which that is unlikely count less.
"""

import math
import random
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

from apps.workflows.estimate.profile import LEAST_SECONDS, Profile, Variable
from apps.workflows.estimate.shapes import Situation, StepNow

SKIP = -1.0  # the time of a step that a sample skips
DISAGREES = 0.2  # what a past run counts for, for each branch that it took otherwise
MOST_UNLIKELY = 0.05  # what a sample counts for at least, for each running step that it would have ended by now
TAIL = 0.7  # of a step's own deviation: how much longer, in logarithms, what outlasted everything lasts
SELF_REPORT_SD = 0.5  # how far what is left may be from what a step's own percentage says, in logarithms, at first

_chance = random.Random(7)  # noqa: S311 (chance, not a secret)
_POOL = [_chance.gauss(0.0, 1.0) for _ in range(8192)]
_LOG_LIMIT = 20.0


@dataclass(slots=True)
class Draws:
    """By step the seconds in each sample: what is left of it (of all its items together), or `SKIP`.

    `pieces` is how many of its items there are in each sample, 0 for a step without. `waits` is what a step waits in
    line besides. `weights` is what each sample counts for.
    """

    seconds: list[list[float]]
    waits: list[list[float]]
    pieces: list[list[int]]
    weights: list[float]


def draw(profile: Profile, now: Situation, *, samples: int, seed: int) -> Draws:
    """Draw so many samples."""
    chance = random.Random(seed)  # noqa: S311 (chance, not a secret)
    belief = profile.belief(now)
    picks = _pick(profile, now, samples, chance)
    at = chance.randrange(len(_POOL) - samples)
    factors = [belief.mean + belief.sd * z for z in _POOL[at : at + samples]]
    weights = [1.0] * samples
    seconds: list[list[float]] = []
    waits: list[list[float]] = []
    pieces: list[list[int]] = []
    nothing, none = [0.0] * samples, [0] * samples
    for place, step in enumerate(now.steps):
        if step.state in ("done", "skipped"):
            seconds.append(nothing)
            waits.append(nothing)
            pieces.append(none)
            continue
        variable = profile.times[place]
        name = profile.shape.steps[place].id
        at = chance.randrange(len(_POOL) - samples)
        noise = _POOL[at : at + samples]
        past = [run.steps.get(name) for run in profile.runs]
        if step.state == "running" and not step.items:
            drawn = _left_of(variable, step, picks=picks, factors=factors, noise=noise, weights=weights)
            waits.append(nothing)
            pieces.append(none)
        else:
            drawn = _values(variable, picks, factors, noise)
            count = profile.counts[place]
            if count is not None:
                at = chance.randrange(len(_POOL) - samples)
                drawn, many = _of_items(
                    count, step, drawn, picks=picks, factors=factors, noise=_POOL[at : at + samples]
                )
                pieces.append(many)
            else:
                again = [max(0.0, took.attempt - took.started) if took else 0.0 for took in past]
                if any(again):
                    drawn = [d + again[r] for d, r in zip(drawn, picks, strict=True)]
                pieces.append(none)
            line = [max(0.0, took.started - took.ready) if took else 0.0 for took in past]
            waits.append([line[r] for r in picks] if step.state == "open" and any(line) else nothing)
            skips = [took is not None and took.skipped for took in past]
            if step.state == "open" and any(skips):
                drawn = [SKIP if skips[r] else d for d, r in zip(drawn, picks, strict=True)]
        seconds.append(drawn)
    return Draws(seconds, waits, pieces, weights)


def _pick(profile: Profile, now: Situation, samples: int, chance: random.Random) -> list[int]:
    """Which past run each sample follows: newer ones, and those that took the same branches, more often."""
    counts = list(profile.recency)
    for step, state in zip(profile.shape.steps, now.steps, strict=True):
        if state.state in ("done", "skipped", "running"):
            skipped = state.state == "skipped"
            for number, run in enumerate(profile.runs):
                took = run.steps.get(step.id)
                if took is not None and took.skipped != skipped:
                    counts[number] *= DISAGREES
    ladder = list(accumulate(counts))
    total = ladder[-1]
    # Evenly spaced with one random start: each run comes as often as it should, give or take one.
    start = chance.random()
    picks = [min(len(ladder) - 1, bisect_right(ladder, (start + k) / samples * total)) for k in range(samples)]
    chance.shuffle(picks)
    return picks


def _values(variable: Variable, picks: Sequence[int], factors: Sequence[float], noise: Sequence[float]) -> list[float]:
    level, loading, jitter, sd = variable.level, variable.loading, variable.jitter, variable.sd
    rests = variable.rests
    if None not in rests and level < _LOG_LIMIT:
        exp = math.exp
        return [
            exp(level + loading * f + rests[r] + jitter * z)  # type: ignore[operator]
            for f, r, z in zip(factors, picks, noise, strict=True)
        ]
    wider = math.hypot(sd, jitter)
    return [
        math.exp(min(_LOG_LIMIT, level + loading * f + (wider * z if (e := rests[r]) is None else e + jitter * z)))
        for f, r, z in zip(factors, picks, noise, strict=True)
    ]


def _left_of(
    variable: Variable,
    step: StepNow,
    *,
    picks: Sequence[int],
    factors: Sequence[float],
    noise: Sequence[float],
    weights: list[float],
) -> list[float]:
    """What is left of a running step. Samples in which it would have ended before count less, and last on."""
    age, percent = step.seconds, step.percent
    drawn = _values(variable, picks, factors, noise)
    if age <= LEAST_SECONDS:
        return drawn
    log_age = math.log(age)
    rests = sorted(rest for rest in variable.rests if rest is not None) or [0.0]
    spread = max(0.05, variable.jitter)
    tail = TAIL * variable.sd
    left = []
    for k, (d, f) in enumerate(zip(drawn, factors, strict=True)):
        middle = log_age - variable.level - variable.loading * f
        alive = 1.0 - bisect_right(rests, middle - spread * noise[k]) / len(rests)
        weights[k] *= max(MOST_UNLIKELY, alive)
        if d > age:
            left.append(d - age)
        else:
            # How long what outlasted this sample lasts: an exponential excess of the logarithm.
            excess = -math.log(max(1e-9, 1.0 - _uniform(noise[k]))) * tail
            left.append(age * math.expm1(min(excess, 3.0)))
    return _told(variable, age, percent, left) if percent >= 1 else left


def _uniform(z: float) -> float:
    """The share of a normal distribution below `z`."""
    return 0.5 * (1.0 + math.erf(z / math.sqrt(2.0)))


def _told(variable: Variable, age: float, percent: float, left: Sequence[float]) -> list[float]:
    """What is drawn, with what the step says of itself: the further it is, the more that counts."""
    share = min(percent, 99.0) / 100.0
    told = age * (1.0 - share) / share
    doubt = SELF_REPORT_SD * (1.0 - share) + 0.1
    unsure = max(variable.sd, 0.1) * (age + told) / told  # a deviation of the whole is a larger one of what is left
    trust = unsure**2 / (unsure**2 + doubt**2)
    return [math.exp(trust * math.log(told) + (1.0 - trust) * math.log(max(one, LEAST_SECONDS))) for one in left]


def _of_items(
    count: Variable, step: StepNow, each: Sequence[float], *, picks: Sequence[int], factors: Sequence[float],
    noise: Sequence[float],
) -> tuple[list[float], list[int]]:  # fmt: skip
    """Seconds of all items that are left together, and how many they are."""
    if not step.items:
        many = [max(1, round(value)) for value in _values(count, picks, factors, noise)]
        return [d * n for d, n in zip(each, many, strict=True)], many
    done, ages = step.items_done, step.ages
    left = max(1, step.items - done)
    if done and step.seconds > 0:
        # What its own items took tells more than any past run: as if each run were worth two items.
        trust = done / (done + 2.0)
        each = [math.exp(trust * math.log(step.seconds) + (1 - trust) * math.log(max(d, LEAST_SECONDS))) for d in each]
    spent = sum(ages)
    return [max(d * 0.3, d * left - min(spent, d * len(ages) * 0.8)) for d in each], [left] * len(each)
