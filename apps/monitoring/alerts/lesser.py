"""Alerts that somebody reads in the morning."""

from apps.monitoring.alerts.declared import (
    LOOK_AT_FAILURES,
    LOOK_AT_WORKERS,
    Alert,
    errors_above,
    executions,
    late_above,
    starts,
)
from apps.monitoring.alerts.trials import Arm, Edge, Trial, began, counter, ended, lasts, too_many


def _errors(*phases: tuple[int, int]) -> dict[str, str]:
    return {'dagger_errors_total{error_type="connection"}': counter(*phases)}


def _retried(
    retries: tuple[int, int], steps: tuple[int, int], *, more: int = 0, pause: int = 0, last: int = 0
) -> dict[str, str]:
    """`more` at once, later; or after a `pause` some at the `last`."""
    step = 'workflow_id="report", step_id="fetch"'
    later = ((1, more), (30, 0)) if more else ((pause, 0), (10, last))
    return {
        f"dagger_step_retries_total{{{step}}}": counter(retries, *later),
        f'dagger_step_executions_total{{{step}, status="completed"}}': counter(steps, *([(31, 0)] if more else [])),
    }


LESSER: tuple[Alert, ...] = (
    Alert(
        name="WorkflowErrorBudgetBurnSlow",
        group="objectives",
        severity="warning",
        expr=f"{errors_above(0.03, '1d', '2h')}\nor {errors_above(0.01, '3d', '6h')}",
        wait=900,
        summary="{{ $value | humanizePercentage }} of the executions of the last days fail",
        description="The error budget of a month (1 % of the executions) will not last.",
        causes=("a step that fails now and then", "too few retries for what a step calls"),
        steps=LOOK_AT_FAILURES,
        trial=Trial(
            series=executions(
                failed=("0x600", "0+1x600", "0x300 0+2x300"), completed=("0+10x600", "0+99x600", "0+10x600")
            ),
            step=300,
            edges=too_many(
                ended,
                Arm(thousandths=30, long=48, short=4),
                Arm(thousandths=10, long=144, short=12),
                wait=1,
                step=1_800,
            ),
        ),
    ),
    Alert(
        name="StepStartLatencyBudgetBurnSlow",
        group="objectives",
        severity="warning",
        expr=f"{late_above(0.15, '1d', '2h')}\nor {late_above(0.05, '3d', '6h')}",
        wait=900,
        summary="{{ $value | humanizePercentage }} of the steps of the last days started later than after 30 s",
        description="95 % of the steps are to start within 30 s of being ready.",
        causes=("peaks for which there are too few slots", "schedules that all fire at the same minute"),
        steps=LOOK_AT_WORKERS,
        trial=Trial(
            series=starts(
                within=("0+10x600", "0+96x600", "0+10x300 3000+6x300"),
                all_of_them=("0+10x600", "0+100x600", "0+10x600"),
            ),
            step=300,
            edges=too_many(
                began,
                Arm(thousandths=150, long=48, short=4),
                Arm(thousandths=50, long=144, short=12),
                wait=1,
                step=1_800,
                exact=False,
            ),
        ),
    ),
    Alert(
        name="WorkflowFailureRateHigh",
        group="workflows",
        severity="warning",
        # Of at least 5 executions in a quarter of an hour, more than a fifth.
        expr=(
            "sum by (workflow_id) (max by (workflow_id, status)"
            ' (increase(dagger_workflow_executions_total{status=~"failed|timed_out"}[15m])))\n'
            "/ sum by (workflow_id) (max by (workflow_id, status)"
            ' (increase(dagger_workflow_executions_total{status!="cancelled"}[15m]))) > 0.2\n'
            "and sum by (workflow_id) (max by (workflow_id, status)"
            ' (increase(dagger_workflow_executions_total{status!="cancelled"}[15m]))) >= 5'
        ),
        wait=300,
        summary="{{ $value | humanizePercentage }} of the executions of {{ $labels.workflow_id }} failed",
        description="Measured over 15 minutes. Executions that were cancelled count as neither good nor bad.",
        causes=("its newest version", "what it calls", "its inputs"),
        steps=LOOK_AT_FAILURES,
        trial=Trial(
            series=executions(failed=("0x40", "0+1x40", "0x10 0+2x30"), completed=("0+4x40", "0+4x40", "0+2x40")),
            edges=(
                Edge(what="just above", series=ended((40, 1_000, 201)), at=40, fires=True),
                Edge(what="four in all", series=ended((1, 0, 0), (1, 4, 4), (9, 0, 0)), at=11, fires=False),
                Edge(what="five in all", series=ended((1, 0, 0), (1, 5, 5), (9, 0, 0)), at=11, fires=True),
                Edge(what="five, far apart", series=ended(*[(2, 0, 0), (1, 1, 1)] * 12), at=36, fires=True),
                Edge(what="four in each window", series=ended(*[(3, 0, 0), (1, 1, 1)] * 20), at=80, fires=False),
                Edge(
                    what="much failed before its window",
                    series=ended((40, 10, 10), (14, 100, 0), (3, 100, 10)),
                    at=57,
                    fires=False,
                ),
            ),
        ),
    ),
    Alert(
        name="WorkflowStalled",
        group="workflows",
        severity="warning",
        expr="max(dagger_stalled_workflows) > 0",
        wait=300,
        summary="{{ $value | humanize }} executions are in progress and nobody works on them",
        description="Nothing was heard of them for ten minutes: no worker holds a step of theirs, no timer is set.",
        causes=("no worker serves the queue of their next step, or has the labels it requires", "a limit never frees"),
        steps=(
            "`manage.py status` and `/ui/` list what is stuck; `GET /tasks/{id}/why` says what each waits for.",
            "`manage.py check_invariants` tells whether an execution is broken.",
        ),
        trial=Trial(series={"dagger_stalled_workflows": ("0x10", "0x10", "0 1x10")}),
    ),
    Alert(
        name="WorkerLost",
        group="performing",
        severity="warning",
        expr="max(increase(dagger_workers_lost_total[15m])) > 0",
        summary="{{ $value | humanize }} workers were lost within 15 minutes",
        description="They died or fell silent. Their steps were given to others, and each cost a retry for a loss.",
        causes=("a step that takes all memory", "the host of a worker was stopped", "no connection to the database"),
        steps=("Look for `task.lost` in the journals of the steps they held.", "Read the kernel's log for OOM kills."),
        trial=Trial(
            series={"dagger_workers_lost_total": ("3x20", "0x20", "0x5 1x15")},
            edges=lasts("dagger_workers_lost_total", 15),
        ),
    ),
    Alert(
        name="ScheduleMissed",
        group="performing",
        severity="warning",
        expr="max(increase(dagger_schedules_missed_total[1h])) > 0",
        summary="{{ $value | humanize }} times of schedules were missed",
        description="Nobody was there when a workflow was due, and its schedule does not catch up.",
        causes=("no worker ran at that time",),
        steps=("`GET /schedules` tells what became of the last time.", "Set `catch_up`, or start it by hand."),
        trial=Trial(
            series={"dagger_schedules_missed_total": ("2x20", "0x20", "0x5 1x15")},
            edges=lasts("dagger_schedules_missed_total", 60),
        ),
    ),
    Alert(
        name="StepRetryStorm",
        group="workflows",
        severity="warning",
        expr=(
            "sum by (workflow_id) (max by (workflow_id, step_id) (increase(dagger_step_retries_total[15m])))\n"
            "> 0.5 * sum by (workflow_id) (max by (workflow_id, step_id, status)"
            " (increase(dagger_step_executions_total[15m])))\n"
            "and sum by (workflow_id) (max by (workflow_id, step_id) (increase(dagger_step_retries_total[15m]))) > 20"
        ),
        wait=300,
        summary="{{ $value | humanize }} retries of steps of {{ $labels.workflow_id }} in 15 minutes",
        description="More than one retry for two steps: what is called is down, or retried too eagerly.",
        causes=("what the steps call is down or limits them",),
        steps=("Give the steps a `circuit_breaker` and a longer `retry_delay`.", *LOOK_AT_FAILURES[:1]),
        trial=Trial(
            series={
                'dagger_step_retries_total{workflow_id="report", step_id="fetch"}': ("0+1x40", "0+5x40", "0x10 0+6x30"),
                'dagger_step_executions_total{workflow_id="report", step_id="fetch", status="completed"}': (
                    "0+10x40",
                    "0+10x40",
                    "0+10x40",
                ),
            },
            edges=(
                Edge(what="half of the steps", series=_retried((40, 50), (40, 100)), at=40, fires=False),
                Edge(what="just above half", series=_retried((40, 51), (40, 100)), at=40, fires=True),
                Edge(what="twenty in all", series=_retried((1, 0), (1, 0), more=20), at=12, fires=False),
                Edge(what="twenty-one in all", series=_retried((1, 0), (1, 0), more=21), at=12, fires=True),
                Edge(what="thirty within the window", series=_retried((40, 2), (40, 1)), at=40, fires=True),
                Edge(what="fifteen in each window", series=_retried((80, 1), (80, 1)), at=80, fires=False),
                Edge(
                    what="much was retried before its window",
                    series=_retried((60, 100), (90, 500), pause=14, last=30),
                    at=80,
                    fires=False,
                ),
            ),
        ),
    ),
    Alert(
        name="CircuitBreakerOpen",
        group="workflows",
        severity="warning",
        expr='max by (circuit_breaker) (dagger_circuit_breaker_state{state!="closed"}) == 1',
        wait=300,
        summary="The circuit breaker {{ $labels.circuit_breaker }} is not closed",
        description="What it guards is down: the steps that name it stay in line, and nothing of them fails meanwhile.",
        causes=("what it guards is down", "somebody opened it by hand"),
        steps=(
            "`GET /circuit-breakers/NAME` tells since when, why, and its last moves.",
            "Mend what it guards: a probe closes it. `POST /circuit-breakers/NAME/reset` does at once.",
        ),
        trial=Trial(
            series={
                'dagger_circuit_breaker_state{circuit_breaker="warehouse", state="open"}': ("0x20", "1x4 0x15", "1x20"),
            }
        ),
    ),
    Alert(
        name="CircuitBreakerFlapping",
        group="workflows",
        severity="warning",
        expr='max by (circuit_breaker) (increase(dagger_circuit_breaker_transitions_total{to_state="open"}[30m])) > 5',
        summary="The circuit breaker {{ $labels.circuit_breaker }} opened {{ $value | humanize }} times in 30 minutes",
        description="What it guards comes and goes, or its thresholds are too tight.",
        causes=("what it guards is overloaded", "too few failures open it"),
        steps=(
            "`GET /circuit-breakers/NAME` shows its moves and thresholds.",
            "Give it a longer `open_seconds` or more `failures`; `PUT /circuit-breakers/NAME` fixes them.",
        ),
        trial=Trial(
            series={
                'dagger_circuit_breaker_transitions_total{circuit_breaker="warehouse", to_state="open"}': (
                    "3x40",
                    "0x5 4x35",
                    "0+1x40",
                ),
            },
            edges=lasts(
                'dagger_circuit_breaker_transitions_total{circuit_breaker="warehouse", to_state="open"}', 30, rise=6
            ),
        ),
    ),
    Alert(
        name="ErrorSpike",
        group="workflows",
        severity="warning",
        expr=(
            "max by (error_type) (increase(dagger_errors_total[10m])) > 20\n"
            "and max by (error_type) (increase(dagger_errors_total[10m]))"
            " > 3 * max by (error_type) (increase(dagger_errors_total[2h])) / 12"
        ),
        wait=120,
        summary="{{ $value | humanize }} errors of the type {{ $labels.error_type }} within 10 minutes",
        description="At least three times as many as in the two hours before.",
        causes=("something that steps call changed or is down", "a new version of a workflow"),
        steps=LOOK_AT_FAILURES,
        trial=Trial(
            series={
                'dagger_errors_total{error_type="connection"}': ("0+1x180", "0+2x180", "0x120 0+10x60"),
            },
            edges=(
                Edge(what="twenty in all", series=_errors((5, 0), (1, 20), (9, 0)), at=15, fires=False),
                Edge(what="twenty-one in all", series=_errors((5, 0), (1, 21), (9, 0)), at=15, fires=True),
                Edge(what="thirty within the window", series=_errors((20, 0), (12, 3)), at=32, fires=True),
                Edge(what="twenty in each window", series=_errors((20, 0), (120, 2)), at=140, fires=False),
                # With 110 a minute after 30 the last ten minutes are three times as many, and no more.
                Edge(what="three times as many", series=_errors((300, 30), (12, 110)), at=312, fires=False),
                Edge(what="more than that", series=_errors((300, 30), (12, 125)), at=312, fires=True),
            ),
        ),
    ),
    Alert(
        name="CpuHigh",
        group="platform",
        severity="warning",
        expr="max by (instance) (dagger_cpu_usage_percent) > 90",
        wait=900,
        summary="The CPUs are {{ $value | humanize }} % in use",
        description="Steps are slow to start and the server slow to answer.",
        causes=("more workers than the host has cores", "steps that compute"),
        steps=("Lower `SLOTS`, or move workers to another host.",),
        trial=Trial(series={'dagger_cpu_usage_percent{instance="server:8000"}': ("40x30", "90x30", "0 91x30")}),
    ),
    Alert(
        name="MemoryHigh",
        group="platform",
        severity="warning",
        expr="max by (instance) (dagger_memory_usage_bytes / dagger_memory_limit_bytes) > 0.9",
        wait=600,
        summary="{{ $value | humanizePercentage }} of the memory is in use",
        description="When it is used up the kernel ends processes: workers are lost, or the database.",
        causes=("steps that hold much at once", "too many slots for this host"),
        steps=("Give steps a limit (`resources: {memory: …}`).", "Lower `SLOTS`, or move workers to another host."),
        trial=Trial(
            series={
                'dagger_memory_usage_bytes{instance="server:8000"}': ("50x30", "90x30", "50 91x30"),
                'dagger_memory_limit_bytes{instance="server:8000"}': ("100x30", "100x30", "100x31"),
            }
        ),
    ),
    Alert(
        name="MetricsStale",
        group="platform",
        severity="warning",
        expr="time() - max(dagger_metrics_last_collect_timestamp_seconds) > 120",
        wait=60,
        summary="The facts were last read {{ $value | humanizeDuration }} ago",
        description="The server answers scrapes with facts that are old; what it says is no longer so.",
        causes=("the clocks of the server and of Prometheus differ", "the database does not answer"),
        steps=("Compare the clocks.", "Ask `/monitoring/health/ready`."),
        trial=Trial(
            series={
                "dagger_metrics_last_collect_timestamp_seconds": ("0+60x20", "0 0 0 60 120 180 240 300", "0x20"),
            },
            edges=(
                Edge(
                    what="150 seconds",
                    series={"dagger_metrics_last_collect_timestamp_seconds": "30x20"},
                    at=4,
                    fires=True,
                ),
            ),
        ),
    ),
    Alert(
        name="TraceExportFailing",
        group="platform",
        severity="warning",
        expr="min by (instance) (dagger_trace_exporter_up) == 0",
        wait=600,
        summary="The trace collector takes no spans",
        description="Traces have gaps from now on. Nothing else suffers from it.",
        causes=("the collector is down", "`DAGGER_OTLP_ENDPOINT` is wrong"),
        steps=("Mend the collector, or set `DAGGER_TRACING_ENABLED=false`.",),
        trial=Trial(series={'dagger_trace_exporter_up{instance="server:8000"}': ("1x20", "0x9 1x11", "1 0x20")}),
    ),
    Alert(
        name="ProgressSubscribersDropped",
        group="platform",
        severity="warning",
        expr="sum(increase(dagger_progress_messages_dropped_total[15m])) > 0",
        summary="{{ $value | humanize }} frames of progress were not delivered",
        description="Readers that were too slow were closed (1013). They lose nothing when they resume with `since`.",
        causes=("a client that does not read", "a slow network"),
        steps=("Have the client ask for `coalesce`, or subscribe to less.",),
        trial=Trial(
            series={'dagger_progress_messages_dropped_total{instance="server:8000"}': ("9x20", "0x20", "0x5 7x15")},
            edges=lasts('dagger_progress_messages_dropped_total{instance="server:8000"}', 15),
        ),
    ),
    Alert(
        name="AuthFailureSpike",
        group="platform",
        severity="warning",
        expr='sum(increase(dagger_auth_failures_total{reason=~"password|token"}[5m])) > 50',
        summary="{{ $value | humanize }} credentials were refused within 5 minutes",
        description="Somebody guesses, or a client goes on with a credential that no longer holds.",
        causes=("somebody tries passwords", "a script with an expired token"),
        steps=("`GET /audit?action=auth.login` tells from which address.", "Rate limits hold meanwhile."),
        trial=Trial(
            series={
                'dagger_auth_failures_total{instance="server:8000", reason="password"}': (
                    "0x20",
                    "0+10x20",
                    "0x5 0+11x15",
                ),
            }
        ),
    ),
)
