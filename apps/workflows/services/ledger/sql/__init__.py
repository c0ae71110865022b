"""Set-based statements for executions, tasks and events, in the two dialects. Nothing here decides anything.

The ORM is right everywhere else; here a step has a fraction of a millisecond.
"""

from apps.workflows.services.ledger.sql.dialect import (
    Cursor,
    is_deadlock,
    is_sqlite,
    json_in,
    json_out,
    statements,
    time_in,
    time_out,
    uuid_in,
    uuid_out,
)
from apps.workflows.services.ledger.sql.read import (
    Lanes,
    Waiting,
    inputs,
    items,
    lock_executions,
    lock_line,
    next_moments,
    next_ready,
    open_tasks,
    outputs,
    ready_tasks,
    signals,
    something_waits,
    tasks,
    tasks_of_steps,
    waiting_workflows,
)
from apps.workflows.services.ledger.sql.rows import Batch, Birth, Change, ExecutionRow, FencedError, TaskRow
from apps.workflows.services.ledger.sql.write import execution_columns, write

__all__ = [
    "Batch",
    "Birth",
    "Change",
    "Cursor",
    "ExecutionRow",
    "FencedError",
    "Lanes",
    "TaskRow",
    "Waiting",
    "execution_columns",
    "inputs",
    "is_deadlock",
    "is_sqlite",
    "items",
    "json_in",
    "json_out",
    "lock_executions",
    "lock_line",
    "next_moments",
    "next_ready",
    "open_tasks",
    "outputs",
    "ready_tasks",
    "signals",
    "something_waits",
    "statements",
    "tasks",
    "tasks_of_steps",
    "time_in",
    "time_out",
    "uuid_in",
    "uuid_out",
    "waiting_workflows",
    "write",
]
