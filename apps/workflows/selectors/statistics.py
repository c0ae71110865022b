"""What the tables say about executions, steps, queues and workers, counted by the database. Reads only.

Set-based SQL in both dialects: one pass over the executions and one over the tasks, whatever is asked of them.
Nothing here is remembered between calls but definitions, which never change.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.db import connection
from django.db.models import Count, F, Min

from apps.workflows.engine.states import EXECUTION_MOVES, TERMINAL, Status
from apps.workflows.engine.types import TRACKER
from apps.workflows.models import Execution, Performer, Task, Workflow, WorkflowVersion

EXECUTION_OUTCOMES: tuple[str, ...] = tuple(status.value for status, moves in EXECUTION_MOVES.items() if not moves)
STEP_OUTCOMES: tuple[str, ...] = tuple(status.value for status in Status if status in TERMINAL)
ERROR_TYPES: tuple[str, ...] = (
    "error", "exit_code", "timeout", "oom", "http_status", "connection", "refused", "unavailable", "invalid",
    "output", "lost", "cancelled",
)  # fmt: skip
"""The types of `StepError`; whatever else a row says is told apart by nobody."""

DEFAULT_QUEUE = str(Task._meta.get_field("queue").default)
WORKER_STATES = ("live", "draining", "lost")
_BAD = "('failed', 'timed_out')"
_KEPT_DEFINITIONS = 2_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Registered:
    """A workflow and the definition that its next execution will be pinned to."""

    id: UUID
    slug: str
    is_tracker: bool
    version_id: UUID


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How often something ended in one way.

    `timed` of the `count` have begun, and lasted `microseconds` together (an exact sum: one of floats depends on the
    order of the rows, and a counter that falls by a rounding error counts as reset); `within[i]` of them lasted at
    most the i-th bound. `error_type` is empty where there was no error, and None for an error without a type.
    `retries` counts further attempts that were decided on, also of tasks that have not ended (then `status` is empty
    and `count` 0).
    """

    workflow_id: UUID
    step_id: str
    status: str
    error_type: str | None
    count: int
    timed: int
    microseconds: int
    retries: int
    within: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Backlog:
    """The tasks of one queue that could be claimed now. `oldest_seconds` is how long the first of them has been."""

    depth: int
    oldest_seconds: float


# --- what is registered ---------------------------------------------------------------------------------------------


def registered() -> list[Registered]:
    """Every workflow with its present version, oldest first."""
    rows = WorkflowVersion.objects.filter(number=F("workflow__version_number")).order_by("workflow_id")
    return [
        Registered(id=workflow, slug=slug, is_tracker=kind == Workflow.Kind.TRACKER, version_id=version)
        for workflow, slug, kind, version in rows.values_list("workflow_id", "workflow__slug", "workflow__kind", "pk")
    ]


_definitions: dict[UUID, tuple[tuple[str, str], ...]] = {}


def steps_of(versions: Sequence[UUID]) -> Mapping[UUID, tuple[tuple[str, str], ...]]:
    """(step id, queue) of every step of these versions, in the order of their definitions."""
    unknown = [version for version in versions if version not in _definitions]
    if unknown:
        if len(_definitions) + len(unknown) > _KEPT_DEFINITIONS:
            _definitions.clear()
            unknown = list(versions)
        found = WorkflowVersion.objects.filter(pk__in=unknown).values_list("pk", "definition__steps")
        _definitions.update((version, tuple(_steps(steps))) for version, steps in found.iterator())
    return {version: _definitions.get(version, ()) for version in versions}


def _steps(steps: Any) -> Iterable[tuple[str, str]]:
    for step in steps if isinstance(steps, list) else ():
        yield str(step["id"]), str(step.get("queue") or DEFAULT_QUEUE)


# --- what has ended -------------------------------------------------------------------------------------------------


def execution_outcomes(bounds: Sequence[float]) -> list[Outcome]:
    """Executions that have ended, by workflow, status and (where it was not a step's) error type."""
    return _outcomes(
        # The error of an execution that failed by one of its steps names the step, and is counted there.
        f"""SELECT workflow_id AS w, '' AS s, status AS o, 1 AS n, 0 AS r, {_microseconds()} AS x,
              CASE WHEN status IN {_BAD} AND (error ->> 'step_id') IS NULL THEN COALESCE(error ->> 'type', '?')
              ELSE '' END AS e
            FROM workflows_execution WHERE finished_at IS NOT NULL""",  # noqa: S608 (only constants of this module)
        bounds,
    )


def task_outcomes(bounds: Sequence[float]) -> list[Outcome]:
    """Tasks by workflow, step, status and error type. The time is that of the last attempt.

    A retry is a failure or a loss after which the task was put back into the line: all of them but the one that
    ended a task which had been attempted.
    """
    return _outcomes(
        f"""SELECT x.workflow_id AS w, t.step_id AS s,
              CASE WHEN t.finished_at IS NULL THEN 0 ELSE 1 END AS n,
              CASE WHEN t.finished_at IS NULL THEN '' ELSE t.status END AS o,
              t.failures + t.losses - CASE WHEN t.status IN {_BAD} AND t.failures + t.losses > 0 THEN 1 ELSE 0 END AS r,
              {_microseconds("t.")} AS x,
              CASE WHEN t.status IN {_BAD} THEN COALESCE(t.error ->> 'type', '?') ELSE '' END AS e
            FROM workflows_task t JOIN workflows_execution x ON x.id = t.execution_id
            WHERE t.finished_at IS NOT NULL OR t.failures > 0 OR t.losses > 0""",  # noqa: S608
        bounds,
    )


def _outcomes(rows: str, bounds: Sequence[float]) -> list[Outcome]:
    """Group `rows` (w, s, o, n, r, x, e). Materialised, so that a duration is worked out once a row."""
    within = "".join(f", SUM(CASE WHEN x <= {round(bound * 1_000_000)} THEN 1 ELSE 0 END)" for bound in bounds)
    with connection.cursor() as cursor:
        cursor.execute(
            f"WITH f AS MATERIALIZED ({rows}) SELECT w, s, o, e, SUM(n), COUNT(x), SUM(x), SUM(r){within}"  # noqa: S608
            " FROM f GROUP BY w, s, o, e"
        )
        return [
            Outcome(
                workflow_id=w if isinstance(w, UUID) else UUID(w),
                step_id=s,
                status=o,
                error_type=None if e == "?" else e,
                count=int(n),
                timed=int(timed),
                microseconds=int(lasted or 0),
                retries=int(retries),
                within=tuple(int(number) for number in numbers),
            )
            for w, s, o, e, n, timed, lasted, retries, *numbers in cursor.fetchall()
        ]


def _microseconds(prefix: str = "") -> str:
    """From `started_at` to `finished_at`; null where either is. A clock set back gives 0."""
    begin, end = f"{prefix}started_at", f"{prefix}finished_at"
    if connection.vendor != "sqlite":
        lasted = f"GREATEST(0, (EXTRACT(EPOCH FROM ({end} - {begin})) * 1000000)::bigint)"
    else:
        lasted = f"MAX(0, {_sqlite_microseconds(end)} - {_sqlite_microseconds(begin)})"
    return f"CASE WHEN {begin} IS NOT NULL AND {end} IS NOT NULL THEN {lasted} END"


def _sqlite_microseconds(column: str) -> str:
    """SQLite's own functions round to milliseconds; its text is `2025-01-31 12:00:00` and perhaps `.ffffff`."""
    fraction = f"CAST(substr(substr({column}, 21) || '000000', 1, 6) AS INTEGER)"
    return f"(CAST(strftime('%s', {column}) AS INTEGER) * 1000000 + {fraction})"


# --- what is going on -----------------------------------------------------------------------------------------------


def executions_begun() -> int:
    """Executions that have begun and not ended, trackers among them."""
    return Execution.objects.filter(status__in=(Status.IN_PROGRESS, Status.WAITING), started_at__isnull=False).count()


def steps_performed() -> int:
    """Steps that a performer holds at this moment; what trackers say of theirs is not counted."""
    return Task.objects.filter(lease_expires_at__isnull=False).exclude(lease_owner=TRACKER).count()


def backlogs(now: datetime) -> Mapping[str, Backlog]:
    """By queue, the tasks that could be claimed at `now`; a retry that waits for its time is not one of them."""
    rows = Task.objects.filter(ready_at__lte=now).values_list("queue").annotate(Count("pk"), Min("ready_at"))
    return {
        queue: Backlog(depth=depth, oldest_seconds=max(0.0, (now - oldest).total_seconds()))
        for queue, depth, oldest in rows
    }


def workers(now: datetime, *, lease_seconds: float) -> Mapping[str, int]:
    """Workers by state. One that was silent for a whole lease is lost: its steps are being given to others."""
    counted = dict.fromkeys(WORKER_STATES, 0)
    seen = Performer.objects.filter(kind="worker").values_list("seen_at", "draining")
    for seen_at, draining in seen:
        lost = now - seen_at > timedelta(seconds=lease_seconds)
        counted["lost" if lost else "draining" if draining else "live"] += 1
    return counted
