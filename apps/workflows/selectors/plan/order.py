"""The order of a graph's steps: which may run together, and the longest way through. Pure, linear in the edges."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from apps.workflows.engine.graph import Graph, StepSpec

Truth = bool | Literal["unknown"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CriticalPath:
    """The longest chain of steps. `expected_seconds` is None where a step that runs was never timed."""

    steps: tuple[str, ...]
    expected_seconds: float | None


def in_order(graph: Graph) -> list[StepSpec]:
    """Each step after those it waits for (A. Kahn, "Topological sorting of large networks", 1962)."""
    waiting = {step.id: len(step.depends_on) for step in graph.steps.values()}
    found = [step for step in graph.steps.values() if not step.depends_on]
    for step in found:
        for dependant in graph.dependants[step.id]:
            waiting[dependant] -= 1
            if waiting[dependant] == 0:
                found.append(graph.steps[dependant])
    return found


def may_run(order: Sequence[StepSpec], holds: Mapping[str, Truth]) -> frozenset[str]:
    """The steps that can run at all; the others are certain to be skipped. `holds` has the value of each `when`."""
    return _running(order, holds, may_fail=True)


def run_if_all_is_well(order: Sequence[StepSpec], holds: Mapping[str, Truth]) -> frozenset[str]:
    """The steps that run where none fails and every condition that is not known yet holds."""
    return _running(order, holds, may_fail=False)


def _running(order: Sequence[StepSpec], holds: Mapping[str, Truth], *, may_fail: bool) -> frozenset[str]:
    found: set[str] = set()
    for step in order:
        match step.on:
            case "success":
                wanted = all(each in found for each in step.depends_on)
            case "failure":
                wanted = may_fail and any(each in found for each in step.depends_on)
            case "always":
                wanted = True
        if wanted and holds[step.id] is not False:
            found.add(step.id)
    return frozenset(found)


def waves(graph: Graph, order: Sequence[StepSpec], running: frozenset[str]) -> list[list[str]]:
    """The steps of `running` that can run together: a wave waits for nothing but the waves before it.

    Within a wave they have the order of the definition.
    """
    level: dict[str, int] = {}
    for step in order:
        level[step.id] = max((level[each] + (each in running) for each in step.depends_on), default=0)
    found: list[list[str]] = [[] for _ in range(max((level[each] for each in running), default=-1) + 1)]
    for step_id in graph.steps:
        if step_id in running:
            found[level[step_id]].append(step_id)
    return found


def critical_path(
    order: Sequence[StepSpec], running: frozenset[str], seconds: Mapping[str, float | None]
) -> CriticalPath:
    """The chain through `running` that takes longest, as if a performer were free for each step at once.

    Where one of them was never timed the longest in seconds is not known: then it is the one of most steps.
    """
    timed = all(seconds[each] is not None for each in running)
    length: dict[str, tuple[float, int]] = {}  # in seconds where all are timed, and in steps
    came_from: dict[str, str | None] = {}
    for step in order:
        before = max(step.depends_on, key=lambda each: length[each], default=None)
        came_from[step.id] = before
        lasted, count = length[before] if before is not None else (0.0, 0)
        if step.id in running:
            lasted, count = lasted + ((seconds[step.id] or 0.0) if timed else 0.0), count + 1
        length[step.id] = lasted, count
    last = max((step.id for step in order if step.id in running), key=lambda each: length[each], default=None)
    path: list[str] = []
    at = last
    while at is not None:
        if at in running:
            path.append(at)
        at = came_from[at]
    total = round(length[last][0], 3) if last is not None and timed else None
    return CriticalPath(steps=tuple(reversed(path)), expected_seconds=total)
