"""The answer of `/progress/{id}/estimate`: what is left of an execution, or why that cannot be said."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any
from uuid import UUID

from apps.accounts.permissions import Permission
from apps.core.clock import database_now
from apps.core.errors import NotFound
from apps.workflows.engine.ids import step_of
from apps.workflows.engine.states import TERMINAL, Status
from apps.workflows.estimate import Calibration, Estimate, Profile, estimate, profile_of
from apps.workflows.models import Execution, Experience, Task, Workflow
from apps.workflows.selectors.estimates.history import kept_runs, past_runs, shape_of
from apps.workflows.selectors.estimates.situation import FIELDS, situation_of
from apps.workflows.selectors.graphs import graph_of
from apps.workflows.selectors.relations import whole_steps
from apps.workflows.selectors.why import reasons_of

# What `why` says of tasks that go on by themselves; whatever else it says waits for somebody.
_GOES_ON = frozenset({
    "busy", "dependency", "ended", "execution", "items", "preference", "rate", "ready", "reported", "retry", "running",
    "stopping", "timer",
})  # fmt: skip
MOST_BLOCKED = 20  # open tasks of which it is asked
MOST_IN_LINE = 2_000  # tasks in line that are told apart
MOST_DEPTH = 5  # sub-workflows within sub-workflows that are looked into
_HIDDEN = "it waits for an execution of a workflow that you may not read, and that one is blocked"
_OPEN_WAITS = (Status.PENDING, Status.WAITING, Status.PAUSED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """The body as the API tells it, and the estimate in it at `at`, None where there is none."""

    execution: Execution
    at: datetime
    body: dict[str, Any]
    estimate: Estimate | None = None


def answer(user: Any, execution: Execution) -> Answer:
    """What is left of an execution, as `user` may know of it. Raises `NotFound` where it was deleted meanwhile.

    Nothing is invented: what cannot be known is null, with the reason. An execution that has reached a step which
    waits for somebody (an approval, a signal, a performer that is not there, a breaker) has no end that could be told.
    """
    row = Execution.objects.select_related("workflow").filter(pk=execution.pk).first()
    if row is None:
        raise NotFound("There is no such thing, or you may not know of it.")
    now = database_now()
    tasks: dict[str, Mapping[str, Any]] = {task["step_id"]: task for task in whole_steps(row.pk).values(*FIELDS)}
    body = _counted(row, tasks.values())
    if row.finished_at is not None:
        ended = {"estimated_completion_time": time(row.finished_at), "estimated_remaining_seconds": 0.0}
        return Answer(execution=row, at=now, body={**body, **_nothing("it has ended"), **ended})
    blocked = blocked_by(user, row)
    if blocked or row.status == Status.PAUSED:
        shown = "; ".join(f"`{one['step_id']}`: {one['message']}" for one in blocked[:3]) or "it is paused"
        nothing = _nothing(f"it is blocked, and when that ends is not known: {shown}", blocked)
        return Answer(execution=row, at=now, body={**body, **nothing})
    if row.started_at is None:
        reason = "it has not started, and how long it will wait for that is not known"
        return Answer(execution=row, at=now, body={**body, **_nothing(reason)})
    if row.workflow.kind == Workflow.Kind.TASKS:
        reason = "it is an ad-hoc task: there are no earlier executions of the same work"
        return Answer(execution=row, at=now, body={**body, **_nothing(reason)})
    found = _estimate(row, tasks, now)
    if found is None:
        return Answer(
            execution=row, at=now, body={**body, **_nothing("no execution of this workflow has completed yet")}
        )
    few = None if found.coverage is not None else "too few intervals have been measured to tell how often they hold"
    told: dict[str, Any] = {
        "estimated_completion_time": time(now + timedelta(seconds=found.p50)),
        "estimated_remaining_seconds": round(found.p50, 3),
        "p10": round(found.p10, 3),
        "p50": round(found.p50, 3),
        "p90": round(found.p90, 3),
        "method": found.method,
        "basis_executions": found.runs,
        "measured_coverage": None if found.coverage is None else round(found.coverage, 3),
        "blocked_by": [],
        "reason": few,
    }
    return Answer(execution=row, at=now, body={**body, **told}, estimate=found)


def _counted(row: Execution, tasks: Any) -> dict[str, Any]:
    count = Counter(task["status"] for task in tasks)
    return {
        "workflow_id": row.workflow.slug,
        "execution_id": str(row.pk),
        "status": row.status,
        "percent_complete": row.percent,
        "steps_total": count.total(),
        "steps_completed": count[Status.COMPLETED],
        "steps_in_progress": count[Status.IN_PROGRESS],
        "steps_failed": count[Status.FAILED] + count[Status.TIMED_OUT],
        "steps_pending": sum(count[status] for status in _OPEN_WAITS),
        "steps_skipped": count[Status.SKIPPED],
        "steps_cancelled": count[Status.CANCELLED],
    }


def _nothing(reason: str, blocked: Sequence[Mapping[str, Any]] = ()) -> dict[str, Any]:
    return {
        "estimated_completion_time": None,
        "estimated_remaining_seconds": None,
        "p10": None,
        "p50": None,
        "p90": None,
        "method": None,
        "basis_executions": 0,
        "measured_coverage": None,
        "blocked_by": list(blocked),
        "reason": reason,
    }


def time(value: datetime | None) -> str | None:
    """A moment as the API tells it."""
    return None if value is None else value.isoformat().replace("+00:00", "Z")


# --- what it rests on -------------------------------------------------------------------------------------------------


def _estimate(row: Execution, tasks: Mapping[str, Mapping[str, Any]], now: datetime) -> Estimate | None:
    number = Experience.objects.filter(workflow=row.workflow_id).values_list("number", flat=True).first()
    learnt = _learnt(row.workflow_id, row.version_id, number or 0, row.workflow.kind == Workflow.Kind.TRACKER)
    if learnt is None:
        return None
    profile, calibration = learnt
    situation = situation_of(row, profile.shape, tasks, now)
    # The journal's number is the seed: as long as nothing happens, chance says the same.
    return estimate(profile, situation, calibration, seed=row.pk.int >> 80 ^ row.seq)


@lru_cache(maxsize=128)
def _learnt(workflow: UUID, version: UUID, number: int, tracker: bool) -> tuple[Profile, Calibration] | None:
    """What is known of a workflow at the `number`-th run: fitted once, and again when there is more."""
    shape = shape_of(version, tracker=tracker)
    runs = past_runs(workflow, kept_runs(len(shape.steps))) if number else []
    if not runs:
        return None
    kept = Experience.objects.filter(workflow=workflow).values_list("calibration", flat=True).first()
    return profile_of(shape, runs), Calibration.of_json(kept or {})


# --- what it is blocked by --------------------------------------------------------------------------------------------


def blocked_by(user: Any, row: Execution, *, depth: int = 0) -> list[dict[str, Any]]:
    """The open steps that wait for somebody, each with the reason that `why` gives; a sub-workflow's are its step's."""
    asked = _asked(row)
    if not asked:
        return []
    for task in asked:
        task.execution = row
    reasons = reasons_of(user, row, asked)
    within = _within(user, [task for task in asked if task.waiting_for == "execution"], depth)
    return [
        {"step_id": task.step_id, "code": found["code"], "message": found["message"]}
        for task in asked
        for found in (*reasons[task.pk], *within.get(task.pk, ()))
        if found["code"] not in _GOES_ON and task.status not in TERMINAL
    ]


def _asked(row: Execution) -> list[Task]:
    """The open tasks that may wait for somebody: all cannot be asked, so of those in line one of each kind at first.

    What stands in line waits for the same where its queue, what it requires and its breakers are the same.
    """
    there = Task.objects.filter(execution=row, status__in=[one.value for one in _OPEN_WAITS]).order_by("pk")
    waiting = there.exclude(waiting_for="").exclude(waiting_for__in=("timer", "items", "leave", "retry"))
    asked = list(waiting[:MOST_BLOCKED])
    if len(asked) < MOST_BLOCKED and row.workflow.kind != Workflow.Kind.TRACKER:
        graph = graph_of(row.version_id)
        kinds: dict[Any, UUID] = {}
        in_line = list(there.filter(ready_at__isnull=False).values_list("pk", "step_id", "lane")[:MOST_IN_LINE])
        for key, name, lane in in_line:
            kinds.setdefault((lane, graph.steps[step_of(name)].breakers), key)
        known = {task.pk for task in asked}
        first = dict.fromkeys((*kinds.values(), *(key for key, _, _ in in_line)))
        more = [key for key in first if key not in known][: MOST_BLOCKED - len(asked)]
        asked += Task.objects.filter(pk__in=more)
    return sorted(asked, key=lambda task: task.pk)


def _within(user: Any, tasks: Sequence[Task], depth: int) -> dict[UUID, list[dict[str, Any]]]:
    """By task what its sub-workflow is blocked by; of one that the asker may not read only that it is."""
    if not tasks or depth >= MOST_DEPTH:
        return {}
    rows = Execution.objects.filter(parent_task__in=[task.pk for task in tasks], finished_at__isnull=True)
    children = list(rows.select_related("workflow"))
    readable = Execution.objects.visible_to(user, Permission.WORKFLOW_READ).filter(pk__in=[one.pk for one in children])
    known = set(readable.values_list("pk", flat=True))
    found: dict[UUID, list[dict[str, Any]]] = {}
    for child in children:
        reasons = blocked_by(user, child, depth=depth + 1)
        if child.status == Status.PAUSED and not reasons:
            reasons.append({"step_id": "", "code": "paused", "message": "it is paused"})
        if reasons and child.parent_task_id is not None:
            found[child.parent_task_id] = (
                [
                    {**one, "message": f"its execution of `{child.workflow.slug}` is blocked: {one['message']}"}
                    for one in reasons
                ]
                if child.pk in known
                else [{"code": "sub_workflow", "message": _HIDDEN}]
            )
    return found
