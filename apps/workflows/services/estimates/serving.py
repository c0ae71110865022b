"""Serves an estimate and keeps it, to be held against what really came: the first of each tenth of an execution."""

import logging
from typing import Any

from django.db import Error

from apps.workflows.models import Execution, Prediction
from apps.workflows.selectors.estimates import Answer, answer

logger = logging.getLogger(__name__)

PARTS = 10


def serve(user: Any, execution: Execution) -> dict[str, Any]:
    """The answer of `/progress/{id}/estimate`. Raises `NotFound` where the execution was deleted meanwhile."""
    told = answer(user, execution)
    try:
        _keep(told)
    except Error as error:
        # The answer is as good without it: nobody is refused an estimate because it could not be kept.
        logger.warning("an estimate was served and not kept: %s", type(error).__name__)
    return told.body


def _keep(told: Answer) -> None:
    found, row = told.estimate, told.execution
    if found is None or row.started_at is None:
        return
    passed = max(0.0, (told.at - row.started_at).total_seconds())
    part = min(PARTS - 1, int(PARTS * passed / max(1e-9, passed + found.p50)))
    if Prediction.objects.filter(execution=row, part=part).exists():
        return
    one = Prediction(
        execution=row, workflow_id=row.workflow_id, part=part, at=told.at, p10=found.p10, p50=found.p50,
        p90=found.p90, method=found.method,
    )  # fmt: skip
    Prediction.objects.bulk_create([one], ignore_conflicts=True)
