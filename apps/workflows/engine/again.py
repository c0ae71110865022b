"""What a new execution may keep of the one it is made from: a retry, or a fork from a step."""

from collections.abc import Iterable, Mapping

from apps.workflows.engine.graph import Graph
from apps.workflows.engine.ids import step_of
from apps.workflows.engine.states import Status


def kept_for_retry(graph: Graph, statuses: Mapping[str, Status]) -> frozenset[str]:
    """The tasks whose good results a retry keeps, given the statuses of all tasks of the execution by name.

    A step is kept when it completed and all that it rests on is kept; of a step that is done again, the items that
    completed are kept where all that the step rests on is.
    """
    return _kept(graph, statuses, again=())


def kept_for_fork(graph: Graph, statuses: Mapping[str, Status], start: str) -> frozenset[str]:
    """The same for a fork from the task `start`, which is done again with all that rests on it.

    From `load[7]` the step `load` is done again for that item alone.
    """
    return _kept(graph, statuses, again=(start,))


def _kept(graph: Graph, statuses: Mapping[str, Status], again: Iterable[str]) -> frozenset[str]:
    redone = set(again)
    redone_steps = {step_of(name) for name in redone}
    kept: set[str] = set()
    safe: set[str] = set()  # steps all of whose dependencies are kept: what they are given is the same
    pending = list(graph.steps.values())
    waiting = {spec.id: len(spec.depends_on) for spec in pending}
    ready = [spec for spec in pending if not spec.depends_on]
    while ready:
        spec = ready.pop()
        if all(name in kept for name in spec.depends_on):
            safe.add(spec.id)
            if statuses.get(spec.id) is Status.COMPLETED and spec.id not in redone_steps:
                kept.add(spec.id)
        for dependant in graph.dependants[spec.id]:
            waiting[dependant] -= 1
            if not waiting[dependant]:
                ready.append(graph.steps[dependant])
    for name, status in statuses.items():
        step = step_of(name)
        if name == step or status is not Status.COMPLETED:
            continue
        if step in safe and step not in kept and not redone & {step, name}:
            kept.add(name)
    return frozenset(kept)
