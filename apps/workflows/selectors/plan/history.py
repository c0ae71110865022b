"""How long steps took: the medians of a workflow's last executions."""

import statistics
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from functools import reduce
from operator import or_
from uuid import UUID

from django.db.models import Q

from apps.workflows.definition.schema import STEPS
from apps.workflows.engine.ids import execution_of, task_id
from apps.workflows.engine.states import Status
from apps.workflows.models import Execution, Task, Workflow

EXECUTIONS = 20
ROWS = 30_000  # a workflow of many steps is judged by fewer executions


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """By step the median seconds of its last successful attempts; `executions` is how many told of any."""

    seconds: Mapping[str, float]
    executions: int


def history_of(workflow: Workflow, *, steps: int) -> History:
    """What the newest executions of `workflow`, which has about so many steps, tell. One or two queries."""
    wanted = max(1, min(EXECUTIONS, ROWS // max(1, steps)))
    newest = list(Execution.objects.filter(workflow=workflow).order_by("-id").values_list("pk", flat=True)[:wanted])
    if not newest:
        return History(seconds={}, executions=0)
    # The tasks of whole steps lie side by side in the primary key, those of single items behind them.
    ranges = (Q(pk__range=(task_id(execution, 1), task_id(execution, STEPS))) for execution in newest)
    rows = Task.objects.filter(
        reduce(or_, ranges), status=Status.COMPLETED, started_at__isnull=False, finished_at__isnull=False
    )
    seen: set[UUID] = set()
    lasted: dict[str, list[float]] = defaultdict(list)
    for key, step_id, started, finished in rows.values_list("pk", "step_id", "started_at", "finished_at")[:ROWS]:
        if started is not None and finished is not None:
            seen.add(execution_of(key))
            lasted[step_id].append(max(0.0, (finished - started).total_seconds()))
    seconds = {step_id: round(statistics.median(each), 3) for step_id, each in lasted.items()}
    return History(seconds=seconds, executions=len(seen))
