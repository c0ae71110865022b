"""What the tables say about executions, steps, queues and workers, counted by the database. Reads only.

Set-based SQL in both dialects. What has ended and is marked as counted is read as totals, so that the cost rests on
what runs and not on what ever ran. Nothing here is remembered between calls but definitions, which never change.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.db import connection
from django.db.models import Count, Exists, F, Min, OuterRef, QuerySet

from apps.workflows.engine.ids import step_of
from apps.workflows.engine.states import EXECUTION_MOVES, TERMINAL, Status
from apps.workflows.engine.types import TRACKER
from apps.workflows.models import Execution, Figure, OutcomeTotal, Performer, Task, WorkflowVersion
from apps.workflows.selectors.outcomes import UNKNOWN, Outcome, TotalRow

EXECUTION_OUTCOMES: tuple[str, ...] = tuple(status.value for status, moves in EXECUTION_MOVES.items() if not moves)
STEP_OUTCOMES: tuple[str, ...] = tuple(status.value for status in Status if status in TERMINAL)
EXECUTION_BOUNDS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0, 14400.0, 86400.0)
"""Seconds. Wide: an execution is a no-op chain or a night's training."""
STEP_BOUNDS = (0.01, 0.05, 0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0)
"""Seconds."""

WAIT_BOUNDS = (0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0)
"""Seconds; 30 is the objective of the alert on slow starts."""

DEFAULT_QUEUE = str(Task._meta.get_field("queue").default)
WORKER_STATES = ("live", "draining", "lost")
_BAD = "('failed', 'timed_out')"
_ENDED = f"({', '.join(map(repr, EXECUTION_OUTCOMES))})"
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Recent:
    """One execution, or (with `step_id`) one task, that has ended."""

    execution_id: UUID
    workflow_id: UUID
    step_id: str
    trace_id: str
    seconds: float
    at: datetime
    task_id: UUID | None = None
    attempt: int = 0


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

What = OutcomeTotal.What
BOUNDS: Mapping[OutcomeTotal.What, tuple[float, ...]] = {
    What.EXECUTION: EXECUTION_BOUNDS, What.TASK: STEP_BOUNDS, What.WAIT: WAIT_BOUNDS,
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Tallies:
    """Of one moment: what is not marked as counted, and the totals of all else as the database has them."""

    counted: Sequence[Outcome]
    totals: Sequence[TotalRow]


def tallies(what: OutcomeTotal.What) -> Tallies:
    """How often things have ended in which way: executions, tasks, or waits in line (whose `step_id` is the queue).

    Both parts come by one statement: between two of them rows could go from here to there, and a counter would fall.
    """
    found = _asked(what, " AND NOT x.counted", f" UNION ALL {_TOTALS}", [what, what])
    return Tallies(
        counted=[_outcome(row) for row in found if row[5] >= 0],
        totals=[row for row in found if row[5] < 0],
    )


def outcomes(what: OutcomeTotal.What, *, among: Sequence[UUID]) -> list[Outcome]:
    """What these executions, which have ended, add: in the order of the keys."""
    keys = [key.hex if connection.vendor == "sqlite" else key for key in among]
    found = _asked(what, f" AND x.id IN ({', '.join(['%s'] * len(keys))})", "", keys)
    return sorted((_outcome(row) for row in found), key=lambda one: one.key)


def _rows(what: OutcomeTotal.What) -> str:
    """A select of one row for each thing that ended: w, s, o, n, r, x, e as `_asked` sums them up."""
    match what:
        case What.EXECUTION:
            # The error of an execution that failed by one of its steps names the step, and is counted there.
            return f"""SELECT x.workflow_id AS w, '' AS s, x.status AS o, 1 AS n, 0 AS r,
              {_microseconds("x.started_at", "x.finished_at")} AS x,
              CASE WHEN x.status IN {_BAD} AND (x.error ->> 'step_id') IS NULL THEN COALESCE(x.error ->> 'type', '?')
              ELSE '' END AS e
            FROM workflows_execution x WHERE x.status IN {_ENDED}"""  # noqa: S608 (only constants of this module)
        case What.TASK:
            # The time is that of the last attempt. A retry is a failure or a loss after which the task was put back
            # into the line: all of them but the one that ended a task which had been attempted. Items of a step with
            # `for_each` count as that step.
            return f"""SELECT x.workflow_id AS w, {_step("t.step_id")} AS s,
              CASE WHEN t.finished_at IS NULL THEN 0 ELSE 1 END AS n,
              CASE WHEN t.finished_at IS NULL THEN '' ELSE t.status END AS o,
              t.failures + t.losses - CASE WHEN t.status IN {_BAD} AND t.failures + t.losses > 0 THEN 1 ELSE 0 END AS r,
              {_microseconds("t.started_at", "t.finished_at")} AS x,
              CASE WHEN t.status IN {_BAD} THEN COALESCE(t.error ->> 'type', '?') ELSE '' END AS e
            FROM {_tasks("(t.finished_at IS NOT NULL OR t.failures > 0 OR t.losses > 0)")}"""  # noqa: S608
        case _:
            # Until the last attempt began.
            return f"""SELECT x.workflow_id AS w, t.queue AS s, '' AS o, 1 AS n, 0 AS r,
              {_microseconds("t.queued_at", "t.started_at")} AS x, '' AS e
            FROM {_tasks("t.queued_at IS NOT NULL")}"""  # noqa: S608


def _tasks(which: str) -> str:
    """Tasks `t` of executions `x`. Executions first, and then by index: of most tasks the totals tell already."""
    if connection.vendor == "sqlite":
        return f"workflows_execution x CROSS JOIN workflows_task t ON t.execution_id = x.id WHERE {which}"
    inner = f"SELECT * FROM workflows_task t WHERE t.execution_id = x.id AND {which} OFFSET 0"  # noqa: S608
    return f"workflows_execution x CROSS JOIN LATERAL ({inner}) t WHERE TRUE"


_TOTALS = " UNION ALL ".join(
    f"""SELECT CAST({whose} AS text), step_id, status, error_type, count, -1, microseconds, retries,
    CAST(buckets AS text) FROM {table} WHERE what = %s"""  # noqa: S608 (constants)
    for whose, table in (("workflow_id", "workflows_outcometotal"), ("heir", "workflows_gonetotal"))
)


def _asked(what: OutcomeTotal.What, which: str, also: str, values: Sequence[Any]) -> list[tuple[Any, ...]]:
    """Rows grouped and summed up. Materialised, so that a duration is worked out once a row."""
    sums = " || ',' || ".join(
        f"CAST(SUM(CASE WHEN x <= {round(bound * 1_000_000)} THEN 1 ELSE 0 END) AS text)" for bound in BOUNDS[what]
    )
    with connection.cursor() as cursor:
        cursor.execute(
            f"WITH f AS MATERIALIZED ({_rows(what)}{which}) SELECT CAST(w AS text), s, o, e, CAST(SUM(n) AS bigint),"  # noqa: S608
            f" COUNT(x), CAST(COALESCE(SUM(x), 0) AS bigint), CAST(SUM(r) AS bigint), {sums}"
            f" FROM f GROUP BY w, s, o, e{also}",
            values,
        )
        return list(cursor.fetchall())


def _outcome(row: tuple[Any, ...]) -> Outcome:
    w, s, o, e, n, timed, lasted, retries, text = row
    return Outcome(
        workflow_id=UUID(w), step_id=s, status=o, error_type=None if e == UNKNOWN else e, count=n, timed=timed,
        microseconds=lasted, retries=retries, within=[int(number) for number in text.split(",")],
    )  # fmt: skip


def _step(column: str) -> str:
    """The id of a step without the number of its item."""
    if connection.vendor != "sqlite":
        return f"split_part({column}, '[', 1)"
    return f"substr({column}, 1, instr({column} || '[', '[') - 1)"


def _microseconds(begin: str, end: str) -> str:
    """From one column to another; null where either is. A clock set back gives 0."""
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
    begun = Execution.objects.filter(counted=False, status__in=(Status.IN_PROGRESS, Status.WAITING))
    return begun.filter(started_at__isnull=False).count()


def stalled(now: datetime, *, seconds: float) -> QuerySet[Execution]:
    """Executions in progress of which nothing was heard for so long, though nobody works on them and no timer is set.

    Those that wait for a person, a signal or another execution are not `in_progress`.
    """
    before = now - timedelta(seconds=seconds)
    held = Task.objects.filter(execution=OuterRef("pk"), lease_expires_at__gt=before)
    timed = Task.objects.filter(execution=OuterRef("pk"), due_at__gt=before)
    later = Task.objects.filter(execution=OuterRef("pk"), ready_at__gt=now)
    open_ones = Execution.objects.filter(counted=False, status=Status.IN_PROGRESS, updated_at__lt=before)
    return open_ones.filter(~Exists(held), ~Exists(timed), ~Exists(later))


def recent(limit: int, tasks: int) -> Sequence[Recent]:
    """The executions and tasks that ended last, those of trackers left out, newest first: examples to look at."""
    ended = list(
        Execution.objects.filter(finished_at__isnull=False, started_at__isnull=False, workflow__kind="workflow")
        .order_by("-finished_at")
        .values_list("pk", "workflow_id", "trace_id", "started_at", "finished_at")[:limit]
    )
    found = [
        Recent(
            execution_id=pk, workflow_id=w, step_id="", trace_id=trace, seconds=(end - begin).total_seconds(), at=end
        )
        for pk, w, trace, begin, end in ended
        if begin and end
    ]
    of = {pk: (workflow, trace) for pk, workflow, trace, _, _ in ended}
    rows = Task.objects.filter(execution__in=list(of), finished_at__isnull=False, started_at__isnull=False, fence__gt=0)
    for pk, execution, step, fence, begin, end in rows.values_list(
        "pk", "execution_id", "step_id", "fence", "started_at", "finished_at"
    )[:tasks]:
        if begin is None or end is None:
            continue
        workflow, trace = of[execution]
        found.append(
            Recent(
                execution_id=execution,
                workflow_id=workflow,
                step_id=step_of(step),
                trace_id=trace,
                task_id=pk,
                attempt=fence,
                seconds=(end - begin).total_seconds(),
                at=end,
            )
        )
    return found


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Agents:
    """Registered outside programs by state, and the slots of those that are heard of."""

    states: Mapping[str, int]
    slots: int
    used: int


def agents(now: datetime, *, lease_seconds: float) -> Agents:
    """Agents, counted as workers are."""
    seen = list(Performer.objects.filter(kind="agent").values_list("seen_at", "draining", "slots", "load"))
    living = [(slots, load) for at, _, slots, load in seen if now - at <= timedelta(seconds=lease_seconds)]
    return Agents(
        states=_by_state(now, lease_seconds, [(at, draining) for at, draining, _, _ in seen]),
        slots=sum(slots for slots, _ in living),
        used=sum(load for _, load in living),
    )


def figures() -> Mapping[str, float]:
    """The platform's own figures by name, those that were ever written."""
    return dict(Figure.objects.values_list("name", "value"))


def labelled() -> frozenset[tuple[str, str]]:
    """(workflow's id, step) of everything whose metrics have a label of their own; a workflow's own has no step.

    Ids are as the database tells them as text, in whichever notation: of a thousand rows the rest takes long.
    """
    with connection.cursor() as cursor:
        cursor.execute("SELECT CAST(workflow_id AS text), step_id FROM workflows_metriclabel")
        return frozenset(cursor.fetchall())


def workers(now: datetime, *, lease_seconds: float) -> Mapping[str, int]:
    """Workers by state. One that was silent for a whole lease is lost: its steps are being given to others."""
    return _by_state(now, lease_seconds, Performer.objects.filter(kind="worker").values_list("seen_at", "draining"))


def _by_state(now: datetime, lease_seconds: float, seen: Iterable[tuple[datetime, bool]]) -> Mapping[str, int]:
    counted = dict.fromkeys(WORKER_STATES, 0)
    for seen_at, draining in seen:
        lost = now - seen_at > timedelta(seconds=lease_seconds)
        counted["lost" if lost else "draining" if draining else "live"] += 1
    return counted
