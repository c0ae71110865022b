"""Work that is reported from outside: its percentages make a chain of ten steps, which are estimated like any other."""

from collections.abc import Sequence

from apps.workflows.estimate.shapes import Run, Shape, Situation, Step, StepNow, Took

PARTS = 10
_NAMES = [f"{part * 100 // PARTS} %" for part in range(1, PARTS + 1)]


def shape_of_a_track() -> Shape:
    """Ten steps, one after the other."""
    return Shape.of(
        Step(name, (_NAMES[place - 1],) if place else (), slotless=True) for place, name in enumerate(_NAMES)
    )


def track(reports: Sequence[tuple[float, float]], seconds: float) -> Run:
    """A tracker's run of so many seconds, from its reports: (seconds from the start, percent), in order of time."""
    steps = {}
    before = 0.0
    for place, name in enumerate(_NAMES):
        wanted = (place + 1) * 100.0 / PARTS
        after = min(seconds, max(before, _crossed(reports, wanted, seconds)))
        steps[name] = Took(before, before, before, after)
        before = after
    return Run(seconds, steps)


def _crossed(reports: Sequence[tuple[float, float]], wanted: float, seconds: float) -> float:
    """When it came to `wanted` per cent, evenly between two reports."""
    at, percent = 0.0, 0.0
    for moment, told in [*reports, (seconds, 100.0)]:
        if told >= wanted:
            share = (wanted - percent) / (told - percent) if told > percent else 1.0
            return at + share * (moment - at)
        at, percent = moment, max(percent, told)
    return seconds


def situation_of_a_track(reports: Sequence[tuple[float, float]], percent: float, elapsed: float) -> Situation:
    """Where a tracker is that has come to `percent` after `elapsed` seconds."""
    steps = []
    before = 0.0
    known = [*reports, (elapsed, percent)]
    for place in range(PARTS):
        wanted = (place + 1) * 100.0 / PARTS
        if percent >= wanted:
            after = max(before, _crossed(known, wanted, elapsed))
            steps.append(StepNow("done", max(after - before, 1e-3)))
            before = after
        elif percent > wanted - 100.0 / PARTS or place == 0 or steps[-1].state == "done":
            within = (percent - (wanted - 100.0 / PARTS)) * PARTS
            steps.append(StepNow("running", max(0.0, elapsed - before), percent=max(0.0, within)))
        else:
            steps.append(StepNow())
    return Situation(elapsed, tuple(steps))
