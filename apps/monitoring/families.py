"""Every metric of the platform's own, with its type, labels and meaning: the table that all else is derived from."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class Declared:
    """A family before it has samples. `name` is as exposed, a counter's with its `_total`."""

    name: str
    type: Literal["counter", "gauge", "histogram"]
    help: str
    labels: tuple[str, ...] = ()

    @property
    def family(self) -> str:
        """Its name without the suffix of a counter's samples, as OpenMetrics has it."""
        return self.name.removesuffix("_total") if self.type == "counter" else self.name

    @property
    def samples(self) -> tuple[str, ...]:
        """The names that its samples bear."""
        return (
            tuple(f"{self.name}{end}" for end in ("_bucket", "_count", "_sum"))
            if self.type == "histogram"
            else (self.name,)
        )


_WORKFLOW, _STEP, _BREAKER = ("workflow_id",), ("workflow_id", "step_id"), ("circuit_breaker",)

FROM_THE_DATABASE: tuple[Declared, ...] = (
    Declared(
        name="dagger_workflow_executions_total",
        type="counter",
        help="Executions that have ended, by workflow and final status.",
        labels=(*_WORKFLOW, "status"),
    ),
    Declared(
        name="dagger_workflow_execution_duration_seconds",
        type="histogram",
        help="Time from the first step's start to the end, of executions that have begun and ended.",
        labels=_WORKFLOW,
    ),
    Declared(
        name="dagger_step_executions_total",
        type="counter",
        help="Steps of executions that have ended, by final status; a step is counted once, however often tried.",
        labels=(*_STEP, "status"),
    ),
    Declared(
        name="dagger_step_execution_duration_seconds",
        type="histogram",
        help="Time the last attempt of a step took, of steps that were attempted and have ended.",
        labels=_STEP,
    ),
    Declared(
        name="dagger_step_retries_total",
        type="counter",
        help="Further attempts of steps, after a failure or the loss of their performer.",
        labels=_STEP,
    ),
    Declared(
        name="dagger_step_queue_duration_seconds",
        type="histogram",
        help="How long steps could have been started until they were, before their last attempt, by queue.",
        labels=("queue",),
    ),
    Declared(
        name="dagger_errors_total",
        type="counter",
        help="Steps that failed or timed out for good, and executions that did so for a reason of their own, by type.",
        labels=("error_type",),
    ),
    Declared(
        name="dagger_concurrent_workflows", type="gauge", help="Executions that have begun and not ended, trackers too."
    ),
    Declared(name="dagger_concurrent_steps", type="gauge", help="Steps that a worker or an agent holds now."),
    Declared(
        name="dagger_stalled_workflows",
        type="gauge",
        help="Executions in progress of which nothing was heard for ten minutes, though nobody works on them.",
    ),
    Declared(
        name="dagger_queue_depth", type="gauge", help="Steps that could be claimed now, by queue.", labels=("queue",)
    ),
    Declared(
        name="dagger_queue_oldest_task_age_seconds",
        type="gauge",
        help="How long the oldest claimable step of a queue has been claimable; 0 when there is none.",
        labels=("queue",),
    ),
    Declared(
        name="dagger_workers",
        type="gauge",
        help="Worker processes: live, draining, or lost (silent for a whole lease).",
        labels=("state",),
    ),
    Declared(
        name="dagger_circuit_breaker_state",
        type="gauge",
        help="1 for the state that a circuit breaker is in, 0 for the others.",
        labels=(*_BREAKER, "state"),
    ),
    Declared(
        name="dagger_circuit_breaker_failure_ratio",
        type="gauge",
        help="Share of the calls of its window that failed, 0 to 1.",
        labels=_BREAKER,
    ),
    Declared(
        name="dagger_circuit_breaker_calls_total",
        type="counter",
        help="Attempts of steps that name the breaker, by how they ended; refused: claims that it kept in line.",
        labels=(*_BREAKER, "result"),
    ),
    Declared(
        name="dagger_circuit_breaker_transitions_total",
        type="counter",
        help="Moves of a circuit breaker, by the state it came to.",
        labels=(*_BREAKER, "to_state"),
    ),
    Declared(
        name="dagger_eta_error_ratio",
        type="histogram",
        help="How far off served estimates were: |foretold - real| / real time left, of executions that completed.",
    ),
    Declared(
        name="dagger_eta_interval_total",
        type="counter",
        help="Served 80 % intervals whose execution has completed, by whether the real time left was within.",
        labels=("covered",),
    ),
    Declared(
        name="dagger_workers_lost_total",
        type="counter",
        help="Workers that died or fell silent for a whole lease without having drained.",
    ),
    Declared(
        name="dagger_agents",
        type="gauge",
        help="Registered agents: live, draining, or lost (silent for a whole lease).",
        labels=("state",),
    ),
    Declared(name="dagger_agent_slots", type="gauge", help="Slots of the agents that are heard of."),
    Declared(name="dagger_agent_slots_used", type="gauge", help="Slots of those agents in which a step is performed."),
    Declared(
        name="dagger_scheduler_last_tick_timestamp_seconds",
        type="gauge",
        help="Unix time at which a worker last looked for due schedules, told every ten seconds; absent before.",
    ),
    Declared(
        name="dagger_schedules_missed_total",
        type="counter",
        help="Times at which a schedule was due and nobody was there, so that its workflow was not started for them.",
    ),
    Declared(
        name="dagger_metrics_label_overflow_total",
        type="counter",
        help="Executions and steps counted under the label `other` because there was no room for one of their own.",
    ),
    Declared(
        name="dagger_metrics_last_collect_timestamp_seconds",
        type="gauge",
        help="Unix time at which the database was last read for these metrics.",
    ),
)

OF_THE_PROCESS: tuple[Declared, ...] = (
    Declared(
        name="dagger_build_info",
        type="gauge",
        help="Always 1; the versions are the labels.",
        labels=("version", "python_version", "django_version"),
    ),
    Declared(name="dagger_memory_usage_bytes", type="gauge", help="Memory of this host that is in use."),
    Declared(name="dagger_memory_limit_bytes", type="gauge", help="Memory of this host."),
    Declared(
        name="dagger_cpu_usage_percent",
        type="gauge",
        help="Share of this host's CPU time in use, 0 to 100, over the last seconds.",
    ),
    Declared(
        name="dagger_disk_usage_bytes",
        type="gauge",
        help="Space in use on the file system that holds the data directory.",
        labels=("mount",),
    ),
    Declared(
        name="dagger_disk_size_bytes",
        type="gauge",
        help="Size of the file system that holds the data directory.",
        labels=("mount",),
    ),
    Declared(
        name="dagger_trace_exporter_up",
        type="gauge",
        help="Whether the trace collector took the last batch of this server process; absent before the first.",
    ),
    Declared(
        name="dagger_trace_spans_dropped_total",
        type="counter",
        help="Spans of this server process that the trace collector did not take.",
    ),
)

OFFERED: tuple[Declared, ...] = (
    Declared(
        name="dagger_progress_subscribers",
        type="gauge",
        help="Sockets and streams that this server process feeds with progress.",
    ),
    Declared(
        name="dagger_progress_messages_dropped_total",
        type="counter",
        help="Frames this server process did not deliver, because their reader was too slow and was closed.",
    ),
    Declared(
        name="dagger_auth_failures_total",
        type="counter",
        help="Logins and credentials that this server process refused, by reason.",
        labels=("reason",),
    ),
)
"""What other apps know of this server process and offer through `apps.core.metrics`."""

OURS: tuple[Declared, ...] = FROM_THE_DATABASE + OF_THE_PROCESS + OFFERED
