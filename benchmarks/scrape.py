"""What a scrape costs: at the cap of series, and the same again with many finished tasks in the database."""

import time
from typing import Any

from django.db import connection
from django.db.models import F
from prometheus_client import CollectorRegistry, Gauge, generate_latest

from apps.core.clock import database_now
from apps.monitoring import collectors, facts
from apps.monitoring.exposition import rendered
from apps.workflows.engine.ids import new_execution_id, task_id
from apps.workflows.models import Execution, OutcomeTotal, Task
from apps.workflows.selectors.statistics import EXECUTION_BOUNDS, STEP_BOUNDS, WAIT_BOUNDS
from apps.workflows.services import labels
from benchmarks.executing import made
from benchmarks.shapes import Sizes

STEPS = labels.MAX_STEPS // labels.MAX_WORKFLOWS
TASKS_OF_EXECUTION = 10_000
LIBRARY_RUNS = 3


def measure(sizes: Sizes) -> dict[str, Any]:
    """Milliseconds of reading and writing all families (runs), their number of series and bytes; before and after.

    `changed` is with every total different from the scrape before: as if each step of each workflow had ended in every
    way meanwhile. `library` is prometheus_client writing as many series, which it has in memory.
    """
    workflows = [
        made({"name": f"scrape {n}", "steps": [{"id": f"s{k}", "python": "builtin.noop"} for k in range(STEPS)]})
        for n in range(sizes.scrape_workflows)
    ]
    _totals(workflows)
    before = _runs(sizes)
    changed = [_after_change() for _ in range(sizes.scrape_runs)]
    lines, size = _scrape()[1:]
    library = _library(lines)
    _finished(workflows[0], sizes.scrape_tasks)
    after = _runs(sizes)
    return {
        "before": before, "after": after, "changed": changed, "library": library, "series": lines, "bytes": size,
        "tasks": sizes.scrape_tasks,
    }  # fmt: skip


def _runs(sizes: Sizes) -> list[float]:
    _scrape()
    return [_scrape()[0] for _ in range(sizes.scrape_runs)]


def _scrape() -> tuple[float, int, int]:
    facts.cache.expire()
    began = time.perf_counter()
    body, _ = rendered(collectors.ours(), accept="")
    lasted = 1000 * (time.perf_counter() - began)
    return lasted, sum(not line.startswith(b"#") for line in body.splitlines()), len(body)


def _after_change() -> float:
    OutcomeTotal.objects.update(count=F("count") + 1, microseconds=F("microseconds") + 1)
    return _scrape()[0]


def _library(series: int) -> list[float]:
    gauge = Gauge(
        "benchmark", "As many series.", ["workflow_id", "step_id"], registry=(registry := CollectorRegistry())
    )
    for number in range(series):
        gauge.labels(f"workflow-{number % 200}", f"step-{number}").set(number)
    lasted = []
    for _ in range(LIBRARY_RUNS):
        began = time.perf_counter()
        generate_latest(registry)
        lasted.append(1000 * (time.perf_counter() - began))
    return lasted


def _buckets(bounds: tuple[float, ...]) -> dict[str, int]:
    return {str(round(bound * 1_000_000)): 7 for bound in bounds}


def _totals(workflows: list[Any]) -> None:
    """Everything that may have ended has: every status of every step, spread over all buckets."""
    rows = []
    for workflow in workflows:
        for status in ("completed", "failed", "timed_out", "cancelled"):
            error = "timeout" if status == "timed_out" else "error" if status == "failed" else ""
            common = {"workflow": workflow, "status": status, "error_type": error, "count": 100, "microseconds": 10**9}
            rows.append(OutcomeTotal(what="execution", buckets=_buckets(EXECUTION_BOUNDS), **common))
            rows += [
                OutcomeTotal(what="task", step_id=f"s{k}", buckets=_buckets(STEP_BOUNDS), **common)
                for k in range(STEPS)
            ]
        rows.append(OutcomeTotal(what="wait", step_id="default", buckets=_buckets(WAIT_BOUNDS), workflow=workflow))
    OutcomeTotal.objects.bulk_create(rows, batch_size=500, ignore_conflicts=True)


def _finished(workflow: Any, tasks: int) -> None:
    """Executions that ended and were counted, with so many tasks together."""
    now = database_now()
    identity = "gen_random_uuid()" if connection.vendor == "postgresql" else "lower(hex(randomblob(16)))"
    names = [str(column.column) for column in Task._meta.concrete_fields]
    copied = ", ".join({"id": identity, "step_id": "'t' || n.n"}.get(name, f"t.{name}") for name in names)
    while tasks > 0:
        many = min(tasks, TASKS_OF_EXECUTION)
        execution = Execution.objects.create(
            id=new_execution_id(), workflow=workflow, version=workflow.versions.get(), status="completed", percent=100,
            tasks_total=many, counted=True, created_at=now, updated_at=now, started_at=now, finished_at=now,
        )  # fmt: skip
        Task.objects.create(
            id=task_id(execution.pk, 1), execution=execution, step_id="t0", status="completed", started_at=now,
            finished_at=now, fence=1,
        )  # fmt: skip
        with connection.cursor() as cursor:
            key = execution.pk.hex if connection.vendor == "sqlite" else execution.pk
            cursor.execute(
                "WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n + 1 < %s)"
                f" INSERT INTO workflows_task ({', '.join(names)}) SELECT {copied} FROM n, workflows_task t"
                " WHERE t.execution_id = %s AND t.step_id = 't0'",
                [many, key],
            )
        tasks -= many
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")
