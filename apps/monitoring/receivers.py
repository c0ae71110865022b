"""What monitoring does at news of other apps: it writes spans and counts refusals, and never changes anything."""

from collections.abc import Mapping, Sequence
from typing import Any

from apps.core.metrics import Tally
from apps.monitoring.tracing import emit_execution_span
from apps.workflows.signals import Closed

_REASONS: Mapping[str, str] = {
    "not_authenticated": "missing",
    "authentication_failed": "token",
    "invalid_token": "token",
    "invalid_session": "token",
    "invalid_ticket": "token",
    "invalid_signature": "signature",
    "permission_denied": "permission",
    "rate_limited": "rate",
}
auth_failures = Tally(("password",), *((reason,) for reason in dict.fromkeys(_REASONS.values())))


def on_refused(sender: Any, error: Exception, **_: Any) -> None:  # noqa: ARG001
    """Count requests that were refused for want of a credential or a right; wrong passwords come by another signal."""
    reason = _REASONS.get(str(getattr(error, "code", None) or getattr(error, "default_code", "")))
    if reason is not None:
        auth_failures.add(reason)


def on_login_failed(sender: Any, **_: Any) -> None:  # noqa: ARG001
    """Count a wrong name or password, wherever it was tried."""
    auth_failures.add("password")


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
            parent_execution_id=str(execution.parent_execution_id or ""),
            parent_span_id=execution.trace_parent,
        )
