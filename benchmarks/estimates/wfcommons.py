"""Reads traces of real workflows in the format of WfCommons (wfformat 1.3 to 1.5, https://wfcommons.org/format).

Anyone can fetch recorded executions from https://github.com/wfcommons/WfInstances, or record his own, and have every
estimator judged by them: `python -m benchmarks.estimates --traces DIRECTORY`. Traces of one application (by its name
and the number of its tasks' kinds) are taken as the runs of one workflow, in the order of when they were executed.

Tasks that carry one name's stem (`blastall_00000012`) are one step with items where they hang in the graph alike.
"""

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from apps.workflows.estimate import Shape, Step
from benchmarks.estimates.truth import TrueRun, Work, play

LEAST_SECONDS = 1e-3
SLOTS = 8


class NotATraceError(ValueError):
    """The file is not in the format; the message says where."""


@dataclass(frozen=True, slots=True)
class Task:
    """A task of a trace: which it waits for, and how long it took, in seconds."""

    id: str
    kind: str
    parents: frozenset[str]
    seconds: float


@dataclass(frozen=True, slots=True)
class Trace:
    """One recorded execution."""

    name: str
    executed_at: str
    tasks: tuple[Task, ...]


def read(path: Path) -> Trace:
    """A trace from its file. Raises `NotATraceError`."""
    try:
        return trace_of(json.loads(path.read_text()))
    except json.JSONDecodeError as wrong:
        raise NotATraceError(f"{path}: no JSON: {wrong}") from None
    except NotATraceError as wrong:
        raise NotATraceError(f"{path}: {wrong}") from None


def trace_of(data: Mapping[str, Any]) -> Trace:
    """A trace from its JSON. Raises `NotATraceError`.

    From 1.5 on a workflow has a `specification` (who waits for whom) and an `execution` (what it took); before, each
    task has both, and its time is called `runtimeInSeconds` or `runtime`.
    """
    workflow = data.get("workflow")
    if not isinstance(workflow, Mapping):
        raise NotATraceError("it has no `workflow`")
    try:
        if "specification" in workflow:
            took = {str(one["id"]): float(one["runtimeInSeconds"]) for one in workflow["execution"]["tasks"]}
            told, ids = workflow["specification"]["tasks"], "id"
        else:
            told = workflow.get("tasks") or workflow["jobs"]
            ids = "id" if all("id" in one for one in told) else "name"
            took = {str(one[ids]): float(one.get("runtimeInSeconds", one.get("runtime"))) for one in told}
        tasks = tuple(
            Task(
                str(one[ids]),
                _kind(str(one.get("name") or one[ids])),
                frozenset(str(parent) for parent in one.get("parents", ())),
                max(LEAST_SECONDS, took[str(one[ids])]),
            )
            for one in told
        )
    except (KeyError, TypeError, ValueError) as wrong:
        raise NotATraceError(f"a task lacks {wrong}") from None
    names = {task.id for task in tasks}
    if lost := next((p for task in tasks for p in task.parents if p not in names), None):
        raise NotATraceError(f"a task waits for `{lost}`, which there is not")
    name = str(data.get("name") or "unnamed")
    at = str(
        workflow.get("executedAt") or workflow.get("execution", {}).get("executedAt") or data.get("createdAt") or ""
    )
    return Trace(re.split(r"[-_.]?\d", name)[0] or name, at, tasks)


def _kind(name: str) -> str:
    """What a task is called without its number: `blastall_00000012` is a `blastall`."""
    return re.sub(r"[-_.:]*(ID)?\d+$", "", name) or name


def workflows(paths: Iterable[Path]) -> Mapping[str, list[Trace]]:
    """The traces by application, in the order in which they were executed. Raises `NotATraceError`."""
    found: dict[str, list[Trace]] = defaultdict(list)
    for path in sorted(paths):
        trace = read(path)
        kinds = sorted({task.kind for task in trace.tasks})
        found[f"{trace.name} ({len(kinds)} kinds of tasks)"].append(trace)
    return {name: sorted(traces, key=lambda one: one.executed_at) for name, traces in found.items()}


def runs_of(traces: Sequence[Trace], slots: int = SLOTS) -> Iterator[TrueRun]:
    """The traces as runs of one workflow of so many slots: its steps are the kinds of tasks, at their depths."""
    steps: dict[str, set[str]] = {}
    taken = []
    for trace in traces:
        grouped = _steps(trace)
        taken.append(grouped)
        for name, (parents, _) in grouped.items():
            steps.setdefault(name, set()).update(parents)
    shape = Shape.of(Step(name, tuple(sorted(parents)), at_once=1000) for name, parents in steps.items())
    for grouped in taken:
        works = {name: Work((), tuple(grouped[name][1])) if name in grouped else Work(skipped=True) for name in steps}
        yield play(shape, works, slots)


def _steps(trace: Trace) -> dict[str, tuple[set[str], list[float]]]:
    """By step (a kind at a depth) the steps that it waits for, and what its tasks took."""
    known = {task.id: task for task in trace.tasks}
    depths: dict[str, int] = {}

    def depth(name: str) -> int:
        waiting = [name]
        while waiting:
            top = waiting[-1]
            missing = [parent for parent in known[top].parents if parent not in depths]
            if missing:
                if len(waiting) > len(known):
                    raise NotATraceError("its tasks wait for each other in a circle")
                waiting += missing[:1]
            else:
                depths[top] = 1 + max((depths[parent] for parent in known[top].parents), default=-1)
                waiting.pop()
        return depths[name]

    names = {task.id: f"{task.kind}@{depth(task.id)}" for task in trace.tasks}
    found: dict[str, tuple[set[str], list[float]]] = {}
    for task in trace.tasks:
        parents, seconds = found.setdefault(names[task.id], (set(), []))
        parents.update(names[parent] for parent in task.parents)
        seconds.append(task.seconds)
    return found
