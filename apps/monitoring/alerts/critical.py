"""Alerts that wake somebody."""

from apps.monitoring.alerts.declared import (
    JOB,
    LOOK_AT_FAILURES,
    LOOK_AT_WORKERS,
    Alert,
    errors_above,
    executions,
    late_above,
    starts,
)
from apps.monitoring.alerts.trials import Arm, Edge, Trial, began, ended, too_many

CRITICAL: tuple[Alert, ...] = (
    Alert(
        name="TargetDown",
        group="platform",
        severity="critical",
        expr=f'up{{job="{JOB}"}} == 0 or absent(up{{job="{JOB}"}})',
        wait=120,
        summary="A server of the platform cannot be scraped ({{ $labels.instance }})",
        description="Nothing is known of this installation while its metrics cannot be read; no other alert can fire.",
        causes=("the server process is down or cannot be reached", "the token that Prometheus sends has expired"),
        steps=(
            "Ask `/monitoring/health/live` and `/monitoring/health/ready` of the server.",
            "With 401 in Prometheus's list of targets, see whether `manage.py scrape_token` runs.",
        ),
        trial=Trial(series={f'up{{job="{JOB}", instance="server:8000"}}': ("1x10", "1x3 0 1x6", "1 0x10")}),
    ),
    Alert(
        name="DiskLow",
        group="platform",
        severity="critical",
        expr="max by (instance, mount) (dagger_disk_usage_bytes / dagger_disk_size_bytes) > 0.9",
        wait=300,
        summary="{{ $value | humanizePercentage }} of {{ $labels.mount }} is in use",
        description="When the file system of the data directory is full, nothing can be started or recorded.",
        causes=("artifacts, logs or executions are kept for too long", "something else fills the same file system"),
        steps=(
            "Run `manage.py prune --dry-run`: it says what is older than it has to be kept.",
            "Lower `RETENTION_DAYS` and `LOG_RETENTION_DAYS`, or enlarge the file system.",
        ),
        trial=Trial(
            series={
                'dagger_disk_usage_bytes{instance="server:8000", mount="/data"}': ("50x20", "90x20", "90 91x20"),
                'dagger_disk_size_bytes{instance="server:8000", mount="/data"}': ("100x20", "100x20", "100x21"),
            }
        ),
    ),
    Alert(
        name="SchedulerStalled",
        group="platform",
        severity="critical",
        expr="time() - max(dagger_scheduler_last_tick_timestamp_seconds) > 60",
        wait=60,
        summary="Nobody has looked for due schedules for {{ $value | humanizeDuration }}",
        description="Schedules are fired by workers. While none does, workflows that are due do not start.",
        causes=("no worker runs", "the database does not answer the workers"),
        steps=("Start a worker (`manage.py worker`).", "Look for `schedules: not done` in the workers' logs."),
        trial=Trial(
            series={"dagger_scheduler_last_tick_timestamp_seconds": ("0+60x20", "0 0 60 120 180 240 300", "0x20")},
            edges=(
                Edge(
                    what="after 70 seconds",
                    series={"dagger_scheduler_last_tick_timestamp_seconds": "50x20"},
                    at=3,
                    fires=True,
                ),
            ),
        ),
    ),
    Alert(
        name="NoWorkers",
        group="performing",
        severity="critical",
        expr='sum(max by (queue) (dagger_queue_depth)) > 0\nand max(dagger_workers{state="live"}) == 0',
        wait=60,
        summary="{{ $value | humanize }} steps could run and no worker is alive",
        description="Executions wait until a worker is started.",
        causes=("every worker was stopped or died", "the workers cannot reach the database"),
        steps=("Start a worker: `manage.py worker`.", "Read the last lines of the workers' logs."),
        trial=Trial(
            series={
                'dagger_queue_depth{queue="default"}': ("5x10", "0x10", "5x10"),
                'dagger_workers{state="live"}': ("1x10", "0x10", "1 0x10"),
            }
        ),
    ),
    Alert(
        name="QueueOldestTaskTooOld",
        group="performing",
        severity="critical",
        expr="max by (queue) (dagger_queue_oldest_task_age_seconds) > 300",
        wait=60,
        summary="A step in the queue {{ $labels.queue }} has waited for {{ $value | humanizeDuration }}",
        description="More is asked of this queue than its workers perform, or they no longer claim from it.",
        causes=("too few slots", "no worker serves this queue, or none has the labels that its steps require"),
        steps=LOOK_AT_WORKERS,
        trial=Trial(
            series={'dagger_queue_oldest_task_age_seconds{queue="gpu"}': ("10x10", "300x10", "0 301x10")},
        ),
    ),
    Alert(
        name="WorkflowErrorBudgetBurn",
        group="objectives",
        severity="critical",
        # 99 % of the executions complete: 14.4 times the budget of 1 %, or 6 times for longer.
        expr=f"{errors_above(0.144, '1h', '5m')}\nor {errors_above(0.06, '6h', '30m')}",
        wait=120,
        summary="{{ $value | humanizePercentage }} of the executions fail",
        description="The error budget of a month (1 % of the executions) would be spent in days at this rate.",
        causes=("something that many workflows call is down", "a new version of a workflow", "workers that die"),
        steps=LOOK_AT_FAILURES,
        trial=Trial(
            series=executions(
                failed=("0x90", "0+6x90", "0x60 0+3x30"), completed=("0+10x90", "0+94x90", "0+10x60 600+7x30")
            ),
            edges=too_many(
                ended, Arm(thousandths=144, long=24, short=2), Arm(thousandths=60, long=144, short=12), wait=1, step=150
            ),
        ),
    ),
    Alert(
        name="StepStartLatencyBudgetBurn",
        group="objectives",
        severity="critical",
        # 95 % of the steps start within 30 s of being ready.
        expr=f"{late_above(0.72, '1h', '5m')}\nor {late_above(0.3, '6h', '30m')}",
        wait=120,
        summary="{{ $value | humanizePercentage }} of the steps start later than after 30 s",
        description="95 % of the steps are to start within 30 s of being ready; the budget for the rest burns.",
        causes=("more is asked than the workers perform", "a limit holds many steps back at once"),
        steps=LOOK_AT_WORKERS,
        trial=Trial(
            series=starts(
                within=("0+10x90", "0+71x90", "0+10x60 600+1x60"), all_of_them=("0+10x90", "0+100x90", "0+10x120")
            ),
            edges=too_many(
                began,
                Arm(thousandths=720, long=24, short=2),
                Arm(thousandths=300, long=144, short=12),
                wait=1,
                step=150,
                exact=False,
            ),
        ),
    ),
)
