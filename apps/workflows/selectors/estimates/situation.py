"""Where an execution is, as the estimator sees it: read from its rows, at one moment."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from django.db.models import Sum

from apps.workflows.engine.ids import step_of
from apps.workflows.engine.states import TERMINAL, Status
from apps.workflows.engine.types import TRACKER
from apps.workflows.estimate import Shape, Situation, StepNow, situation_of_a_track
from apps.workflows.models import Execution, Task, Workflow
from apps.workflows.selectors.estimates.history import reports_of
from apps.workflows.selectors.queues import live
from apps.workflows.selectors.relations import last_whole_step

UNKNOWN_SLOTS = 1_000
LAST_ITEMS = 500  # items whose times are looked at
FIELDS = (
    "step_id", "status", "percent", "items", "waiting_on", "waiting_for", "started_at", "finished_at", "fence",
)  # fmt: skip

Rows = Mapping[str, Mapping[str, Any]]
"""The tasks of whole steps by id, with `FIELDS`."""


def situation_of(row: Execution, shape: Shape, tasks: Rows, now: datetime) -> Situation:
    """Where an execution that has begun is at `now`. `row` is read with its workflow."""
    assert row.started_at is not None  # noqa: S101 (the caller has asked)
    elapsed = max(0.0, (now - row.started_at).total_seconds())
    if row.workflow.kind == Workflow.Kind.TRACKER:
        return situation_of_a_track(reports_of(row), row.percent, elapsed)
    took, ages = _items(row, now) if any(task["items"] for task in tasks.values()) else ({}, {})
    steps = []
    for step in shape.steps:
        task = tasks.get(step.id)
        if task is None:
            steps.append(StepNow("skipped"))
        elif step.at_once and task["items"]:
            steps.append(_of_items(task, took.get(step.id, ()), ages.get(step.id, ())))
        else:
            ready = max(
                (end for one in step.depends_on if one in tasks and (end := tasks[one]["finished_at"])), default=None
            )
            steps.append(_of_whole(task, ready or row.started_at, now, slotless=step.slotless))
    return Situation(elapsed, tuple(steps), slots_for(row, now))


def _of_whole(task: Mapping[str, Any], ready: datetime | None, now: datetime, *, slotless: bool) -> StepNow:
    status: str = task["status"]
    started: datetime | None = task["started_at"]
    if slotless and status not in (Status.SKIPPED, Status.PENDING):
        started = ready
    if started is None or status == Status.SKIPPED:
        # What has ended without a start was kept from elsewhere: nothing is left of it either.
        return StepNow("skipped") if status in TERMINAL else StepNow()
    if status in TERMINAL:
        return StepNow("done", max(0.0, (task["finished_at"] - started).total_seconds()))
    if status == Status.IN_PROGRESS or slotless:
        return StepNow("running", max(0.0, (now - started).total_seconds()), percent=task["percent"])
    return StepNow()


def _of_items(task: Mapping[str, Any], took: Sequence[float], ages: Sequence[float]) -> StepNow:
    mean = sum(took) / len(took) if took else 0.0
    if task["status"] in TERMINAL:
        return StepNow("done" if took else "skipped", mean, items=task["items"], items_done=task["items"])
    done = max(0, task["items"] - task["waiting_on"])
    return StepNow("running", mean, items=task["items"], items_done=done, ages=tuple(ages))


def _items(row: Execution, now: datetime) -> tuple[Mapping[str, list[float]], Mapping[str, list[float]]]:
    """By step the seconds that its last items took, and the ages of those that run."""
    rows = Task.objects.filter(execution=row, pk__gt=last_whole_step(row.pk), started_at__isnull=False)
    took: dict[str, list[float]] = defaultdict(list)
    ages: dict[str, list[float]] = defaultdict(list)
    ended = rows.filter(status=Status.COMPLETED).order_by("-pk").values_list("step_id", "started_at", "finished_at")
    for name, began, end in ended[:LAST_ITEMS]:
        if began is not None and end is not None:
            took[step_of(name)].append(max(0.0, (end - began).total_seconds()))
    running = rows.filter(lease_expires_at__isnull=False).order_by().values_list("step_id", "started_at")
    for name, began in running[:LAST_ITEMS]:
        if began is not None:
            ages[step_of(name)].append(max(0.0, (now - began).total_seconds()))
    return took, ages


def slots_for(row: Execution, now: datetime) -> int:
    """How many slots an execution can count on: those that it holds and that are free, or at least its fair share.

    Where no performer is live they are taken not to be short: what is there when one comes is not known.
    """
    slots: int = live(now).filter(draining=False).aggregate(all=Sum("slots", default=0))["all"]
    held = Task.objects.filter(lease_expires_at__isnull=False).exclude(lease_owner=TRACKER).order_by()
    by_execution: dict[Any, int] = defaultdict(int)
    for execution in held.values_list("execution", flat=True)[:10_000]:
        by_execution[execution] += 1
    own = by_execution.pop(row.pk, 0)
    if not slots:
        return UNKNOWN_SLOTS
    free = max(0, slots - own - sum(by_execution.values()))
    return max(1, own + free, slots // (len(by_execution) + 1))
