"""Set-based statements for executions, tasks and events, in the two dialects. Nothing here decides anything.

The ORM is right everywhere else; here a step has a fraction of a millisecond.
"""

from apps.workflows.services.ledger.sql.dialect import (
    Cursor,
    ExecutionRow,
    TaskRow,
    is_sqlite,
    json_in,
    json_out,
    pipelined,
    time_in,
    time_out,
    uuid_in,
    uuid_out,
)
from apps.workflows.services.ledger.sql.read import (
    lock_and_look_at_the_clock,
    lock_executions,
    lock_line,
    next_ready,
    open_tasks,
    outputs,
    ready_tasks,
    tasks,
    tasks_of_steps,
)
from apps.workflows.services.ledger.sql.write import (
    FencedError,
    Written,
    check_written,
    insert_events,
    insert_logs,
    insert_tasks,
    write_executions,
    write_tasks,
)

__all__ = [
    "Cursor",
    "ExecutionRow",
    "FencedError",
    "TaskRow",
    "Written",
    "check_written",
    "insert_events",
    "insert_logs",
    "insert_tasks",
    "is_sqlite",
    "json_in",
    "json_out",
    "lock_and_look_at_the_clock",
    "lock_executions",
    "lock_line",
    "next_ready",
    "open_tasks",
    "outputs",
    "pipelined",
    "ready_tasks",
    "tasks",
    "tasks_of_steps",
    "time_in",
    "time_out",
    "uuid_in",
    "uuid_out",
    "write_executions",
    "write_tasks",
]
