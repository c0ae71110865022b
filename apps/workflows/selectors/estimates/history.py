"""How executions went, read from their rows and journals as past runs; and past runs as they are kept."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any
from uuid import UUID

from django.db.models import Min

from apps.workflows.engine.graph import Graph
from apps.workflows.engine.ids import step_of
from apps.workflows.engine.states import Status
from apps.workflows.estimate import Run, Shape, Step, Took, marks_of, shape_of_a_track, track
from apps.workflows.models import Event, Execution, PastRun, Task, Workflow
from apps.workflows.selectors.graphs import graph_of
from apps.workflows.selectors.relations import last_whole_step, whole_steps

KEPT = 40  # runs of a workflow
CELLS = 8_000  # steps of all its kept runs together, but at least three runs
MOST_ITEMS = 5_000  # of an execution that are looked at
MOST_REPORTS = 2_000  # of a tracker that are looked at


def kept_runs(steps: int) -> int:
    """How many runs of a workflow of so many steps are kept."""
    return max(3, min(KEPT, CELLS // max(1, steps)))


@lru_cache(maxsize=256)
def shape_of(version: UUID, *, tracker: bool) -> Shape:
    """The shape of a version; all trackers have the same."""
    if tracker:
        return shape_of_a_track()
    graph = graph_of(version)
    return Shape.of(
        Step(
            step.id,
            step.depends_on,
            slotless=step.own,
            at_once=step.max_parallel if step.for_each is not None else 0,
        )
        for step in graph.steps.values()
    )


def run_of(execution: Execution) -> Run | None:
    """How a completed execution went; None where that tells nothing: it was paused, or kept another one's results.

    `execution` is read with its workflow.
    """
    if execution.started_at is None or execution.finished_at is None or execution.origin_id is not None:
        return None
    seconds = max(0.0, (execution.finished_at - execution.started_at).total_seconds())
    if execution.workflow.kind == Workflow.Kind.TRACKER:
        return track(reports_of(execution), seconds)
    if Event.objects.filter(execution=execution, type="execution.paused").exists():
        return None
    return Run(seconds, _steps(execution, graph_of(execution.version_id), execution.started_at))


def reports_of(execution: Execution) -> list[tuple[float, float]]:
    """What a tracker has reported of the whole: (seconds from the start, percent), in order."""
    if execution.started_at is None:
        return []
    rows = Event.objects.filter(execution=execution).order_by("-seq").values_list("at", "data")[:MOST_REPORTS]
    return [
        (max(0.0, (at - execution.started_at).total_seconds()), float(data.get("overall_percent") or 0.0))
        for at, data in reversed(rows)
    ]


def _steps(execution: Execution, graph: Graph, start: datetime) -> dict[str, Took]:
    rows = {
        row["step_id"]: row
        for row in whole_steps(execution.pk).values("step_id", "status", "fence", "items", "started_at", "finished_at")
    }
    again = [name for name, row in rows.items() if row["fence"] > 1]
    firsts = _first_starts(execution, again)
    items = _items(execution, start) if any(row["items"] for row in rows.values()) else {}

    def since(moment: datetime | None) -> float:
        return max(0.0, (moment - start).total_seconds()) if moment else 0.0

    found = {}
    for name, row in rows.items():
        step = graph.steps.get(name)
        if step is None or row["finished_at"] is None:
            continue
        ready = max((since(rows[other]["finished_at"]) for other in step.depends_on if other in rows), default=0.0)
        ended = max(ready, since(row["finished_at"]))
        if row["status"] == Status.SKIPPED:
            found[name] = Took(ready, ready, ready, ended, skipped=True)
        elif step.own:
            found[name] = Took(ready, ready, ready, ended)
        elif step.for_each is not None:
            if took := _of_items(ready, ended, row["items"], items.get(name, ())):
                found[name] = took
        elif row["started_at"] is not None:
            attempt = max(ready, since(row["started_at"]))
            started = max(ready, min(attempt, since(firsts.get(name, row["started_at"]))))
            found[name] = Took(ready, started, attempt, max(attempt, ended))
    return found


def _first_starts(execution: Execution, steps: Sequence[str]) -> Mapping[str, datetime]:
    if not steps:
        return {}
    rows = Event.objects.filter(execution=execution, type="task.started", step_id__in=steps).order_by()
    return dict(rows.values_list("step_id").annotate(Min("at")))


def _items(execution: Execution, start: datetime) -> Mapping[str, list[tuple[float, float]]]:
    """By step when its items began and ended, of those that completed."""
    rows = Task.objects.filter(
        execution=execution, pk__gt=last_whole_step(execution.pk), status=Status.COMPLETED, started_at__isnull=False
    )
    found: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for name, began, ended in rows.order_by("pk").values_list("step_id", "started_at", "finished_at")[:MOST_ITEMS]:
        if began is not None and ended is not None:
            found[step_of(name)].append(((began - start).total_seconds(), (ended - start).total_seconds()))
    return found


def _of_items(ready: float, ended: float, items: int, spans: Sequence[tuple[float, float]]) -> Took | None:
    if not items or not spans:
        return None
    started = max(ready, min(began for began, _ in spans))
    first = min(end for _, end in spans)
    return Took(
        ready,
        started,
        started,
        max(started, ended),
        items,
        max(1e-6, sum(end - began for began, end in spans) / len(spans)),
        wide=max(1, sum(1 for began, _ in spans if began < first)),
        marks=marks_of(end for _, end in spans) if len(spans) == items else (),
    )


# --- as they are kept -------------------------------------------------------------------------------------------------


def as_json(run: Run) -> dict[str, list[Any]]:
    """The steps of a run as `PastRun.steps` has them: figures in the order of `Took`, without those at the end that
    are as usual."""
    usual = Took(0.0, 0.0, 0.0, 0.0)
    found = {}
    for name, took in run.steps.items():
        figures: list[Any] = [round(part, 6) if isinstance(part, float) else part for part in took[:-1]]
        figures.append([round(mark, 6) for mark in took.marks])
        while len(figures) > 4 and figures[-1] == (
            list(usual[-1]) if len(figures) == len(usual) else usual[len(figures) - 1]
        ):
            figures.pop()
        found[name] = figures
    return found


def of_json(seconds: float, steps: Mapping[str, Sequence[Any]]) -> Run:
    """The reverse."""
    last = len(Took._fields)
    return Run(
        seconds,
        {
            name: Took(*figures[: last - 1], *([tuple(figures[last - 1])] if len(figures) == last else []))
            for name, figures in steps.items()
        },
    )


def past_runs(workflow: UUID, most: int) -> list[Run]:
    """The newest kept runs of a workflow, the oldest first."""
    rows: Iterable[tuple[float, Any]] = (
        PastRun.objects.filter(workflow=workflow).order_by("-finished_at").values_list("seconds", "steps")[:most]
    )
    return [of_json(seconds, steps) for seconds, steps in reversed(list(rows))]
