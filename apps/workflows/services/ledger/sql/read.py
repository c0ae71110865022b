"""What a transaction reads: executions under their locks, and their tasks."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from apps.core.clock import database_now
from apps.workflows.engine.ids import ordinal_of
from apps.workflows.engine.states import Status
from apps.workflows.engine.types import ExecutionState, TaskState
from apps.workflows.services.ledger.sql.dialect import (
    Cursor,
    ExecutionRow,
    TaskRow,
    is_sqlite,
    json_out,
    marks,
    new_cursor,
    time_in,
    time_out,
    uuid_in,
    uuid_out,
)

_EXECUTION_STATE = (
    "status, tasks_total, open_tasks, failed_tasks, points, percent, message, ready_at, deadline_at, "
    "cancel_requested_at, started_at, finished_at, error, held, owes_parent"
)
_TASK_STATE = (
    "step_id, status, queue, lane, waiting_on, met, fence, failures, losses, ready_at, waiting_for, due_at, expires_at, "
    "items, next_item, lease_owner, lease_expires_at, percent, message, started_at, finished_at, error"
)


_EXECUTION = (
    "SELECT id, workflow_id, version_id, seq, priority, inputs, trace_id, parent_task_id, concurrency_key,"
    f" {_EXECUTION_STATE} FROM workflows_execution"
)


def _execution(row: Sequence[Any]) -> ExecutionRow:
    identity, workflow, version, seq, priority, inputs, trace, parent, key = row[:9]
    status, total, opened, failed, points, percent, message, ready, deadline, cancel = row[9:19]
    started, finished, error, held, owes = row[19:]
    return ExecutionRow(
        id=uuid_out(identity),
        workflow_id=uuid_out(workflow),
        version_id=uuid_out(version),
        seq=seq,
        priority=priority,
        inputs=inputs,
        trace_id=trace,
        parent_task=uuid_out(parent) if parent else None,
        concurrency_key=key,
        state=ExecutionState(
            status=Status(status),
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
        ),
    )


def lock_executions(cursor: Cursor, ids: Iterable[UUID]) -> list[ExecutionRow]:
    """The executions, locked in the order of their ids: everybody's order, so two transactions never wait in a ring."""
    wanted = sorted(ids)
    if not wanted:
        return []
    _send_lock(cursor, wanted)
    return [_execution(row) for row in cursor.fetchall()]


def _send_lock(cursor: Cursor, wanted: Sequence[UUID]) -> None:
    lock = "" if is_sqlite() else " FOR UPDATE"
    cursor.execute(
        f"{_EXECUTION} WHERE id IN ({marks(len(wanted))}) ORDER BY id{lock}",
        [uuid_in(identity) for identity in wanted],
    )


def lock_line(cursor: Cursor, *, now: datetime, limit: int, queues: Sequence[str] | None) -> list[ExecutionRow]:
    """The first executions of the line with a task to claim, locked; those that others hold are passed over."""
    where, values = "ready_at <= %s", [time_in(now)]
    if queues is not None:
        where += (
            " AND EXISTS (SELECT 1 FROM workflows_task t WHERE t.execution_id = workflows_execution.id"
            f" AND t.ready_at <= %s AND t.queue IN ({marks(len(queues))}))"
        )
        values += [time_in(now), *queues]
    lock = "" if is_sqlite() else " FOR UPDATE SKIP LOCKED"
    cursor.execute(
        f"{_EXECUTION} WHERE {where} ORDER BY priority DESC, ready_at, id LIMIT %s{lock}",
        [*values, limit],
    )
    return [_execution(row) for row in cursor.fetchall()]


_TASK = f"SELECT id, execution_id, {_TASK_STATE} FROM workflows_task"


def _task(row: Sequence[Any]) -> TaskRow:
    identity, execution, step, status, queue, lane, waiting, met, fence, failures, losses, ready = row[:12]
    waiting_for, due, ends, items, next_item, owner, expires, percent, message, started, finished, error = row[12:]
    key = uuid_out(identity)
    return TaskRow(
        id=key,
        execution_id=uuid_out(execution),
        state=TaskState(
            ordinal=ordinal_of(key),
            step_id=step,
            status=Status(status),
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
    cursor.execute(f"{_TASK} WHERE {where}", values)
    return [_task(row) for row in cursor.fetchall()]


def tasks(cursor: Cursor, ids: Iterable[UUID]) -> list[TaskRow]:
    """Tasks by id."""
    wanted = [uuid_in(identity) for identity in ids]
    return _tasks(cursor, f"id IN ({marks(len(wanted))})", wanted) if wanted else []


def tasks_of_steps(cursor: Cursor, execution: UUID, steps: Iterable[str]) -> list[TaskRow]:
    """Tasks of an execution by step: a tracker's steps have no ordinal before they are told of."""
    wanted = list(steps)
    where = f"execution_id = %s AND step_id IN ({marks(len(wanted))})"
    return _tasks(cursor, where, [uuid_in(execution), *wanted]) if wanted else []


def open_tasks(cursor: Cursor, execution: UUID) -> list[TaskRow]:
    """The tasks of an execution that have not ended."""
    return _tasks(cursor, "execution_id = %s AND status IN ('pending', 'waiting', 'in_progress')", [uuid_in(execution)])


def ready_tasks(
    cursor: Cursor, executions: Sequence[UUID], *, now: datetime, share: int, queues: Sequence[str] | None
) -> list[TaskRow]:
    """At most `share` tasks of each of these executions that may be claimed now, in the order of their definition."""
    among = "" if queues is None else f" AND queue IN ({marks(len(queues))})"
    one = f"{_TASK} WHERE execution_id = %s AND ready_at <= %s{among} ORDER BY ready_at, id LIMIT %s"
    cursor.execute(
        " UNION ALL ".join([f"SELECT * FROM ({one}) AS e{number}" for number in range(len(executions))]),
        [value for identity in executions for value in (uuid_in(identity), time_in(now), *(queues or ()), share)],
    )
    return [_task(row) for row in cursor.fetchall()]


def next_ready(cursor: Cursor, executions: Iterable[UUID]) -> dict[UUID, datetime]:
    """For each execution with a task to claim now or later, the earliest such moment."""
    ids = [uuid_in(identity) for identity in executions]
    cursor.execute(
        f"SELECT execution_id, min(ready_at) FROM workflows_task WHERE execution_id IN ({marks(len(ids))})"
        " AND ready_at IS NOT NULL GROUP BY execution_id",
        ids,
    )
    return {uuid_out(execution): moment for execution, value in cursor.fetchall() if (moment := time_out(value))}


def outputs(cursor: Cursor, ids: Iterable[UUID]) -> dict[UUID, dict[str, Any]]:
    """What tasks left behind, by task id; nothing yet is an empty object."""
    wanted = [uuid_in(identity) for identity in ids]
    if not wanted:
        return {}
    cursor.execute(f"SELECT id, outputs FROM workflows_task WHERE id IN ({marks(len(wanted))})", wanted)
    return {uuid_out(identity): json_out(value) or {} for identity, value in cursor.fetchall()}


def lock_and_look_at_the_clock(cursor: Cursor, ids: Iterable[UUID]) -> tuple[list[ExecutionRow], datetime]:
    """`lock_executions`, and the database's time once they are locked; one round trip in a pipeline."""
    if is_sqlite():
        return lock_executions(cursor, ids), database_now()
    wanted = sorted(ids)
    if wanted:
        _send_lock(cursor, wanted)
    clock = new_cursor()
    clock.execute("SELECT clock_timestamp()")
    (moment,) = clock.fetchone()
    return [_execution(row) for row in cursor.fetchall()] if wanted else [], moment.astimezone(UTC)
