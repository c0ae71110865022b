"""One run as it really went, moment by moment: what an estimate is given, and what it is measured against."""

import heapq
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from apps.workflows.estimate import Run, Shape, Situation, StepNow, Took
from apps.workflows.estimate.shapes import marks_of


class Work(NamedTuple):
    """What a step will take, in seconds: failed attempts, each with the pause after it; then each of its items."""

    failed: tuple[tuple[float, float], ...] = ()
    pieces: tuple[float, ...] = ()
    skipped: bool = False


class Span(NamedTuple):
    """When one attempt, or one item, began and ended."""

    began: float
    ended: float


@dataclass(frozen=True, slots=True)
class TrueRun:
    """A run with all its moments."""

    shape: Shape
    slots: int
    seconds: float
    ready: Mapping[str, float]
    failed: Mapping[str, Sequence[Span]]
    pieces: Mapping[str, Sequence[Span]]
    ended: Mapping[str, float]
    skipped: frozenset[str]

    def run(self) -> Run:
        """What is kept of it."""
        steps = {}
        for step in self.shape.steps:
            ready, ended = self.ready[step.id], self.ended[step.id]
            if step.id in self.skipped:
                steps[step.id] = Took(ready, ready, ready, ended, skipped=True)
                continue
            spans = self.pieces[step.id]
            attempt = min(span.began for span in spans)
            started = min([attempt, *(span.began for span in self.failed[step.id])])
            if not step.at_once:
                steps[step.id] = Took(ready, started, attempt, ended)
                continue
            each = sum(span.ended - span.began for span in spans) / len(spans)
            first = min(span.ended for span in spans)
            wide = sum(1 for span in spans if span.began < first)
            marks = marks_of(span.ended for span in spans)
            steps[step.id] = Took(ready, started, attempt, ended, len(spans), each, wide=wide, marks=marks)
        return Run(self.seconds, steps)

    def at(self, moment: float) -> Situation:
        """What can be seen of it at a moment."""
        return Situation(
            moment, tuple(self._step(step.id, step.at_once, moment) for step in self.shape.steps), self.slots
        )

    def _step(self, name: str, at_once: int, moment: float) -> StepNow:
        if self.ended[name] <= moment:
            if name in self.skipped:
                return StepNow("skipped")
            took = [span.ended - span.began for span in self.pieces[name]]
            many = len(took) if at_once else 0
            return StepNow("done", sum(took) / len(took), items=many, items_done=many)
        if name in self.skipped or moment < self.ready[name]:
            return StepNow()
        if at_once:
            took = [span.ended - span.began for span in self.pieces[name] if span.ended <= moment]
            ages = tuple(moment - span.began for span in self.pieces[name] if span.began <= moment < span.ended)
            mean = sum(took) / len(took) if took else 0.0
            return StepNow("running", mean, items=len(self.pieces[name]), items_done=len(took), ages=ages)
        for span in (*self.failed[name], *self.pieces[name]):
            if span.began <= moment < span.ended:
                return StepNow("running", moment - span.began)
        begun = any(span.began <= moment for span in self.failed[name])
        return StepNow("running", 0.0) if begun else StepNow()


def play(shape: Shape, works: Mapping[str, Work], slots: int) -> TrueRun:  # noqa: PLR0915 (one simulation)
    """Perform the works through the graph: first come, first served."""
    waiting = {step.id: len(set(step.depends_on)) for step in shape.steps}
    known = {step.id: step for step in shape.steps}
    ready: dict[str, float] = {}
    ended: dict[str, float] = {}
    failed: dict[str, list[Span]] = {step.id: [] for step in shape.steps}
    pieces: dict[str, list[Span]] = {step.id: [] for step in shape.steps}
    line: deque[tuple[str, float]] = deque()  # (step, seconds of the next attempt or item)
    events: list[tuple[float, int, str, str]] = []  # (moment, tie, what, step)
    free, clock, tie = slots, 0.0, 0

    def push(moment: float, what: str, name: str) -> None:
        nonlocal tie
        tie += 1
        heapq.heappush(events, (moment, tie, what, name))

    def attempt(name: str) -> None:
        work, step = works[name], known[name]
        if len(failed[name]) < len(work.failed):
            line.append((name, work.failed[len(failed[name])][0]))
        else:
            line.extend((name, seconds) for seconds in work.pieces[: step.at_once or 1])

    def end(name: str) -> None:
        ended[name] = clock
        for place in shape.after[shape.index[name]]:
            other = shape.steps[place].id
            waiting[other] -= 1
            if not waiting[other]:
                open_step(other)

    def open_step(name: str) -> None:
        ready[name] = clock
        if works[name].skipped:
            end(name)
        else:
            attempt(name)

    for step in shape.steps:
        if not step.depends_on:
            open_step(step.id)
    while line or events:
        while line and free:
            name, seconds = line.popleft()
            free -= 1
            failing = len(failed[name]) < len(works[name].failed)
            (failed if failing else pieces)[name].append(Span(clock, clock + seconds))
            push(clock + seconds, "failed" if failing else "done", name)
        clock, _, what, name = heapq.heappop(events)
        if what == "again":
            attempt(name)
            continue
        free += 1
        if what == "failed":
            push(clock + works[name].failed[len(failed[name]) - 1][1], "again", name)
        elif len(pieces[name]) < len(works[name].pieces) and known[name].at_once:
            queued = sum(1 for one, _ in line if one == name)
            following = len(pieces[name]) + queued
            if following < len(works[name].pieces):
                line.append((name, works[name].pieces[following]))
        elif max(span.ended for span in pieces[name]) <= clock:
            end(name)
    return TrueRun(
        shape, slots, clock, ready, failed, pieces, ended, frozenset(n for n, w in works.items() if w.skipped)
    )
