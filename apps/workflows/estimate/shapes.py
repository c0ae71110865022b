"""What an estimate is made from: the shape of a workflow, how past runs went, and where one run is now."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, NamedTuple

MARKS = 10  # how many moments are kept of when items ended


class Step(NamedTuple):
    """A step as the simulation sees it. `at_once` is the most items that run together, 0 for a step without items.

    `slotless` steps take no performer's slot: waits, approvals, sub-workflows.
    """

    id: str
    depends_on: tuple[str, ...] = ()
    slotless: bool = False
    at_once: int = 0


@dataclass(frozen=True)
class Shape:
    """The steps in an order in which each comes after those that it waits for; they form no circle."""

    steps: tuple[Step, ...]

    @classmethod
    def of(cls, steps: Iterable[Step]) -> "Shape":
        """The shape of these steps, in whatever order they come (A. Kahn, 1962). Raises ValueError for a circle."""
        given = {step.id: step for step in steps}
        waiting = {step.id: len(set(step.depends_on)) for step in given.values()}
        told: dict[str, list[str]] = {name: [] for name in given}
        for step in given.values():
            for name in set(step.depends_on):
                told[name].append(step.id)
        order = [name for name, left in waiting.items() if not left]
        for name in order:
            for other in told[name]:
                waiting[other] -= 1
                if not waiting[other]:
                    order.append(other)
        if len(order) < len(given):
            raise ValueError("the steps wait for each other in a circle")
        return cls(steps=tuple(given[name] for name in order))

    @cached_property
    def index(self) -> Mapping[str, int]:
        """The place of each step."""
        return {step.id: place for place, step in enumerate(self.steps)}

    @cached_property
    def before(self) -> Sequence[tuple[int, ...]]:
        """For each step the places of those that it waits for."""
        return [tuple(self.index[name] for name in step.depends_on) for step in self.steps]

    @cached_property
    def after(self) -> Sequence[tuple[int, ...]]:
        """For each step the places of those that wait for it."""
        found: list[list[int]] = [[] for _ in self.steps]
        for place, needed in enumerate(self.before):
            for other in needed:
                found[other].append(place)
        return [tuple(places) for places in found]


class Took(NamedTuple):
    """How a step went in a past run, in seconds from the run's start.

    It could start at `ready`, its first attempt began at `started`, its last one at `attempt` and ended at `ended`. A
    step with items had `items` of them, of `each` seconds on average, at most `wide` at a time, and `marks` tells when
    they ended: each of them, or of many every tenth part. A step that was skipped took nothing.
    """

    ready: float
    started: float
    attempt: float
    ended: float
    items: int = 0
    each: float = 0.0
    skipped: bool = False
    wide: int = 1
    marks: tuple[float, ...] = ()

    @property
    def seconds(self) -> float:
        """Of the successful attempt; of an average item where there were items."""
        return self.each if self.items else max(0.0, self.ended - self.attempt)

    @property
    def work(self) -> float:
        """What it kept performers busy for, all items and attempts together."""
        if self.skipped:
            return 0.0
        return self.items * self.each if self.items else max(0.0, self.ended - self.started)


@dataclass(frozen=True, slots=True)
class Run:
    """A past run that completed: how long it took, and how each of its steps went, by id."""

    seconds: float
    steps: Mapping[str, Took]


class StepNow(NamedTuple):
    """Where a step is.

    `seconds` is what its successful attempt took (`done`; of an average item where there were items), or the age of
    its present attempt (`running`; of each running item in `ages`). `items` is how many it has, 0 while that is not
    known. `percent` is what it says of itself while it runs, 0 for nothing.
    """

    state: Literal["open", "running", "done", "skipped"] = "open"
    seconds: float = 0.0
    percent: float = 0.0
    items: int = 0
    items_done: int = 0
    ages: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Situation:
    """Where a run is, `elapsed` seconds after its start, with `slots` that its steps can have together.

    `steps` are in the order of the shape.
    """

    elapsed: float
    steps: tuple[StepNow, ...]
    slots: int = 1_000


def as_of(run: Run, shape: Shape, moment: float, *, slots: int = 1_000) -> Situation:
    """Where a past run was at `moment`. Of many items it is known only roughly when each of them ended."""
    return Situation(
        elapsed=moment,
        steps=tuple(_step_as_of(run.steps.get(step.id), step, moment) for step in shape.steps),
        slots=slots,
    )


def _step_as_of(took: Took | None, step: Step, moment: float) -> StepNow:  # noqa: PLR0911 (one for each state)
    if took is None:
        return StepNow("skipped")
    if took.ended <= moment:
        if took.skipped:
            return StepNow("skipped")
        return StepNow("done", took.seconds, items=took.items, items_done=took.items)
    if took.skipped or moment < took.ready:
        return StepNow()
    if took.items and moment >= took.started:
        return _items_as_of(took, step, moment)
    if took.attempt <= moment:
        return StepNow("running", moment - took.attempt)
    if took.started <= moment:
        # Between attempts, or in one that will fail: it has not got anywhere yet.
        return StepNow("running", 0.0)
    return StepNow()


def marks_of(ends: Iterable[float]) -> tuple[float, ...]:
    """What `Took.marks` keeps of when items ended."""
    ordered = sorted(ends)
    if len(ordered) <= MARKS:
        return tuple(ordered)
    return tuple(ordered[(place + 1) * len(ordered) // MARKS - 1] for place in range(MARKS))


def _items_as_of(took: Took, step: Step, moment: float) -> StepNow:
    ends = _ends(took)
    done = sum(1 for end in ends if end <= moment)
    running = min(took.items - done, took.wide, step.at_once or 1)
    # Each is taken to last as long as they did on average: so old it is by now.
    ages = tuple(max(0.0, took.each - (end - moment)) for end in ends[done : done + running])
    return StepNow("running", took.each if done else 0.0, items=took.items, items_done=done, ages=ages)


def _ends(took: Took) -> list[float]:
    """When each item ended, as far as the marks tell."""
    marks = took.marks or (took.ended,)
    if len(marks) == took.items:
        return list(marks)
    ends: list[float] = []
    before = took.started
    for place, mark in enumerate(marks):
        many = (place + 1) * took.items // len(marks) - len(ends)
        ends += [before + (mark - before) * (k + 1) / many for k in range(many)]
        before = mark
    return ends
