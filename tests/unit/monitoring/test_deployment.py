"""Dockerfile and compose.yaml, read as text and YAML: no engine runs here, so what can be checked is what they say."""

import json
import re
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import kubernetes_validate
import pytest
import yaml

from orchestration.environment import Environment, read, unsafe_for_production

ROOT = Path(__file__).resolve().parents[3]
COMPOSE = yaml.safe_load((ROOT / "compose.yaml").read_text())
SERVICES = COMPOSE["services"]
DOCKERFILE = (ROOT / "Dockerfile").read_text()
PLATFORM = ("migrate", "server", "worker", "scrape-token")
REQUIRED = {"SECRET_KEY", "JWT_SIGNING_KEY", "POSTGRES_PASSWORD", "GRAFANA_PASSWORD"}


class Refused(Exception):
    """Compose would refuse to start, naming the variable."""


def interpolated(value, given):
    """Compose's `${NAME:-default}` and `${NAME:?message}`."""

    def one(match):
        name, kind, text = match.groups()
        if given.get(name):
            return given[name]
        if kind == ":?":
            raise Refused(f"{name}: {text}")
        return text or ""

    return re.sub(r"\$\{(\w+)(:[-?])?([^}]*)\}", one, value)


def environment(service, **given):
    return {name: interpolated(value, given) for name, value in SERVICES[service]["environment"].items()}


@pytest.mark.parametrize("name", sorted(REQUIRED))
def test_a_missing_secret_is_refused_by_name(name):
    given = dict.fromkeys(REQUIRED - {name}, "x" * 8)
    with pytest.raises(Refused, match=name):
        for service in SERVICES:
            environment(service, **given) if "environment" in SERVICES[service] else None


def test_no_secret_is_written_down():
    text = (ROOT / "compose.yaml").read_text()
    for name in ("PASSWORD", "KEY"):
        for value in re.findall(rf"^\s+\w*{name}: (.*)$", text, re.MULTILINE):
            assert value.startswith("${")
    assert not re.search(r"ENV .*(KEY|PASSWORD|TOKEN)", DOCKERFILE)


def test_production_accepts_what_compose_gives_it():
    given = {"SECRET_KEY": "0123456789abcdef" * 4, "JWT_SIGNING_KEY": "fedcba9876543210" * 4}
    for service in PLATFORM:
        values = environment(service, **given, POSTGRES_PASSWORD="letters1")
        env = read(values)
        assert unsafe_for_production(env, debug=False) == []
        assert {"localhost", "server"} <= set(env.ALLOWED_HOSTS)
        assert env.DATABASE_URL == "postgres://platform:letters1@postgres:5432/platform"


def test_compose_gives_only_settings_that_there_are():
    for service in PLATFORM:
        assert set(SERVICES[service]["environment"]) <= set(Environment.model_fields)


def test_a_setting_that_is_written_beside_compose_reaches_the_platform():
    """Else a key or a limit in `.env` would be silently ignored."""
    of_the_container = {"DATA_DIR", "HOST", "PORT", "WORKERS", "ADMIN_PASSWORD"}  # the last is `migrate`'s alone
    of_whoever_calls_compose = {"DOCKER_HOST", "DAGGER_SESSION_PORT", "DAGGER_SESSION_TOKEN"}
    named = set(SERVICES["server"]["environment"])
    assert set(Environment.model_fields) - named == of_the_container | of_whoever_calls_compose
    given = {"VAULT_KEYS": "WkpYWVpaWVpZWlpZWlpZWlpZWlpZWlpZWlpZWlpZWlo=", "RETENTION_DAYS": "7"}
    env = read(environment("server", **given, **dict.fromkeys(REQUIRED, "x")))
    assert ((given["VAULT_KEYS"],), 7) == (env.VAULT_KEYS, env.RETENTION_DAYS)


def test_whoever_needs_another_waits_until_it_is_ready():
    for name, service in SERVICES.items():
        for other, how in service.get("depends_on", {}).items():
            condition = how["condition"]
            assert other in SERVICES, name
            if condition == "service_completed_successfully":
                assert other in ("migrate", "alertmanager-config")
            else:
                assert condition == "service_healthy"
                built = SERVICES[other].get("build")
                assert "test" in SERVICES[other].get("healthcheck", {}) or (built and "HEALTHCHECK" in DOCKERFILE)


def test_every_mounted_file_is_there():
    for service in SERVICES.values():
        for volume in service.get("volumes", ()):
            source = volume.split(":")[0]
            assert (ROOT / source).exists() if source.startswith(".") else source in COMPOSE["volumes"]


def test_only_the_server_is_open_to_the_network():
    for name, service in SERVICES.items():
        for port in service.get("ports", ()):
            assert name == "server" or port.startswith("127.0.0.1:")


def test_the_broker_is_started_only_when_asked_for():
    assert [name for name, service in SERVICES.items() if "profiles" in service] == ["rabbitmq"]
    assert not any("rabbitmq" in service.get("depends_on", {}) for service in SERVICES.values())


def test_prometheus_asks_where_compose_listens():
    config = yaml.safe_load((ROOT / "monitoring/prometheus.yml").read_text())
    scrape = config["scrape_configs"][0]
    mounted = {volume.split(":")[1] for volume in SERVICES["prometheus"]["volumes"]}
    assert str(Path(scrape["authorization"]["credentials_file"]).parent) in mounted
    assert SERVICES["scrape-token"]["command"][-1] == scrape["authorization"]["credentials_file"]
    for target in (*scrape["static_configs"][0]["targets"],
                   *config["alerting"]["alertmanagers"][0]["static_configs"][0]["targets"]):  # fmt: skip
        assert target.split(":")[0] in SERVICES
    assert "0.0.0.0" in DOCKERFILE


def test_alertmanager_reads_what_the_platform_writes_for_it():
    written, read = SERVICES["alertmanager-config"], SERVICES["alertmanager"]
    path = written["command"][-1]
    assert f"--config.file={path}" in read["command"]
    (volume,) = written["volumes"]
    assert f"{volume}:ro" in read["volumes"]
    assert Path(path).parent == Path(volume.split(":")[1])
    assert "/run/alertmanager\n" in DOCKERFILE
    assert read["group_add"] == re.findall(r"--gid (\d+) platform", DOCKERFILE)


def test_compose_waits_for_a_server_that_is_ready():
    assert "/monitoring/health/ready" in str(SERVICES["server"]["healthcheck"]["test"])


def test_the_image_runs_as_nobody_in_particular_and_in_production():
    assert re.findall(r"^USER (\S+)", DOCKERFILE, re.MULTILINE) == ["platform"]
    assert "DJANGO_SETTINGS_MODULE=orchestration.settings.prod" in DOCKERFILE
    assert "/monitoring/health/live" in DOCKERFILE
    assert DOCKERFILE.index("COPY requirements.txt") < DOCKERFILE.index("pip install") < DOCKERFILE.index("COPY . .")


@pytest.mark.parametrize(("status", "code"), [(200, 0), (400, 1), (503, 1)])
def test_the_health_check_asks_for_liveness_under_an_allowed_name(status, code):
    asked = []

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append((self.path, self.headers["Host"]))
            self.send_response(status)
            self.end_headers()

        def log_message(self, *_):
            pass

    with HTTPServer(("127.0.0.1", 0), Answer) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        command = json.loads(
            re.search(r"HEALTHCHECK .* CMD (\[.*?\])$", DOCKERFILE.replace("\\\n", ""), re.MULTILINE)[1]
        )
        given = {"PORT": str(server.server_port), "ALLOWED_HOSTS": ".example.org, other"}
        done = subprocess.run([sys.executable, *command[1:]], env=given, capture_output=True, timeout=120, check=False)
        server.shutdown()
    assert asked == [("/monitoring/health/live", "example.org")]
    assert done.returncode == code


def test_the_image_is_made_of_what_is_there():
    kept = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    assert {"manage.py", "requirements.txt", "apps", "orchestration"} <= set(kept)
    assert all((ROOT / name).exists() for name in kept)


def test_kubernetes_probes_ask_the_endpoints_of_health():
    parts = list(yaml.safe_load_all((ROOT / "deploy/kubernetes/platform.yaml").read_text()))
    assert all({"apiVersion", "kind", "metadata"} <= set(part) for part in parts)
    names = [(part["kind"], part["metadata"]["name"]) for part in parts]
    assert len(names) == len(set(names))
    pods = {part["metadata"]["name"]: part["spec"]["template"] for part in parts if "template" in part.get("spec", {})}
    assert set(pods) == {"platform-migrate", "platform-server", "platform-worker"}
    config = next(part for part in parts if part["kind"] == "ConfigMap")
    known = set(Environment.model_fields)
    assert set(config["data"]) <= known
    for name, template in pods.items():
        for container in template["spec"]["containers"]:
            assert container["image"] == pods["platform-server"]["spec"]["containers"][0]["image"]
            assert [next(iter(one)) for one in container["envFrom"]] == ["configMapRef", "secretRef"]
        if name == "platform-migrate":
            continue
        deployment = next(part for part in parts if part["metadata"]["name"] == name)
        assert deployment["spec"]["selector"]["matchLabels"] == template["metadata"]["labels"]
        assert template["spec"]["terminationGracePeriodSeconds"] > 30
    (server,) = pods["platform-server"]["spec"]["containers"]
    asked = {probe: server[probe]["httpGet"]["path"] for probe in ("livenessProbe", "readinessProbe", "startupProbe")}
    assert asked == {
        "livenessProbe": "/monitoring/health/live",
        "readinessProbe": "/monitoring/health/ready",
        "startupProbe": "/monitoring/health/live",
    }
    ports = {port["name"]: port["containerPort"] for port in server["ports"]}
    service = next(part for part in parts if part["kind"] == "Service")
    assert service["spec"]["ports"][0]["targetPort"] in ports
    hosts = config["data"]["ALLOWED_HOSTS"].split(",")
    assert all(
        header["value"] in hosts
        for probe in asked
        for header in server[probe]["httpGet"]["httpHeaders"]
        if header["name"] == "Host"
    )


@pytest.mark.parametrize("version", ["1.25", "1.37"])
def test_kubernetes_knows_every_field_of_its_file(version):
    parts = list(yaml.safe_load_all((ROOT / "deploy/kubernetes/platform.yaml").read_text()))
    for part in parts:
        kubernetes_validate.validate(part, version, strict=True)  # raises, and names the field
    probe = parts[2]["spec"]["template"]["spec"]["containers"][0]["readinessProbe"]
    probe["periodSecond"] = probe.pop("periodSeconds")
    with pytest.raises(kubernetes_validate.ValidationError, match="periodSecond"):
        kubernetes_validate.validate(parts[2], version, strict=True)
