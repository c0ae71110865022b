"""Workflows as one meets them, out of a seed: how their steps hang together, and how each of their runs goes.

Three kinds. `repeats`: runs are alike but for a little noise. `sizes`: what is worked on is larger or smaller from run
to run, with it the number of items, and most steps feel it. `mixed`: noisy steps with a heavy tail, slow days,
retries, branches, and a change of the code now and then.
"""

import math
import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from apps.workflows.estimate import Shape, Step
from benchmarks.estimates.truth import TrueRun, Work, play

Kind = Literal["repeats", "sizes", "mixed"]
KINDS: tuple[Kind, ...] = ("repeats", "sizes", "mixed")


@dataclass(frozen=True, slots=True)
class _Habit:
    """How one step goes."""

    seconds: float
    noise: float
    with_size: float  # how much it feels the size: 0 not at all, 1 in proportion
    items: int
    fails: float
    branch: int  # which condition it hangs on, -1 for none


@dataclass(frozen=True, slots=True)
class _Spread:
    """How runs of a kind differ."""

    size: float
    day: float
    noise: tuple[float, float]
    tail: float
    fails: float
    branches: int
    changes: float


_SPREADS: dict[Kind, _Spread] = {
    "repeats": _Spread(0.0, 0.03, (0.03, 0.15), 0.002, 0.002, 0, 0.0),
    "sizes": _Spread(0.7, 0.10, (0.05, 0.30), 0.005, 0.01, 0, 0.0),
    "mixed": _Spread(0.25, 0.20, (0.10, 0.50), 0.02, 0.04, 2, 0.03),
}


def runs_of(kind: Kind, seed: int, count: int) -> Iterator[TrueRun]:
    """So many runs of one workflow, one after the other."""
    chance = random.Random(f"{kind} {seed}")
    spread = _SPREADS[kind]
    shape, habits = _workflow(chance, spread)
    slots = chance.choice((4, 8, 16))
    odds = [chance.uniform(0.3, 0.7) for _ in range(spread.branches)]
    level = 0.0
    for _ in range(count):
        if chance.random() < spread.changes:
            level += chance.gauss(0.0, 0.3)
        size = chance.gauss(0.0, spread.size)
        day = chance.gauss(0.0, spread.day) + level
        taken = [chance.random() < odd for odd in odds]
        works = {step: _work(chance, habit, spread, (size, day), taken) for step, habit in habits.items()}
        yield play(shape, works, slots)


def _workflow(chance: random.Random, spread: _Spread) -> tuple[Shape, dict[str, _Habit]]:
    count = chance.randint(8, 50)
    layers = max(2, round(math.sqrt(count) * chance.uniform(0.7, 1.6)))
    steps: list[Step] = []
    habits: dict[str, _Habit] = {}
    by_layer: list[list[str]] = [[] for _ in range(layers)]
    for number in range(count):
        layer = number if number < layers else chance.randrange(layers)
        name = f"s{number}"
        before = [one for earlier in by_layer[:layer] for one in earlier]
        near = by_layer[layer - 1] if layer else []
        needed = (
            tuple(
                dict.fromkeys(
                    [
                        *chance.sample(near, min(len(near), 1)),
                        *chance.sample(before, min(len(before), chance.randint(0, 2))),
                    ]
                )
            )
            if layer
            else ()
        )
        many = chance.random() < 0.12
        steps.append(Step(name, needed, at_once=chance.choice((2, 5, 1000)) if many else 0))
        by_layer[layer].append(name)
        habits[name] = _Habit(
            seconds=math.exp(chance.gauss(3.0, 1.2)) / (6 if many else 1),
            noise=chance.uniform(*spread.noise),
            with_size=0.0 if many else chance.choice((0.0, 0.5, 1.0, 1.0)),
            items=chance.randint(4, 60) if many else 0,
            fails=spread.fails,
            branch=chance.randrange(spread.branches) if spread.branches and chance.random() < 0.25 else -1,
        )
    return Shape.of(steps), habits


def _work(chance: random.Random, habit: _Habit, spread: _Spread, run: tuple[float, float], taken: list[bool]) -> Work:
    if habit.branch >= 0 and not taken[habit.branch]:
        return Work(skipped=True)
    size, day = run
    middle = math.log(habit.seconds) + habit.with_size * size + day

    def once(noise: float) -> float:
        seconds = math.exp(middle + chance.gauss(0.0, noise))
        return seconds * min(20.0, chance.paretovariate(1.5)) if chance.random() < spread.tail else seconds

    failed: list[tuple[float, float]] = []
    while chance.random() < habit.fails and len(failed) < 3:
        failed.append((once(habit.noise) * chance.uniform(0.1, 1.0), chance.uniform(1.0, 10.0)))
    if not habit.items:
        return Work(tuple(failed), (once(habit.noise),))
    own = chance.gauss(0.0, habit.noise)
    middle += own
    many = max(1, round(habit.items * math.exp(size + chance.gauss(0.0, spread.size / 10))))
    return Work((), tuple(once(habit.noise) for _ in range(many)))
