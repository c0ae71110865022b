"""What a transaction reads: executions under their locks, and their tasks."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from apps.workflows.engine.ids import ordinal_of
from apps.workflows.engine.states import Status
from apps.workflows.engine.types import ExecutionState, TaskState
from apps.workflows.services.ledger.sql.dialect import (
    Cursor,
    is_sqlite,
    json_out,
    marks,
    time_in,
    time_out,
    uuid_in,
    uuid_out,
)
from apps.workflows.services.ledger.sql.rows import ExecutionRow, TaskRow


@dataclass(frozen=True, slots=True, kw_only=True)
class Lanes:
    """The lanes a performer serves: `first` at once, `later` those whose preferences it lacks, after `patience`."""

    first: tuple[str, ...]
    later: tuple[str, ...] = ()
    patience: timedelta = timedelta(seconds=5)


_EXECUTION_STATE = (
    "status, tasks_total, open_tasks, failed_tasks, points, percent, message, ready_at, deadline_at, "
    "cancel_requested_at, started_at, finished_at, error, held, owes_parent"
)
_TASK_STATE = (
    "step_id, status, queue, lane, waiting_on, met, fence, failures, losses, ready_at, waiting_for, due_at, "
    "expires_at, items, next_item, lease_owner, lease_expires_at, percent, message, started_at, finished_at, error"
)


_EXECUTION = (
    "SELECT id, revision, workflow_id, version_id, seq, priority, trace_id, parent_task_id, concurrency_key,"
    f" {_EXECUTION_STATE}, trace_parent FROM workflows_execution"
)


_NOTHING: Mapping[UUID, int] = {}


def _execution(row: Sequence[Any]) -> ExecutionRow:
    identity, revision, workflow, version, seq, priority, trace, parent, key = row[:9]
    status, total, opened, failed, points, percent, message, ready, deadline, cancel = row[9:19]
    started, finished, error, held, owes, trace_parent = row[19:]
    state = ExecutionState(
        status=STATUS[status],
        tasks_total=total,
        open_tasks=opened,
        failed_tasks=failed,
        points=points,
        percent=percent,
        message=message,
        ready_at=time_out(ready),
        deadline_at=time_out(deadline),
        cancel_requested_at=time_out(cancel),
        started_at=time_out(started),
        finished_at=time_out(finished),
        error=json_out(error),
        held=bool(held),
        owes_parent=bool(owes),
    )
    return ExecutionRow(
        uuid_out(identity),
        uuid_out(workflow),
        uuid_out(version),
        seq,
        revision,
        priority,
        trace,
        state,
        uuid_out(parent) if parent else None,
        key,
        was=state,
        trace_parent=trace_parent,
    )


def lock_executions(
    cursor: Cursor, ids: Iterable[UUID], known: Mapping[UUID, int] = _NOTHING
) -> tuple[list[ExecutionRow], list[UUID]]:
    """The executions, locked in the order of their ids: everybody's order, so two transactions never wait in a ring.

    Those whose revision is the one in `known` are given by their ids only.
    """
    wanted = sorted(ids)
    if not wanted:
        return [], []
    where, values = _among(wanted)
    cursor.execute(f"{_EXECUTION} WHERE id {where} ORDER BY id{'' if is_sqlite() else ' FOR UPDATE'}", values)
    rows, unchanged = [], []
    for row in cursor.fetchall():
        identity = uuid_out(row[0])
        if known.get(identity) == row[1]:
            unchanged.append(identity)
        else:
            rows.append(_execution(row))
    return rows, unchanged


def _among(ids: Iterable[UUID]) -> tuple[str, list[Any]]:
    """That something is one of these; on PostgreSQL one statement for any number of them."""
    values = [uuid_in(identity) for identity in ids]
    return (f"IN ({marks(len(values))})", values) if is_sqlite() else ("= ANY(%s)", [values])


# The workflows with an execution in line, each found by one probe of the index, with what its first one is.
_WAITING = """
WITH RECURSIVE waiting(workflow_id) AS (
    SELECT (SELECT workflow_id FROM workflows_execution WHERE ready_at IS NOT NULL ORDER BY workflow_id LIMIT 1)
    UNION ALL
    SELECT (SELECT e.workflow_id FROM workflows_execution e WHERE e.ready_at IS NOT NULL
            AND e.workflow_id > waiting.workflow_id ORDER BY e.workflow_id LIMIT 1)
    FROM waiting WHERE waiting.workflow_id IS NOT NULL
)
SELECT workflow_id FROM waiting WHERE workflow_id IS NOT NULL LIMIT %s
"""
_FIRST = (
    "SELECT priority, ready_at, rank FROM workflows_execution WHERE workflow_id = %s AND ready_at <= %s"
    " ORDER BY rank LIMIT 1"
)
_IN_FLIGHT = (
    "SELECT e.workflow_id, count(*) FROM workflows_task t JOIN workflows_execution e ON e.id = t.execution_id"
    " WHERE t.lease_expires_at IS NOT NULL GROUP BY e.workflow_id"
)


def something_waits(cursor: Cursor, *, now: datetime) -> bool:
    """Whether an execution stands in line whose next task may start now. Asked without a lock or a transaction."""
    cursor.execute("SELECT 1 FROM workflows_execution WHERE ready_at <= %s LIMIT 1", [time_in(now)])
    return cursor.fetchone() is not None


def next_moments(cursor: Cursor) -> tuple[datetime | None, datetime | None]:
    """When the next task may be claimed by anybody, and when the next timer or limit on time comes."""
    cursor.execute(
        "SELECT (SELECT min(ready_at) FROM workflows_execution WHERE ready_at IS NOT NULL),"
        " (SELECT min(due_at) FROM workflows_task WHERE due_at IS NOT NULL)"
    )
    ready, due = cursor.fetchone()
    return time_out(ready), time_out(due)


MAX_WAITING = 256  # workflows among which one claim chooses


@dataclass(frozen=True, slots=True)
class Waiting:
    """A workflow with an execution in line: its first one, and how many of its tasks are under a lease."""

    workflow: UUID
    priority: int = 0
    ready_at: datetime | None = None
    rank: datetime | None = None
    in_flight: int = 0


def waiting_workflows(cursor: Cursor, *, now: datetime) -> list[Waiting]:
    """The workflows with an execution in line. Where it is one alone, nothing more is asked about it."""
    cursor.execute(_WAITING, [MAX_WAITING])
    ids = [row[0] for row in cursor.fetchall()]
    if len(ids) < 2:
        return [Waiting(workflow=uuid_out(identity)) for identity in ids]
    cursor.execute(_IN_FLIGHT)
    in_flight = {uuid_out(workflow): count for workflow, count in cursor.fetchall()}
    found = []
    for identity in ids:
        cursor.execute(_FIRST, [identity, time_in(now)])
        if first := cursor.fetchone():
            workflow = uuid_out(identity)
            ready, rank = time_out(first[1]), time_out(first[2])
            found.append(Waiting(workflow, first[0], ready, rank, in_flight.get(workflow, 0)))
    return found


def _lane_condition(lanes: Lanes | None, now: datetime) -> tuple[str, list[Any]]:
    """Which ready tasks a performer may take: a condition on `workflows_task`, and its values."""
    if lanes is None:
        return "ready_at <= %s", [time_in(now)]
    where, values = [], []
    for keys, moment in ((lanes.first, now), (lanes.later, now - lanes.patience)):
        if keys:
            where.append(f"(ready_at <= %s AND lane IN ({marks(len(keys))}))")
            values += [time_in(moment), *keys]
    return f"({' OR '.join(where) or 'FALSE'})", values


def lock_line(cursor: Cursor, workflow: UUID, *, now: datetime, limit: int, lanes: Lanes | None) -> list[ExecutionRow]:
    """The first executions of a workflow's line with a task to claim, locked; those others hold are passed over."""
    where, values = "workflow_id = %s AND ready_at <= %s", [uuid_in(workflow), time_in(now)]
    if lanes is not None:
        ready, more = _lane_condition(lanes, now)
        where += f" AND EXISTS (SELECT 1 FROM workflows_task WHERE execution_id = workflows_execution.id AND {ready})"
        values += more
    lock = "" if is_sqlite() else " FOR UPDATE SKIP LOCKED"
    cursor.execute(f"{_EXECUTION} WHERE {where} ORDER BY rank, id LIMIT %s{lock}", [*values, limit])
    return [_execution(row) for row in cursor.fetchall()]


STATUS = {status.value: status for status in Status}
SELECT_TASK = f"SELECT id, execution_id, {_TASK_STATE} FROM workflows_task"


def task_row(row: Sequence[Any]) -> TaskRow:
    """A row of `SELECT_TASK`."""
    identity, execution, step, status, queue, lane, waiting, met, fence, failures, losses, ready = row[:12]
    waiting_for, due, ends, items, next_item, owner, expires, percent, message, started, finished, error = row[12:]
    key = uuid_out(identity)
    return TaskRow(
        key,
        uuid_out(execution),
        TaskState(
            ordinal=ordinal_of(key),
            step_id=step,
            status=STATUS[status],
            queue=queue,
            lane=lane,
            waiting_on=waiting,
            met=met,
            fence=fence,
            failures=failures,
            losses=losses,
            ready_at=time_out(ready),
            waiting_for=waiting_for,
            due_at=time_out(due),
            expires_at=time_out(ends),
            items=items,
            next_item=next_item,
            lease_owner=owner,
            lease_expires_at=time_out(expires),
            percent=percent,
            message=message,
            started_at=time_out(started),
            finished_at=time_out(finished),
            error=json_out(error),
        ),
    )


def _tasks(cursor: Cursor, where: str, values: Sequence[Any]) -> list[TaskRow]:
    cursor.execute(f"{SELECT_TASK} WHERE {where}", values)
    return [task_row(row) for row in cursor.fetchall()]


def tasks(cursor: Cursor, ids: Iterable[UUID]) -> list[TaskRow]:
    """Tasks by id."""
    wanted = list(ids)
    if not wanted:
        return []
    where, values = _among(wanted)
    return _tasks(cursor, f"id {where}", values)


def tasks_of_steps(cursor: Cursor, execution: UUID, steps: Iterable[str]) -> list[TaskRow]:
    """Tasks of an execution by step: a tracker's steps have no ordinal before they are told of."""
    wanted = list(steps)
    where = f"execution_id = %s AND step_id IN ({marks(len(wanted))})"
    return _tasks(cursor, where, [uuid_in(execution), *wanted]) if wanted else []


def open_tasks(cursor: Cursor, execution: UUID) -> list[TaskRow]:
    """The tasks of an execution that have not ended."""
    where = "execution_id = %s AND status IN ('pending', 'waiting', 'in_progress') ORDER BY id"
    return _tasks(cursor, where, [uuid_in(execution)])


def ready_tasks(cursor: Cursor, shares: Mapping[UUID, int], *, now: datetime, lanes: Lanes | None) -> list[TaskRow]:
    """Of each of these executions at most so many tasks that may be claimed now, in the order of their definition."""
    where, values = _lane_condition(lanes, now)
    one = f"{SELECT_TASK} WHERE execution_id = %s AND {where} ORDER BY ready_at, id LIMIT %s"
    cursor.execute(
        " UNION ALL ".join([f"SELECT * FROM ({one}) AS e{number}" for number in range(len(shares))]),
        [value for identity, share in shares.items() for value in (uuid_in(identity), *values, share)],
    )
    return [task_row(row) for row in cursor.fetchall()]


def next_ready(cursor: Cursor, execution: UUID, beside: Iterable[UUID]) -> datetime | None:
    """The earliest moment at which a task of an execution may be claimed, those `beside` left out."""
    left_out = [uuid_in(identity) for identity in beside]
    where, values = ("NOT IN (" + marks(len(left_out)) + ")", left_out) if is_sqlite() else ("<> ALL(%s)", [left_out])
    cursor.execute(
        f"SELECT ready_at FROM workflows_task WHERE execution_id = %s AND ready_at IS NOT NULL AND id {where}"
        " ORDER BY ready_at LIMIT 1",
        [uuid_in(execution), *values],
    )
    row = cursor.fetchone()
    return time_out(row[0]) if row else None


def _json_of(cursor: Cursor, column: str, ids: Iterable[UUID]) -> dict[UUID, Any]:
    wanted = list(ids)
    if not wanted:
        return {}
    where, values = _among(wanted)
    cursor.execute(f"SELECT id, {column} FROM workflows_task WHERE id {where}", values)
    return {uuid_out(identity): json_out(value) for identity, value in cursor.fetchall() if value is not None}


def outputs(cursor: Cursor, ids: Iterable[UUID]) -> dict[UUID, Any]:
    """What tasks left behind, by task id, those that left anything."""
    return _json_of(cursor, "outputs", ids)


def items(cursor: Cursor, ids: Iterable[UUID]) -> dict[UUID, Any]:
    """What tasks of items are about, or the lists of opened steps, by task id."""
    return _json_of(cursor, "item", ids)


def signals(cursor: Cursor, execution: UUID) -> dict[str, Any]:
    """The signals that have come to an execution, with their payloads."""
    cursor.execute("SELECT signals FROM workflows_execution WHERE id = %s", [uuid_in(execution)])
    row = cursor.fetchone()
    return json_out(row[0]) if row else {}


def inputs(cursor: Cursor, execution: UUID) -> dict[str, Any]:
    """The inputs of an execution."""
    cursor.execute("SELECT inputs FROM workflows_execution WHERE id = %s", [uuid_in(execution)])
    row = cursor.fetchone()
    return json_out(row[0]) if row else {}
