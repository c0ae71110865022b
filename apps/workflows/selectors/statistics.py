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
from apps.workflows.models import Execution, Performer, Task, WorkflowVersion
from apps.workflows.selectors.outcomes import MEASURES, Outcome, together

EXECUTION_OUTCOMES: tuple[str, ...] = tuple(status.value for status, moves in EXECUTION_MOVES.items() if not moves)
STEP_OUTCOMES: tuple[str, ...] = tuple(status.value for status in Status if status in TERMINAL)
EXECUTION_BOUNDS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0, 14400.0, 86400.0)
"""Seconds. Wide: an execution is a no-op chain or a night's training."""
STEP_BOUNDS = (0.01, 0.05, 0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0)
"""Seconds."""

DEFAULT_QUEUE = str(Task._meta.get_field("queue").default)
WORKER_STATES = ("live", "draining", "lost")
_BAD = "('failed', 'timed_out')"
_KEPT_DEFINITIONS = 2_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Registered:
    """A workflow and the definition that its next execution will be pinned to."""

    id: UUID
    slug: str
    kind: str
    version_id: UUID


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
        Registered(id=workflow, slug=slug, kind=kind, version_id=version)
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


def execution_outcomes(bounds: Sequence[float], *, among: Sequence[UUID] | None = None) -> list[Outcome]:
    """Executions that have ended, by workflow, status and (where it was not a step's) error type.

    Those that were pruned count as well; with `among` only what these executions add.
    """
    return _outcomes(
        "execution",
        # The error of an execution that failed by one of its steps names the step, and is counted there.
        f"""SELECT x.workflow_id AS w, '' AS s, x.status AS o, 1 AS n, 0 AS r, {_microseconds("x.")} AS x,
              CASE WHEN x.status IN {_BAD} AND (x.error ->> 'step_id') IS NULL THEN COALESCE(x.error ->> 'type', '?')
              ELSE '' END AS e
            FROM workflows_execution x WHERE x.finished_at IS NOT NULL""",  # noqa: S608 (only constants of this module)
        bounds,
        among,
    )


def task_outcomes(bounds: Sequence[float], *, among: Sequence[UUID] | None = None) -> list[Outcome]:
    """Tasks by workflow, step, status and error type. The time is that of the last attempt.

    A retry is a failure or a loss after which the task was put back into the line: all of them but the one that
    ended a task which had been attempted. The items of a step with `for_each` count as that step. Tasks that were
    pruned count as well; with `among` only what the tasks of these executions add.
    """
    return _outcomes(
        "task",
        f"""SELECT x.workflow_id AS w, {_step("t.step_id")} AS s,
              CASE WHEN t.finished_at IS NULL THEN 0 ELSE 1 END AS n,
              CASE WHEN t.finished_at IS NULL THEN '' ELSE t.status END AS o,
              t.failures + t.losses - CASE WHEN t.status IN {_BAD} AND t.failures + t.losses > 0 THEN 1 ELSE 0 END AS r,
              {_microseconds("t.")} AS x,
              CASE WHEN t.status IN {_BAD} THEN COALESCE(t.error ->> 'type', '?') ELSE '' END AS e
            FROM workflows_task t JOIN workflows_execution x ON x.id = t.execution_id
            WHERE (t.finished_at IS NOT NULL OR t.failures > 0 OR t.losses > 0)""",  # noqa: S608
        bounds,
        among,
    )


def _outcomes(what: str, rows: str, bounds: Sequence[float], among: Sequence[UUID] | None) -> list[Outcome]:
    """Group `rows` (w, s, o, n, r, x, e). Materialised, so that a duration is worked out once a row.

    What was pruned comes by the same statement: between two of them rows could go from here to there, and a counter
    would fall.
    """
    within = "".join(f", SUM(CASE WHEN x <= {round(bound * 1_000_000)} THEN 1 ELSE 0 END)" for bound in bounds)
    if among is None:
        zeros = ", 0" * (len(bounds) + 3)
        also = f" UNION ALL SELECT NULL, name, labels, '', CAST(value AS bigint){zeros} FROM workflows_prunedtotal"  # noqa: S608
        also += f" WHERE name IN ({', '.join(['%s'] * len(MEASURES))})"
        values: list[Any] = [f"{what}.{measure}" for measure in MEASURES]
    else:
        rows += f" AND x.id IN ({', '.join(['%s'] * len(among))})"
        also, values = "", [key.hex if connection.vendor == "sqlite" else key for key in among]
    counted, pruned = [], []
    with connection.cursor() as cursor:
        cursor.execute(
            f"WITH f AS MATERIALIZED ({rows}) SELECT w, s, o, e, SUM(n), COUNT(x), SUM(x), SUM(r){within}"  # noqa: S608
            f" FROM f GROUP BY w, s, o, e{also}",
            values,
        )
        for w, s, o, e, n, timed, lasted, retries, *numbers in cursor.fetchall():
            if w is None:
                pruned.append((s.removeprefix(f"{what}."), o, int(n)))
                continue
            counted.append(
                Outcome(
                    workflow_id=w if isinstance(w, UUID) else UUID(w),
                    step_id=s,
                    status=o,
                    error_type=None if e == "?" else e,
                    count=int(n),
                    timed=int(timed),
                    microseconds=int(lasted or 0),
                    retries=int(retries),
                    within=[int(number) for number in numbers],
                )
            )
    return together(counted, pruned, bounds)


def _step(column: str) -> str:
    """The id of a step without the number of its item."""
    if connection.vendor != "sqlite":
        return f"split_part({column}, '[', 1)"
    return f"substr({column}, 1, instr({column} || '[', '[') - 1)"


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
    return f"(CAST(strftime('%%s', {column}) AS INTEGER) * 1000000 + {fraction})"


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
