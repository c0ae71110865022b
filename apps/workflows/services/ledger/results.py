"""Results that are used again: found when a task becomes ready, kept when one ends well."""

from datetime import datetime
from typing import Any
from uuid import UUID

from apps.workflows.models import CachedResult
from apps.workflows.services.ledger import sql


def find(workflow: UUID, digest: str, *, now: datetime) -> tuple[Any, str] | None:
    """The outputs kept under `digest`, and which execution left them; None where there are none any more."""
    row = CachedResult.objects.filter(workflow_id=workflow, digest=digest, expires_at__gt=now).first()
    return None if row is None else (row.outputs, str(row.execution_id))


def keep(row: sql.ExecutionRow, digest: str, outputs: Any, *, until: datetime) -> None:
    """Keep outputs under `digest`; what was there is replaced."""
    CachedResult.objects.update_or_create(
        workflow_id=row.workflow_id,
        digest=digest,
        defaults={"execution_id": row.id, "outputs": outputs, "expires_at": until},
    )
