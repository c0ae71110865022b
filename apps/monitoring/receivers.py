"""What monitoring does at news of the workflows' app: it writes spans, and never changes anything."""

from collections.abc import Sequence
from typing import Any

from apps.monitoring.tracing import emit_execution_span
from apps.workflows.signals import Closed


def on_committed(sender: Any, closed: Sequence[Closed], **_: Any) -> None:  # noqa: ARG001
    """The span of every execution that has just ended, dated back to its beginning."""
    for execution in closed:
        emit_execution_span(
            trace_id=execution.trace_id,
            name=execution.workflow_slug,
            started_at=execution.started_at,
            finished_at=execution.finished_at,
            status=execution.status,
            execution_id=str(execution.execution_id),
        )
