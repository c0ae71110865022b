"""The files in monitoring/ and the deployment: valid for the tools that read them, and about metrics that exist."""

import functools
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import promql_parser
import pytest
import yaml
from django.core.management import CommandError, call_command
from prometheus_client import REGISTRY

from apps.monitoring import families
from orchestration.environment import UnsafeEnvironment, read

ROOT = Path(__file__).resolve().parents[3]
MONITORING = ROOT / "monitoring"
DASHBOARDS = ("grafana-dagger-dashboard.json", "grafana-dagger-advanced-dashboard.json")
OF_PROMETHEUS_ITSELF = {"up", "ALERTS", "scrape_duration_seconds"}
# Python's registry has them only on Linux, django-prometheus only once its middleware was made.
OF_THE_SERVER = {
    "django_http_requests_latency_seconds_by_view_method_bucket",
    "django_http_responses_total_by_status_total",
    "process_resident_memory_bytes",
}
SEVERITIES = {"critical", "warning", "info", "none"}


def tool(name):
    path = shutil.which(name)
    if path is None:
        if os.environ.get("CI") == "true":
            pytest.fail(f"{name} is not installed: apt-get install prometheus prometheus-alertmanager")
        pytest.skip(f"{name} is not installed")
    return path


def run(*command):
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def load(name):
    return yaml.safe_load((MONITORING / name).read_text())


@functools.cache
def alerts():
    return [rule for group in load("alerting_rules.yml")["groups"] for rule in group["rules"]]


def panels(name):
    return json.loads((MONITORING / name).read_text())["panels"]


def expressions():
    """(where, expression) of every rule and panel."""
    found = [(rule["alert"], rule["expr"]) for rule in alerts()]
    return found + [
        (p["title"], target["expr"]) for name in DASHBOARDS for p in panels(name) for target in p["targets"]
    ]


def metrics_in(expression):
    """The names of metrics in it: what is followed by braces or a range, or stands where no function or label does."""
    plain = re.sub(r'"[^"]*"', '""', expression)
    plain = re.sub(r"\b(?:by|without|on|ignoring)\s*\([^)]*\)", "", plain)
    plain = re.sub(r"\{[^}]*\}|\[[^\]]*\]", "", plain)
    words = re.findall(r"[a-zA-Z_:][\w:]*(?!\w*\s*\()", plain)
    return {word for word in words if word not in {"and", "or", "unless"}}


def exported():
    names = set()
    for declared in families.OURS:
        suffixes = ("_bucket", "_sum", "_count") if declared.type == "histogram" else ("",)
        names |= {declared.name + suffix for suffix in suffixes}
    return names


def test_every_rule_and_panel_asks_for_metrics_that_exist():
    known = exported() | OF_PROMETHEUS_ITSELF | OF_THE_SERVER
    for where, expression in expressions():
        assert metrics_in(expression) or where == "Watchdog", where
        assert metrics_in(expression) <= known, where


def test_the_servers_own_metrics_are_named_as_it_names_them():
    import django_prometheus.middleware

    django_prometheus.middleware.Metrics.get_instance()
    names = set()
    for family in REGISTRY.collect():
        names |= {family.name, f"{family.name}_total", f"{family.name}_bucket"}
    assert names >= OF_THE_SERVER


def test_every_metric_of_ours_is_on_a_panel_or_in_a_rule():
    shown = set().union(*(metrics_in(expression) for _, expression in expressions()))
    missing = [
        declared.name
        for declared in families.OURS
        if not any(name == declared.name or name == f"{declared.name}_bucket" for name in shown)
    ]
    assert missing == []


def test_every_expression_parses(tmp_path):
    replaced = {"$__rate_interval": "5m", "$__range": "6h", "$workflow": ".*"}
    rules = []
    for number, (_, expression) in enumerate(expressions()):
        plain = re.sub("|".join(map(re.escape, replaced)), lambda found: replaced[found[0]], expression)
        promql_parser.parse(plain)  # raises ValueError
        rules.append({"record": f"r{number}", "expr": plain})
    path = tmp_path / "expressions.yml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "all", "rules": rules}]}))
    assert f"{len(rules)} rules found" in run(tool("promtool"), "check", "rules", str(path))


def test_every_alert_has_a_severity_a_summary_and_its_page():
    names = [rule["alert"] for rule in alerts()]
    assert len(names) == len(set(names))
    for rule in alerts():
        assert rule["labels"]["severity"] in SEVERITIES
        assert set(rule["annotations"]) == {"summary", "description", "runbook_url"}
        page = f"{{{{ $externalLabels.platform_url }}}}/monitoring/runbooks/{rule['alert']}"
        assert rule["annotations"]["runbook_url"] == page


def test_the_rules_are_valid():
    run(tool("promtool"), "check", "rules", str(MONITORING / "alerting_rules.yml"))


@functools.cache
def trials():
    """By alert and file of tests: that file with only what is tested of this alert."""
    found = {}
    for path in sorted((MONITORING / "tests").glob("*.yml")):
        whole = yaml.load(path.read_text(), yaml.CSafeLoader)
        for test in whole["tests"]:
            (name,) = {case["alertname"] for case in test["alert_rule_test"]}
            found.setdefault(name, {}).setdefault(path.name, {**whole, "tests": []})["tests"].append(test)
    return found


@pytest.mark.parametrize("name", [rule["alert"] for rule in alerts()])
def test_a_rule_behaves(tmp_path, name):
    """Alone, for promtool carries every rule that it is given out at every step, and no rule asks for another."""
    (rule,) = (rule for rule in alerts() if rule["alert"] == name)
    assert not metrics_in(rule["expr"]) & {"ALERTS", "ALERTS_FOR_STATE"}
    (tmp_path / "alerting_rules.yml").write_text(yaml.safe_dump({"groups": [{"name": "one", "rules": [rule]}]}))
    (tmp_path / "tests").mkdir()
    files = []
    for file, tests in trials()[name].items():
        path = tmp_path / "tests" / file
        path.write_text(yaml.safe_dump(tests))
        files.append(str(path))
    assert run(tool("promtool"), "test", "rules", *files).count("SUCCESS") == len(files) > 0


def test_every_alert_is_tested_to_fire_and_to_stay_quiet():
    fired, quiet = set(), set()
    for name, files in trials().items():
        for file in files.values():
            for test in file["tests"]:
                for case in test["alert_rule_test"]:
                    (fired if case["exp_alerts"] else quiet).add(name)
    names = {rule["alert"] for rule in alerts()}
    assert fired == names
    assert quiet == names - {"Watchdog"}


def test_prometheus_reads_its_file():
    # Syntax only: the token's file is there when the installation runs.
    run(tool("promtool"), "check", "config", "--syntax-only", str(MONITORING / "prometheus.yml"))


@pytest.mark.parametrize(
    ("labels", "receiver"),
    [
        (["alertname=Watchdog", "severity=none"], "watchdog"),
        (["alertname=NoWorkers", "severity=critical"], "pager"),
        (["alertname=WorkflowFailureRateHigh", "severity=warning"], "operators"),
        (["alertname=Unheard"], "operators"),
    ],
)
def test_alertmanager_sends_by_severity(labels, receiver):
    path = str(MONITORING / "alertmanager.yml")
    assert run(tool("amtool"), "config", "routes", "test", f"--config.file={path}", *labels).strip() == receiver


def test_alertmanager_reads_its_file():
    assert "SUCCESS" in run(tool("amtool"), "check-config", str(MONITORING / "alertmanager.yml"))


def destinations_of(tmp_path, settings, **values):
    """Alertmanager's file for these destinations, and its receivers by name; amtool has found nothing wrong."""
    settings.ENV = settings.ENV.model_copy(update=read(values).model_dump(include=set(values)))
    path = tmp_path / "alertmanager.yml"
    call_command("alertmanager_config", str(path))
    assert "SUCCESS" in run(tool("amtool"), "check-config", str(path))
    return path, yaml.safe_load(path.read_text())


def test_an_operators_destinations_are_written_into_alertmanagers_file(tmp_path, settings):
    path, config = destinations_of(
        tmp_path, settings, ALERT_PAGER="https://pager.example/hook,mailto:ops@example.com",
        ALERT_OPERATORS="slack:https://hooks.slack.com/services/T/B/x", EMAIL_HOST="smtp.example.com",
        EMAIL_FROM="alerts@example.com", EMAIL_HOST_USER="alerts", EMAIL_HOST_PASSWORD="secret",
    )  # fmt: skip
    receivers = {one["name"]: one for one in config["receivers"]}
    assert receivers["pager"]["webhook_configs"][0]["url"] == "https://pager.example/hook"
    assert receivers["pager"]["email_configs"][0]["to"] == "ops@example.com"
    assert receivers["operators"]["slack_configs"][0]["api_url"] == "https://hooks.slack.com/services/T/B/x"
    assert set(receivers["watchdog"]) == {"name"}
    assert config["global"]["smtp_smarthost"] == "smtp.example.com:587"
    committed = load("alertmanager.yml")
    assert (config["route"], config["inhibit_rules"]) == (committed["route"], committed["inhibit_rules"])
    assert "127.0.0.1" not in path.read_text()
    assert path.stat().st_mode & 0o777 == 0o640
    for labels, receiver in ((["severity=critical"], "pager"), (["severity=info"], "operators")):
        command = ("config", "routes", "test", f"--config.file={path}", "alertname=X", *labels)
        assert run(tool("amtool"), *command).strip() == receiver


def test_who_is_told_by_nobody_is_named(tmp_path, settings, capsys):
    destinations_of(tmp_path, settings, ALERT_PAGER="https://pager.example/hook")
    said = capsys.readouterr().err
    assert said.splitlines() == [
        "operators: nobody is told; name somebody in ALERT_OPERATORS",
        "watchdog: nobody is told; name somebody in ALERT_WATCHDOG",
    ]


def test_mail_without_a_server_is_refused(tmp_path, settings):
    with pytest.raises(CommandError, match="set EMAIL_HOST"):
        destinations_of(tmp_path, settings, ALERT_PAGER="mailto:ops@example.com")


@pytest.mark.parametrize("wrong", ["ops", "slack:#ops", "mailto:ops", "ftp://x/secret", "https://"])
def test_a_destination_that_is_none_is_refused_by_its_setting_and_not_shown(wrong):
    with pytest.raises(UnsafeEnvironment, match=r"ALERT_OPERATORS=\(not shown\): .*number 2") as refused:
        read({"ALERT_OPERATORS": f"https://fine.example/secret,{wrong}"})
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize("name", DASHBOARDS)
def test_a_dashboard_can_be_imported(name):
    dashboard = json.loads((MONITORING / name).read_text())
    assert dashboard["uid"]
    assert dashboard["schemaVersion"] >= 39
    assert "id" not in dashboard
    ids = [panel["id"] for panel in dashboard["panels"]]
    assert len(ids) == len(set(ids))
    taken = set()
    for panel in dashboard["panels"]:
        assert panel["title"]
        assert panel["description"]
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken
        taken |= cells
        for target in panel["targets"]:
            assert target["datasource"]["uid"] == "${datasource}"
    variables = {variable["name"] for variable in dashboard["templating"]["list"]}
    used = set(re.findall(r"\$\{?(\w+)", json.dumps(dashboard["panels"])))
    assert used - {"__rate_interval", "__range"} <= variables


def test_grafana_is_provisioned_with_what_compose_mounts():
    source = yaml.safe_load((MONITORING / "grafana/provisioning/datasources/prometheus.yml").read_text())
    provider = yaml.safe_load((MONITORING / "grafana/provisioning/dashboards/platform.yml").read_text())
    compose = yaml.safe_load((ROOT / "compose.yaml").read_text())
    assert source["datasources"][0]["url"] == "http://prometheus:9090"
    folder = provider["providers"][0]["options"]["path"]
    mounted = [volume.split(":")[:2] for volume in compose["services"]["grafana"]["volumes"]]
    for name in DASHBOARDS:
        assert [f"./monitoring/{name}", f"{folder}/{name}"] in mounted
