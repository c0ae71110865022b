"""What others say of the time left: each is given the same past runs and the same moment."""

import random
from collections.abc import Callable, Mapping, Sequence

from apps.workflows.estimate import Run, Shape, Situation, Took
from apps.workflows.estimate.methods import weighted_quantile
from apps.workflows.estimate.sampling import SKIP, Draws
from apps.workflows.estimate.schedule import remaining

LEAST = 1e-3
SAMPLES = 200

Said = tuple[float, float | None, float | None]
"""Seconds left, and the bounds of an 80 % interval where there is one."""


def linear_by_steps(shape: Shape, runs: Sequence[Run], now: Situation) -> Said:
    """As if every step took the same: what most progress bars say."""
    del runs
    total = len(shape.steps)
    done = max(0.5, sum(step.state in ("done", "skipped") for step in now.steps))
    return max(LEAST, now.elapsed * (total - done) / done), None, None


def linear_by_work(shape: Shape, runs: Sequence[Run], now: Situation) -> Said:
    """The same with each step weighed by the mean of its past times; what runs counts by its age."""
    done = total = 0.0
    for step, state in zip(shape.steps, now.steps, strict=True):
        past = [took.work for run in runs if (took := run.steps.get(step.id)) and not took.skipped]
        if not past or state.state == "skipped":
            continue
        mean = sum(past) / len(past)
        total += mean
        if state.state == "done":
            done += mean
        elif state.items:
            done += mean * state.items_done / state.items
        elif state.state == "running":
            done += min(state.seconds, mean)
    share = max(done / total if total else 0.0, 0.005)
    return max(LEAST, now.elapsed * (1 - share) / share), None, None


def last_run(shape: Shape, runs: Sequence[Run], now: Situation) -> Said:
    """What the last run took, less what has passed (Argo)."""
    del shape
    return max(LEAST, runs[-1].seconds - now.elapsed), None, None


def mean_of_ten(shape: Shape, runs: Sequence[Run], now: Situation) -> Said:
    """The mean of the last ten runs, less what has passed (Airflow)."""
    del shape
    last = [run.seconds for run in runs[-10:]]
    return max(LEAST, sum(last) / len(last) - now.elapsed), None, None


def independent_monte_carlo(shape: Shape, runs: Sequence[Run], now: Situation) -> Said:
    """Every step drawn from its own past, as if steps knew nothing of each other nor of this run."""
    chance = random.Random(1)
    seconds, pieces = [], []
    for step, state in zip(shape.steps, now.steps, strict=True):
        past: list[Took | None] = [took for run in runs if (took := run.steps.get(step.id))] or [None]
        drawn, many = [], []
        for _ in range(SAMPLES):
            took = chance.choice(past)
            if took is None or state.state in ("done", "skipped") or (took.skipped and state.state == "open"):
                drawn.append(SKIP)
                many.append(0)
            elif step.at_once:
                items = (state.items - state.items_done) if state.items else took.items
                drawn.append(max(1, items) * took.seconds)
                many.append(max(1, items))
            else:
                whole = max(0.0, took.ended - took.started)
                longer = [one for one in past if one and one.ended - one.started > state.seconds]
                if state.state == "running" and whole <= state.seconds and longer:
                    other = chance.choice(longer)
                    whole = other.ended - other.started
                drawn.append(max(0.0, whole - state.seconds) if state.state == "running" else whole)
                many.append(0)
        seconds.append(drawn)
        pieces.append(many)
    nothing = [0.0] * SAMPLES
    draws = Draws(seconds, [nothing] * len(shape.steps), pieces, [1.0] * SAMPLES)
    ends = [(max(LEAST, end), 1.0) for end in sorted(remaining(shape, now, draws))]
    low, middle, high = (weighted_quantile(ends, share) for share in (0.1, 0.5, 0.9))
    return middle, low, high


REFERENCES: Mapping[str, Callable[[Shape, Sequence[Run], Situation], Said]] = {
    "linear by steps": linear_by_steps,
    "linear by work": linear_by_work,
    "last run": last_run,
    "mean of 10": mean_of_ten,
    "independent Monte Carlo": independent_monte_carlo,
}
NAIVE = ("linear by steps", "linear by work", "last run", "mean of 10")
"""Those that any product could have in a page of code; independent Monte Carlo needs a simulation of its own."""
