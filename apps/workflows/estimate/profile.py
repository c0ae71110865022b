"""What the past runs of a workflow have in common: typical times and counts, a factor of the whole run, what is left.

Every step has a time (of its successful attempt, or of an average item), and a step with items has a count. The
logarithm of each is taken to be `level + loading × factor(run) + rest`: a run is slow or large as a whole, some steps
feel it more than others, and what is left is the step's own. That is a factor analysis with one factor (D. Lawley and
A. Maxwell, "Factor Analysis as a Statistical Method", 1971), fitted by alternating least squares, each figure drawn
towards a weak prior so that it holds from the first run on. Newer runs count more.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

from apps.workflows.estimate.shapes import Run, Shape, Situation

LEAST_SECONDS = 1e-3
HALF_LIFE = 15.0  # runs after which a run counts half
ROUNDS = 4
LEAST_SD = 0.02
PRIOR_SD = 0.3  # of a step's rest and of the factor, in natural logarithms, before anything is known
PRIOR_RUNS = 2.0  # how many runs that prior is worth
LOADING_RUNS = 3.0  # how many runs the prior loading is worth: 1 for a time, 0 for a count
CLIP = 2.5  # standard deviations: one wild step says no more than this about the whole run


@dataclass(slots=True)
class Variable:
    """The time or the count of one step. `rests` are by run, None where the run does not tell."""

    logs: list[float | None]
    prior_loading: float
    level: float = 0.0
    loading: float = 1.0
    sd: float = PRIOR_SD
    rests: list[float | None] = field(default_factory=list)
    runs: float = 0.0  # how many runs tell of it, the older ones in part

    @property
    def known(self) -> bool:
        """Whether any run tells of it."""
        return self.runs > 0

    @property
    def jitter(self) -> float:
        """What is unsure about the level, and what smooths a bootstrap over few rests (B. Efron, 1979)."""
        return self.sd * math.sqrt(1.0 / max(self.runs, 0.5) + 0.1)


@dataclass(slots=True)
class Belief:
    """What a situation says about the factor of its run: a normal distribution."""

    mean: float
    sd: float


@dataclass
class Profile:
    """What `profile_of` found. Places are those of the shape's steps; runs are the oldest first."""

    shape: Shape
    runs: Sequence[Run]
    times: list[Variable]
    counts: list[Variable | None]
    factors: list[float]
    factor_sd: float
    recency: list[float]

    @cached_property
    def typical_seconds(self) -> float:
        """The median of what whole runs took."""
        return median([run.seconds for run in self.runs])

    def belief(self, now: Situation) -> Belief:
        """The factor of this run as far as its steps tell by now."""
        precision, weighted = 1.0 / self.factor_sd**2, 0.0
        for place, step in enumerate(now.steps):
            count = self.counts[place]
            if step.items and count is not None and count.known:
                precision, weighted = _heard(count, math.log(step.items), 1.0, precision, weighted)
            told = step.items_done if step.items else 1
            if step.seconds > 0 and (step.state == "done" or (step.items and step.items_done)):
                variable = self.times[place]
                if variable.known:
                    value = math.log(max(step.seconds, LEAST_SECONDS))
                    sure = 1.0 if step.state == "done" else min(1.0, told / max(1, step.items) + 0.2)
                    precision, weighted = _heard(variable, value, sure, precision, weighted)
        return Belief(mean=weighted / precision, sd=1.0 / math.sqrt(precision))


def _heard(variable: Variable, value: float, sure: float, precision: float, weighted: float) -> tuple[float, float]:
    """The belief's precision and weighted mean with one more value heard."""
    noise = variable.sd * math.sqrt(1.0 + 1.0 / max(variable.runs, 0.5))
    rest = max(-CLIP * noise - abs(variable.loading), min(CLIP * noise + abs(variable.loading), value - variable.level))
    weight = sure * variable.loading / noise**2
    return precision + weight * variable.loading, weighted + weight * rest


def profile_of(shape: Shape, runs: Sequence[Run]) -> Profile:
    """Fit it to the runs, the oldest first; there must be one at least."""
    recency = [0.5 ** ((len(runs) - 1 - number) / HALF_LIFE) for number in range(len(runs))]
    times, counts = [], []
    for step in shape.steps:
        took = [run.steps.get(step.id) for run in runs]
        logs = [
            math.log(max(one.seconds, LEAST_SECONDS)) if one is not None and not one.skipped else None for one in took
        ]
        times.append(Variable(logs, 1.0))
        many = [math.log(one.items) if one is not None and one.items else None for one in took]
        counts.append(Variable(many, 0.0, loading=0.0) if step.at_once else None)
    variables = [*times, *(count for count in counts if count is not None)]
    for variable in variables:
        variable.runs = sum(w for w, value in zip(recency, variable.logs, strict=True) if value is not None)
    known = [variable for variable in variables if variable.known]
    factors, factor_sd = _fit(known, recency)
    _guess([variable for variable in times if not variable.known], [v for v in times if v.known], len(runs))
    for count in counts:
        if count is not None and not count.known:
            count.level, count.sd, count.rests = 0.0, 1.0, [None] * len(runs)
    return Profile(shape, runs, times, counts, factors, factor_sd, recency)


def _fit(variables: Sequence[Variable], recency: Sequence[float]) -> tuple[list[float], float]:
    """Levels, loadings and rests of the variables; gives the factors of the runs, and their standard deviation."""
    factors = [0.0] * len(recency)
    spread = PRIOR_SD
    for variable in variables:
        heard = [value for value in variable.logs if value is not None]
        variable.level, variable.loading = median(heard), variable.prior_loading
        variable.sd = PRIOR_SD
    for _ in range(ROUNDS):
        for run in range(len(factors)):
            precision, weighted = 1.0 / spread**2, 0.0
            for variable in variables:
                if (value := variable.logs[run]) is not None and variable.loading:
                    limit = CLIP * variable.sd + 3 * abs(variable.loading) * spread
                    rest = max(-limit, min(limit, value - variable.level))
                    precision += variable.loading**2 / variable.sd**2
                    weighted += variable.loading * rest / variable.sd**2
            factors[run] = weighted / precision
        middle = sum(w * f for w, f in zip(recency, factors, strict=True)) / sum(recency)
        factors = [factor - middle for factor in factors]
        total = sum(recency)
        squares = sum(w * f * f for w, f in zip(recency, factors, strict=True))
        spread = math.sqrt((squares + PRIOR_RUNS * PRIOR_SD**2) / (total + PRIOR_RUNS))
        for variable in variables:
            _fit_one(variable, factors, recency, spread)
        _pool(variables, recency)
    return factors, spread


def _fit_one(variable: Variable, factors: Sequence[float], recency: Sequence[float], spread: float) -> None:
    heard = [
        (weight, factor, value)
        for weight, factor, value in zip(recency, factors, variable.logs, strict=True)
        if value is not None
    ]
    variable.level = sum(w * (x - variable.loading * f) for w, f, x in heard) / variable.runs
    prior = LOADING_RUNS * spread**2
    product = sum(w * f * (x - variable.level) for w, f, x in heard) + prior * variable.prior_loading
    variable.loading = product / (sum(w * f * f for w, f, _ in heard) + prior)
    variable.rests = [
        None if x is None else x - variable.level - variable.loading * f
        for x, f in zip(variable.logs, factors, strict=True)
    ]


def _pool(variables: Sequence[Variable], recency: Sequence[float]) -> None:
    """The deviation of each variable's rests, drawn towards the middling one of all that several runs tell of."""
    squares = [
        sum(w * e * e for w, e in zip(recency, variable.rests, strict=True) if e is not None) for variable in variables
    ]
    # The level was fitted to the same values: that took about one run's worth.
    own = [q / (v.runs - 1) for q, v in zip(squares, variables, strict=True) if v.runs > 1.5]
    runs = max((variable.runs for variable in variables), default=0.0)
    usual = (median(own) * runs + PRIOR_SD**2) / (runs + 1.0) if own else PRIOR_SD**2
    for variable, square in zip(variables, squares, strict=True):
        left = max(0.0, variable.runs - 1.0)
        variable.sd = max(LEAST_SD, math.sqrt((square + PRIOR_RUNS * usual) / (left + PRIOR_RUNS)))


def _guess(unknown: Sequence[Variable], known: Sequence[Variable], runs: int) -> None:
    """Steps that no run tells of are taken for middling ones, and very unsure."""
    level = median([variable.level for variable in known]) if known else 0.0
    for variable in unknown:
        variable.level, variable.sd, variable.rests = level, 1.0, [None] * runs


def median(values: Sequence[float]) -> float:
    """The middle of values, of which there must be one at least."""
    ordered = sorted(values)
    half = len(ordered) // 2
    return ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) / 2
