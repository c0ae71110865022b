"""The two Grafana dashboards, from a table of panels: `scripts/monitoring.py` writes them.

grafana-foundation-sdk builds them; what it leaves out or writes as no Grafana would (panel ids, `options: null`, the
variables' zero ids) is mended here.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from grafana_foundation_sdk.builders import bargauge, heatmap, prometheus, stat, statetimeline, table, timeseries
from grafana_foundation_sdk.builders import dashboard as builder
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import DataSourceRef, GridPos, VariableRefresh

Kind = Literal["stat", "timeseries", "table", "heatmap", "bargauge", "state-timeline"]
TAG = "ai-orchestration-platform"
JOB = 'job="ai-orchestration-platform"'
SOURCE = DataSourceRef(type_val="prometheus", uid="${datasource}")
COLUMNS = 24

_BUILDERS: dict[Kind, Callable[[], Any]] = {
    "stat": stat.Panel,
    "timeseries": timeseries.Panel,
    "table": table.Panel,
    "heatmap": heatmap.Panel,
    "bargauge": bargauge.Panel,
    "state-timeline": statetimeline.Panel,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """One panel; `targets` are (expression, legend)."""

    title: str
    about: str
    targets: Sequence[tuple[str, str]]
    kind: Kind = "timeseries"
    unit: str = "short"
    width: int = 12
    height: int = 8
    exemplar: bool = False


W = 'workflow_id=~"$workflow"'
_EXECUTIONS = "dagger_workflow_executions_total"
_SECONDS = "dagger_workflow_execution_duration_seconds_bucket"
_STEP_SECONDS = "dagger_step_execution_duration_seconds_bucket"
_WAIT = "dagger_step_queue_duration_seconds"


def _of(how: str, metric: str, by: str, matchers: str, window: str) -> str:
    return f"max by ({by}) ({how}({metric}{{{matchers}}}[{window}]))"


def _executions(how: str, matchers: str, window: str) -> str:
    return _of(how, _EXECUTIONS, "workflow_id, status", f"{W},{matchers}".rstrip(","), window)


def _quantile(q: float, metric: str, by: str, window: str, keep: str = "") -> str:
    inner = _of("rate", metric, f"{by}, le", W if by != "queue" else "", window).replace("{}", "")
    return f"histogram_quantile({q}, sum by ({keep}le) ({inner}))"


def _burn(window: str) -> str:
    bad = _executions("increase", 'status=~"failed|timed_out"', window)
    every = _executions("increase", 'status!="cancelled"', window)
    return f"sum({bad}) / sum({every}) / 0.01"


_GOOD, _BAD, _COUNTED = 'status="completed"', 'status=~"failed|timed_out"', 'status!="cancelled"'
_CANCELLED = 'status="cancelled"'
_RANGE, _RATE = "$__range", "$__rate_interval"

OVERVIEW: tuple[Panel, ...] = (
    Panel(
        title="Success ratio", about="Completed executions among those that ended, cancelled ones left out.",
        targets=[
            (f"sum({_executions('increase', _GOOD, _RANGE)}) / sum({_executions('increase', _COUNTED, _RANGE)})", "")
        ],
        kind="stat", unit="percentunit", width=4, height=4,
    ),
    Panel(
        title="Error budget left", about="Of 1 % of the executions in the time shown; below zero it is overspent.",
        targets=[(f"1 - {_burn(_RANGE)}", "")],
        kind="stat", unit="percentunit", width=4, height=4,
    ),
    Panel(
        title="Concurrent workflows", about="Executions that have begun and not ended.",
        targets=[("max(dagger_concurrent_workflows)", "")], kind="stat", width=4, height=4,
    ),
    Panel(
        title="Concurrent steps", about="Steps that a worker or an agent holds now.",
        targets=[("max(dagger_concurrent_steps)", "")], kind="stat", width=4, height=4,
    ),
    Panel(
        title="Stalled", about="Executions in progress of which nothing was heard for ten minutes.",
        targets=[("max(dagger_stalled_workflows)", "")], kind="stat", width=4, height=4,
    ),
    Panel(
        title="Firing alerts", about="Without the watchdog.",
        targets=[('count(ALERTS{alertstate="firing", alertname!="Watchdog"}) or vector(0)', "")],
        kind="stat", width=4, height=4,
    ),
    Panel(
        title="Executions by status", about="How many end a second.",
        targets=[(f"sum by (status) ({_executions('rate', '', _RATE)})", "{{status}}")], unit="ops",
    ),
    Panel(
        title="Execution duration", about="Half of the executions, and 95 % of them, take no longer. Points are exemplars.",
        targets=[
            (_quantile(0.5, _SECONDS, "workflow_id", _RATE), "p50"),
            (_quantile(0.95, _SECONDS, "workflow_id", _RATE), "p95"),
        ],
        unit="s", exemplar=True,
    ),
    Panel(
        title="Steps by status", about="How many end a second; failures among them.",
        targets=[
            (
                f"sum by (status) ({_of('rate', 'dagger_step_executions_total', 'workflow_id, step_id, status', W, _RATE)})",
                "{{status}}",
            )
        ],
        unit="ops",
    ),
    Panel(
        title="Errors by type", about="Steps and executions that failed for good.",
        targets=[("sum by (error_type) (max by (error_type) (rate(dagger_errors_total[$__rate_interval])))", "{{error_type}}")],
        unit="ops",
    ),
    Panel(
        title="Queue depth", about="Steps that could be claimed now.",
        targets=[("max by (queue) (dagger_queue_depth)", "{{queue}}")], width=8,
    ),
    Panel(
        title="Oldest waiting step", about="How long the oldest claimable step of a queue has been claimable.",
        targets=[("max by (queue) (dagger_queue_oldest_task_age_seconds)", "{{queue}}")], unit="s", width=8,
    ),
    Panel(
        title="Workers by state", about="Lost: silent for a whole lease. The bars count those that were lost.",
        targets=[
            ("max by (state) (dagger_workers)", "{{state}}"),
            ("max(increase(dagger_workers_lost_total[$__rate_interval]))", "lost meanwhile"),
        ],
        width=8,
    ),
    Panel(
        title="CPU", about="Share of the host's CPU time in use.",
        targets=[("dagger_cpu_usage_percent", "{{instance}}")], unit="percent", width=8, height=7,
    ),
    Panel(
        title="Memory", about="Of the host.",
        targets=[("dagger_memory_usage_bytes", "used"), ("dagger_memory_limit_bytes", "all")],
        unit="bytes", width=8, height=7,
    ),
    Panel(
        title="Disk", about="Of the file system that holds the data directory.",
        targets=[("dagger_disk_usage_bytes / dagger_disk_size_bytes", "{{mount}}")], unit="percentunit", width=8, height=7,
    ),
)  # fmt: skip

ADVANCED: tuple[Panel, ...] = (
    Panel(
        title="Burn rate", about="1 spends a budget of 1 % just in time; 14.4 for an hour pages somebody.",
        targets=[(_burn(window), window) for window in ("5m", "1h", "6h", "3d")], width=24, height=7,
    ),
    Panel(
        title="Workflows", about="In the time shown.",
        targets=[
            (f"sum by (workflow_id) ({_executions('increase', _GOOD, _RANGE)})", "completed"),
            (f"sum by (workflow_id) ({_executions('increase', _BAD, _RANGE)})", "failed"),
            (f"sum by (workflow_id) ({_executions('increase', _CANCELLED, _RANGE)})", "cancelled"),
            (_quantile(0.95, _SECONDS, "workflow_id", _RANGE, "workflow_id, "), "p95"),
        ],
        kind="table", width=24, height=9,
    ),
    Panel(
        title="Failure ratio by workflow", about="Cancelled executions are neither good nor bad.",
        targets=[
            (
                f"sum by (workflow_id) ({_executions('rate', _BAD, _RATE)})"
                f" / sum by (workflow_id) ({_executions('rate', _COUNTED, _RATE)})",
                "{{workflow_id}}",
            )
        ],
        unit="percentunit",
    ),
    Panel(
        title="Retry ratio by workflow", about="Further attempts for each step that ended.",
        targets=[
            (
                f"sum by (workflow_id) ({_of('rate', 'dagger_step_retries_total', 'workflow_id, step_id', W, _RATE)})"
                " / sum by (workflow_id)"
                f" ({_of('rate', 'dagger_step_executions_total', 'workflow_id, step_id, status', W, _RATE)})",
                "{{workflow_id}}",
            )
        ],
        unit="percentunit",
    ),
    Panel(
        title="Execution duration", about="How many took how long.",
        targets=[(f"sum by (le) ({_of('increase', _SECONDS, 'workflow_id, le', W, _RATE)})", "{{le}}")],
        kind="heatmap", unit="s", exemplar=True,
    ),
    Panel(
        title="Start latency", about="How long steps could have been started until they were; 95 % within 30 s is the aim.",
        targets=[
            ("sum by (le) (max by (queue, le) (increase(dagger_step_queue_duration_seconds_bucket[$__rate_interval])))", "{{le}}")
        ],
        kind="heatmap", unit="s",
    ),
    Panel(
        title="Started in time", about="Share of the steps that started within 30 s of being ready.",
        targets=[
            (
                f'sum(max by (queue) (rate({_WAIT}_bucket{{le=~"30|30.0"}}[$__rate_interval])))'
                f" / sum(max by (queue) (rate({_WAIT}_count[$__rate_interval])))",
                "",
            )
        ],
        unit="percentunit",
    ),
    Panel(
        title="Step duration", about="How many took how long.",
        targets=[(f"sum by (le) ({_of('increase', _STEP_SECONDS, 'workflow_id, step_id, le', W, _RATE)})", "{{le}}")],
        kind="heatmap", unit="s", exemplar=True,
    ),
    Panel(
        title="Slowest steps", about="The ten with the longest 95th percentile.",
        targets=[
            (
                f"topk(10, {_quantile(0.95, _STEP_SECONDS, 'workflow_id, step_id', _RANGE, 'workflow_id, step_id, ')})",
                "{{workflow_id}} / {{step_id}}",
            )
        ],
        kind="bargauge", unit="s",
    ),
    Panel(
        title="Failing steps", about="The ten that failed most.",
        targets=[
            (
                "topk(10, sum by (workflow_id, step_id) "
                f"({_of('increase', 'dagger_step_executions_total', 'workflow_id, step_id, status', f'{W},{_BAD}', _RANGE)}))",
                "{{workflow_id}} / {{step_id}}",
            )
        ],
        kind="bargauge",
    ),
    Panel(
        title="Estimates that held", about="Share of the executions that ended within the interval told; 80 % is the aim.",
        targets=[
            (
                'sum(max by (covered) (increase(dagger_eta_interval_total{covered="true"}[$__range])))'
                " / sum(max by (covered) (increase(dagger_eta_interval_total[$__range])))",
                "",
            )
        ],
        unit="percentunit", width=12, height=7,
    ),
    Panel(
        title="Error of estimates", about="By what share half of the estimates, and 95 % of them, missed.",
        targets=[
            ("histogram_quantile(0.5, max by (le) (increase(dagger_eta_error_ratio_bucket[$__range])))", "p50"),
            ("histogram_quantile(0.95, max by (le) (increase(dagger_eta_error_ratio_bucket[$__range])))", "p95"),
        ],
        unit="percentunit", width=12, height=7,
    ),
    Panel(
        title="Agents", about="Registered outside programs by state, and their slots.",
        targets=[
            ("max by (state) (dagger_agents)", "{{state}}"),
            ("max(dagger_agent_slots)", "slots"),
            ("max(dagger_agent_slots_used)", "slots in use"),
        ],
        width=8, height=7,
    ),
    Panel(
        title="Schedules", about="How long ago a worker looked for due ones, and times that were missed.",
        targets=[
            ("time() - max(dagger_scheduler_last_tick_timestamp_seconds)", "since the last look"),
            ("max(increase(dagger_schedules_missed_total[1h]))", "missed in an hour"),
        ],
        unit="s", width=8, height=7,
    ),
    Panel(
        title="Circuit breakers not closed", about="Open, or half-open while a probe is under way.",
        targets=[
            ('max by (circuit_breaker, state) (dagger_circuit_breaker_state{state!="closed"})', "{{circuit_breaker}} {{state}}")
        ],
        kind="state-timeline", width=12, height=7,
    ),
    Panel(
        title="Failures seen by circuit breakers", about="Share of the calls of the window that failed.",
        targets=[("max by (circuit_breaker) (dagger_circuit_breaker_failure_ratio)", "{{circuit_breaker}}")],
        unit="percentunit", width=12, height=7,
    ),
    Panel(
        title="Calls through circuit breakers", about="By how they ended; refused are claims that were put off.",
        targets=[
            (
                "sum by (circuit_breaker, result) (max by (circuit_breaker, result)"
                " (rate(dagger_circuit_breaker_calls_total[$__rate_interval])))",
                "{{circuit_breaker}} {{result}}",
            )
        ],
        unit="ops", width=12, height=7,
    ),
    Panel(
        title="Moves of circuit breakers", about="By the state they came to.",
        targets=[
            (
                "max by (circuit_breaker, to_state) (increase(dagger_circuit_breaker_transitions_total[$__rate_interval]))",
                "{{circuit_breaker}} {{to_state}}",
            )
        ],
        width=12, height=7,
    ),
    Panel(
        title="Progress", about="Sockets and streams that are fed, and frames that were not delivered.",
        targets=[
            ("sum(dagger_progress_subscribers)", "readers"),
            ("sum(increase(dagger_progress_messages_dropped_total[$__rate_interval]))", "frames dropped"),
        ],
        width=8, height=7,
    ),
    Panel(
        title="Credentials refused", about="By reason.",
        targets=[("sum by (reason) (increase(dagger_auth_failures_total[$__rate_interval]))", "{{reason}}")], width=8, height=7,
    ),
    Panel(
        title="HTTP p95 by view", about="Of this platform's server processes.",
        targets=[
            (
                "histogram_quantile(0.95, sum by (view, le)"
                " (rate(django_http_requests_latency_seconds_by_view_method_bucket[$__rate_interval])))",
                "{{view}}",
            )
        ],
        unit="s", width=8, height=7,
    ),
    Panel(
        title="HTTP answers by status", about="Of this platform's server processes.",
        targets=[("sum by (status) (rate(django_http_responses_total_by_status_total[$__rate_interval]))", "{{status}}")],
        unit="reqps", width=8, height=7,
    ),
    Panel(
        title="Scrapes", about="How long they take.",
        targets=[(f"scrape_duration_seconds{{{JOB}}}", "{{instance}}")], unit="s", width=8, height=7,
    ),
    Panel(
        title="Age of the facts", about="When they were last read from the database.",
        targets=[
            (
                "timestamp(dagger_metrics_last_collect_timestamp_seconds) - dagger_metrics_last_collect_timestamp_seconds",
                "{{instance}}",
            )
        ],
        unit="s", width=8, height=7,
    ),
    Panel(
        title="Server memory", about="Of the server processes.",
        targets=[(f"process_resident_memory_bytes{{{JOB}}}", "{{instance}}")], unit="bytes", width=8, height=7,
    ),
    Panel(
        title="Trace exporter", about="Whether the collector took the last batch.",
        targets=[("dagger_trace_exporter_up", "{{instance}}")], kind="state-timeline", width=8, height=7,
    ),
    Panel(
        title="Spans dropped", about="That the collector did not take.",
        targets=[("rate(dagger_trace_spans_dropped_total[$__rate_interval])", "{{instance}}")], unit="ops", width=8, height=7,
    ),
    Panel(
        title="Counted as other", about="Executions and steps without a label of their own.",
        targets=[("max(increase(dagger_metrics_label_overflow_total[$__range]))", "")], kind="stat", width=8, height=7,
    ),
    Panel(
        title="Builds", about="Which versions run.",
        targets=[("max by (instance, version, python_version, django_version) (dagger_build_info)", "")],
        kind="table", width=24, height=5,
    ),
)  # fmt: skip


def dashboards() -> dict[str, str]:
    """Both, as JSON by path in the repository."""
    return {
        "monitoring/grafana-dagger-dashboard.json": _built(
            "dagger-overview",
            "Dagger Dashboard",
            "What runs, how fast, how often it fails, and whether the workers keep up.",
            OVERVIEW,
        ),
        "monitoring/grafana-dagger-advanced-dashboard.json": _built(
            "dagger-advanced",
            "Dagger Advanced Dashboard",
            "Per workflow and per step: durations, retries, failures; and how this server itself does.",
            ADVANCED,
        ),
    }


def _built(uid: str, title: str, about: str, panels: Sequence[Panel]) -> str:
    made = builder.Dashboard(title).uid(uid).description(about).tags([TAG]).editable().refresh("30s")
    made = made.time("now-6h", "now").timezone("browser")
    made = made.with_variable(builder.DatasourceVariable("datasource").label("Data source").type("prometheus"))
    workflow = builder.QueryVariable("workflow").label("Workflow").datasource(SOURCE)
    workflow = workflow.query(f"label_values({_EXECUTIONS}, workflow_id)").multi(True).include_all(True)
    made = made.with_variable(workflow.all_value(".*").refresh(VariableRefresh.ON_TIME_RANGE_CHANGED))
    x = y = row = 0
    for panel in panels:
        if x + panel.width > COLUMNS:
            x, y, row = 0, y + row, 0
        made = made.with_panel(_panel(panel, GridPos(x=x, y=y, w=panel.width, h=panel.height)))
        x, row = x + panel.width, max(row, panel.height)
    data = json.loads(JSONEncoder(sort_keys=True).encode(made.build()))
    return json.dumps(_mended(data), indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def _panel(panel: Panel, place: GridPos) -> Any:
    made = _BUILDERS[panel.kind]().title(panel.title).description(panel.about).datasource(SOURCE)
    made = made.unit(panel.unit).grid_pos(place)
    for number, (expression, legend) in enumerate(panel.targets):
        query = prometheus.Dataquery().expr(expression).ref_id(chr(ord("A") + number)).datasource(SOURCE)
        query = query.legend_format(legend or "__auto")
        if panel.kind in ("stat", "table", "bargauge"):
            query = query.instant()
        if panel.kind == "table":
            query = query.format(_FORMATS["table"])
        if panel.kind == "heatmap":
            query = query.format(_FORMATS["heatmap"])
        if panel.exemplar:
            query = query.exemplar(True)
        made = made.with_target(query)
    return made


def _formats() -> dict[str, Any]:
    from grafana_foundation_sdk.models.prometheus import PromQueryFormat

    return {"table": PromQueryFormat.TABLE, "heatmap": PromQueryFormat.HEATMAP}


_FORMATS = _formats()


def _mended(data: dict[str, Any]) -> dict[str, Any]:
    """What the builder leaves out or writes as no Grafana would."""
    data["schemaVersion"] = 39
    data["graphTooltip"] = 1
    data["annotations"] = {"list": []}
    data["links"] = [
        {
            "type": "dashboards", "title": "AI Orchestration Platform", "tags": [TAG], "asDropdown": True, "url": "",
            "includeVars": True, "keepTime": True, "icon": "external link", "targetBlank": False, "tooltip": "",
        }
    ]  # fmt: skip
    data.pop("style", None)
    for number, panel in enumerate(data["panels"], start=1):
        panel["id"] = number
        if panel.get("options") is None:
            panel["options"] = {}
        for name in [name for name, value in panel["options"].items() if value == "auto" and name != "orientation"]:
            del panel["options"][name]
    for variable in data["templating"]["list"]:
        for name in ("id", "auto", "auto_count", "auto_min"):
            variable.pop(name, None)
        everything = bool(variable.get("includeAll"))
        variable["current"] = {"text": "All", "value": "$__all"} if everything else {"text": "", "value": ""}
    return data
