"""Holds estimates that were served against how their executions ended, and counts how they did."""

import math
from collections.abc import Iterable, Sequence
from uuid import UUID

from django.db import connection, transaction

from apps.workflows.engine.states import TERMINAL, Status
from apps.workflows.models import Prediction
from apps.workflows.selectors.estimates.outcomes import COVERED, MISSED, SUM, bucket_of

AT_ONCE = 200  # executions in one transaction
KEPT = 200  # predictions of a workflow whose outcome is known


def settle() -> int:
    """Record what came of the predictions whose executions have ended; gives how many that were.

    An execution that did not complete tells nothing of them: they foretold when it would be done. Any number of
    processes may call it at once, each prediction is counted once.
    """
    ended = sorted(status.value for status in TERMINAL)
    count = 0
    while True:
        due = Prediction.objects.filter(left__isnull=True, execution__status__in=ended)
        executions = list(due.order_by().values_list("execution", flat=True).distinct()[:AT_ONCE])
        if not executions:
            return count
        count += _settle(executions)


def _settle(executions: Sequence[UUID]) -> int:
    with transaction.atomic():
        open_ones = Prediction.objects.filter(execution__in=executions, left__isnull=True)
        rows = list(open_ones.select_for_update(of=("self",)).select_related("execution").order_by("execution", "part"))
        mine = []
        for row in rows:
            if row.execution.status == Status.COMPLETED and row.execution.finished_at:
                row.left = max(0.0, (row.execution.finished_at - row.at).total_seconds())
                mine.append(row)
        for row in mine:
            Prediction.objects.filter(execution=row.execution_id, part=row.part).update(left=row.left)
        gone = {row.execution_id for row in rows} - {row.execution_id for row in mine}
        Prediction.objects.filter(execution__in=gone, left__isnull=True).delete()
        _count(mine)
        for workflow in {row.workflow_id for row in mine}:
            _drop_old(workflow)
    return len(rows)


def _count(rows: Iterable[Prediction]) -> None:
    sums: dict[str, float] = {}
    for row in rows:
        left = row.left or 0.0
        error = abs(row.p50 - left) / max(left, 1e-3)
        covered = row.p10 <= left <= row.p90
        for name, value in ((bucket_of(error), 1.0), (SUM, min(error, 1e6)), (COVERED if covered else MISSED, 1.0)):
            sums[name] = sums.get(name, 0.0) + value
    with connection.cursor() as cursor:
        # Sorted: two who count at the same time wait for one another and not in a circle.
        cursor.executemany(
            "INSERT INTO workflows_predictiontotal (name, value) VALUES (%s, %s) ON CONFLICT (name)"
            " DO UPDATE SET value = workflows_predictiontotal.value + excluded.value",
            sorted((name, value) for name, value in sums.items() if math.isfinite(value)),
        )


def _drop_old(workflow: UUID) -> None:
    known = Prediction.objects.filter(workflow=workflow, left__isnull=False)
    last = known.order_by("-at").values_list("at", flat=True)[KEPT - 1 : KEPT].first()
    if last is not None:
        known.filter(at__lt=last).delete()
