"""What the monitoring guide that this product was asked for with names: its URLs, files, variables and decorators."""

import asyncio
import inspect
import json
from pathlib import Path

import pytest
import yaml
from django.urls import resolve

from apps.monitoring.tracing import trace_function, trace_step, trace_workflow
from orchestration.environment import Environment

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/monitoring/metrics", "monitoring-metrics"),
        ("/monitoring/metrics/dagger_workflow_executions_total", "monitoring-metric"),
        ("/monitoring/dagger/metrics", "monitoring-dagger-metrics"),
        ("/monitoring/dagger/metrics/dagger_step_executions_total", "monitoring-dagger-metric"),
        ("/monitoring/dagger/status", "monitoring-dagger-status"),
        ("/monitoring/alerts", "monitoring-alerts"),
        ("/monitoring/rules", "monitoring-rules"),
        ("/monitoring/silences", "monitoring-silences"),
        ("/monitoring/runbooks/NoWorkers", "monitoring-runbook"),
        ("/monitoring/health/live", "monitoring-health-live"),
        ("/monitoring/health/ready", "monitoring-health-ready"),
    ],
)
def test_every_url_is_served(path, name):
    assert resolve(path).url_name == name


def test_every_file_is_there_and_can_be_read():
    for name in ("grafana-dagger-dashboard.json", "grafana-dagger-advanced-dashboard.json"):
        assert json.loads((ROOT / "monitoring" / name).read_text())["panels"]
    for name in ("alerting_rules.yml", "alertmanager.yml", "prometheus.yml"):
        assert yaml.safe_load((ROOT / "monitoring" / name).read_text())


def test_the_variables_have_their_defaults():
    fields = Environment.model_fields
    assert fields["DAGGER_TRACING_ENABLED"].default is True
    assert fields["DAGGER_OTLP_ENDPOINT"].default == "localhost:4317"
    assert {"PROMETHEUS_URL", "ALERTMANAGER_URL"} <= set(fields)


@pytest.mark.parametrize("decorate", [trace_function, trace_workflow, trace_step])
def test_the_decorators_fit_sync_and_async_functions(decorate):
    @decorate(name="my_function")
    async def later():
        return 1

    @decorate
    def now():
        return 2

    assert inspect.iscoroutinefunction(later)
    assert (asyncio.run(later()), now()) == (1, 2)
