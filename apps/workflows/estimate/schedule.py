"""Runs drawn samples through the graph, step after step, with the slots that there are: when does the last one end?"""

from collections import deque
from collections.abc import Sequence
from heapq import heapify, heappop, heappush
from itertools import repeat
from operator import add

from apps.workflows.estimate.sampling import SKIP, Draws
from apps.workflows.estimate.shapes import Shape, Situation


def remaining(shape: Shape, now: Situation, draws: Draws) -> list[float]:
    """For each sample the seconds until the last step ends."""
    if _fits(shape, now, draws):
        return _unhindered(shape, now, draws)
    plan = _Plan(shape, now)
    samples = zip(zip(*draws.seconds, strict=True), zip(*draws.pieces, strict=True), strict=True)
    return [_crowded(plan, *sample) for sample in samples]


def _fits(shape: Shape, now: Situation, draws: Draws) -> bool:
    """Whether slots are never short, as the first sample goes: then all samples are worked out at once."""
    ends: list[float] = []
    times: list[tuple[float, int]] = []
    for place, step in enumerate(shape.steps):
        begin = max((ends[other] for other in shape.before[place]), default=0.0)
        seconds = max(0.0, draws.seconds[place][0])
        wide = 0
        if not step.slotless and now.steps[place].state in ("open", "running") and seconds > 0:
            wide = min(step.at_once, draws.pieces[place][0]) if step.at_once else 1
        if wide:
            wide = min(wide, now.slots)
            seconds /= wide if step.at_once else 1
            times += [(begin, wide), (begin + seconds, -wide)]
        ends.append(begin + seconds)
    times.sort()
    used = most = 0
    for _, change in times:
        used += change
        most = max(most, used)
    return most <= now.slots


def _unhindered(shape: Shape, now: Situation, draws: Draws) -> list[float]:
    """As if every step began as soon as it could: step by step, all samples at a time."""
    samples = len(draws.weights)
    start: list[float] = [0.0] * samples
    ends: list[list[float]] = []
    last = start
    for place, step in enumerate(shape.steps):
        state = now.steps[place].state
        if state in ("done", "skipped"):
            ends.append(start)
            continue
        seconds = draws.seconds[place]
        if step.at_once:
            wide = min(step.at_once, now.slots)
            seconds = [_together(d, n, wide) for d, n in zip(seconds, draws.pieces[place], strict=True)]
        elif SKIP in seconds:
            seconds = list(map(max, seconds, repeat(0.0)))
        begin = start
        open_before = [ends[other] for other in shape.before[place] if ends[other] is not start]
        if state == "open" and open_before:
            begin = open_before[0] if len(open_before) == 1 else list(map(max, *open_before))
        end = list(map(add, begin, seconds))
        if state == "open" and any(draws.waits[place]):
            end = list(map(add, end, (0.0 if d <= 0 else w for d, w in zip(seconds, draws.waits[place], strict=True))))
        ends.append(end)
        if not any(now.steps[other].state in ("open", "running") for other in shape.after[place]):
            last = list(map(max, last, end))
    return last


def _together(seconds: float, items: int, at_once: int) -> float:
    """How long items of so many seconds in all take, that many at once: never less than one of them."""
    if seconds <= 0:
        return 0.0
    wide = min(items, max(1, at_once))
    return max(seconds / max(1, items), seconds / max(1, wide))


class _Plan:
    """What all samples of a crowded simulation share: who waits for whom, of the steps that have not ended."""

    def __init__(self, shape: Shape, now: Situation) -> None:
        opened = [step.state in ("open", "running") for step in now.steps]
        self.after = [tuple(other for other in shape.after[place] if opened[other]) for place in range(len(opened))]
        self.waiting = [sum(1 for other in shape.before[place] if opened[other]) for place in range(len(opened))]
        self.slotless = [step.slotless for step in shape.steps]
        self.at_once = [min(step.at_once, now.slots) for step in shape.steps]
        states = [step.state for step in now.steps]
        many = [bool(step.at_once or step.slotless) for step in shape.steps]
        self.held = [p for p, state in enumerate(states) if state == "running" and not many[p]]
        self.first = [
            p
            for p, state in enumerate(states)
            if (state == "running" and many[p]) or (state == "open" and not self.waiting[p])
        ]
        self.slots = max(1, now.slots)


def _crowded(  # noqa: PLR0912 (one loop: a call for each step would cost more than all else)
    plan: _Plan, seconds: Sequence[float], pieces: Sequence[int]
) -> float:
    """One sample where steps wait for slots: first come, first served."""
    after, slotless, at_once = plan.after, plan.slotless, plan.at_once
    waiting = plan.waiting.copy()
    parts: dict[int, int] = {}  # of steps with several pieces, how many have not ended
    heap = [(seconds[place], place) for place in plan.held]
    heapify(heap)
    free = plan.slots - len(heap)
    ready: deque[tuple[float, int]] = deque()
    clock = 0.0
    opened: Sequence[int] = plan.first
    while True:
        for place in opened:
            left = seconds[place]
            if left <= 0 or slotless[place]:
                heappush(heap, (clock + max(0.0, left), ~place))  # the complement: it holds no slot
            elif at_once[place]:
                wide = max(1, min(at_once[place], pieces[place]))
                parts[place] = wide
                ready.extend([(left / wide, place)] * wide)
            else:
                ready.append((left, place))
        while ready and free > 0:
            left, place = ready.popleft()
            free -= 1
            heappush(heap, (clock + left, place))
        if not heap:
            return clock
        clock, place = heappop(heap)
        if place < 0:
            place = ~place
        else:
            free += 1
            if place in parts:
                parts[place] -= 1
                if parts[place]:
                    opened = ()
                    continue
        opened = []
        for other in after[place]:
            waiting[other] -= 1
            if not waiting[other]:
                opened.append(other)
