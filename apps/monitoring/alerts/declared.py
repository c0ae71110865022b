"""What an alert is made of, and the expressions and series that several of them share."""

from dataclasses import dataclass
from typing import Literal

from apps.monitoring.alerts.trials import Trial

Severity = Literal["critical", "warning", "info", "none"]
JOB = "ai-orchestration-platform"
SEVERITIES: tuple[Severity, ...] = ("critical", "warning", "info", "none")


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """One alert. `wait` is its `for`, in seconds; `causes` and `steps` are what its page tells."""

    name: str
    group: str
    severity: Severity
    expr: str
    wait: int = 0
    summary: str
    description: str
    causes: tuple[str, ...]
    steps: tuple[str, ...]
    trial: Trial


def bad(window: str) -> str:
    """Executions that failed within `window`."""
    return (
        "sum(max by (workflow_id, status)"
        f' (increase(dagger_workflow_executions_total{{status=~"failed|timed_out"}}[{window}])))'
    )


def ended(window: str) -> str:
    """Executions that ended within `window`, cancelled ones left out."""
    return (
        "sum(max by (workflow_id, status)"
        f' (increase(dagger_workflow_executions_total{{status!="cancelled"}}[{window}])))'
    )


def errors_above(share: float, long: str, short: str) -> str:
    """More than `share` of at least ten executions failed, in both windows."""
    return (
        f"({bad(long)} / {ended(long)} > {share}\nand {bad(short)} / {ended(short)} > {share}\nand {ended(long)} >= 10)"
    )


def started(window: str, le: str = "") -> str:
    """Steps that started within `window`; with `le` those that had waited 30 s at most."""
    name = "dagger_step_queue_duration_seconds_" + ('bucket{le=~"30|30.0"}' if le else "count")
    return f"sum(max by (queue) (increase({name}[{window}])))"


def late_above(share: float, long: str, short: str) -> str:
    """More than `share` of at least ten steps started late, in both windows."""
    late = {window: f"1 - {started(window, 'le')} / {started(window)}" for window in (long, short)}
    return f"({late[long]} > {share}\nand {late[short]} > {share}\nand {started(long)} >= 10)"


def executions(*, failed: tuple[str, str, str], completed: tuple[str, str, str]) -> dict[str, tuple[str, str, str]]:
    """Series of executions."""
    name = "dagger_workflow_executions_total"
    return {
        f'{name}{{workflow_id="report", status="failed"}}': failed,
        f'{name}{{workflow_id="report", status="completed"}}': completed,
    }


def starts(*, within: tuple[str, str, str], all_of_them: tuple[str, str, str]) -> dict[str, tuple[str, str, str]]:
    """Series of starts: those within 30 s, and all of them."""
    name = "dagger_step_queue_duration_seconds"
    return {
        f'{name}_bucket{{queue="default", le="30.0"}}': within,
        f'{name}_count{{queue="default"}}': all_of_them,
    }


LOOK_AT_FAILURES = (
    "Open `/ui/` and the newest failed executions: the step that failed first says why.",
    "Compare `dagger_errors_total` by `error_type`: `lost` and `unavailable` point at the platform, the others mostly "
    "at the steps or at what they call.",
    "If a new version of a workflow began it, update the workflow to the version before.",
)
LOOK_AT_WORKERS = (
    "See `dagger_workers` and `GET /queues`: which queues have a backlog, and which workers serve them.",
    "Start more workers (`manage.py worker`) or give them more slots (`SLOTS`); a paused queue is resumed with "
    "`POST /queues/{name}/resume`.",
    "For a single task, `GET /tasks/{id}/why` names what it waits for.",
)
