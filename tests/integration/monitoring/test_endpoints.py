"""Metrics over HTTP: who may read them, in which format, and one by one; health and the runtime's status."""

import json
import os
import random
import re
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import pytest
from django.db import OperationalError
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from apps.executors.container.engine import sdk_version
from apps.monitoring import facts, families, health
from tests.integration.monitoring.rows import make_execution, make_workflow

pytestmark = [pytest.mark.django_db, pytest.mark.urls("tests.integration.monitoring.urls")]

OPENMETRICS = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
URLS = int(os.environ.get("A32_URLS", "600"))
READ = [
    "/monitoring/metrics",
    "/monitoring/metrics/dagger_workflow_executions_total",
    "/monitoring/dagger/metrics",
    "/monitoring/dagger/metrics/dagger_workers",
    "/monitoring/dagger/status",
]


@pytest.mark.parametrize("path", READ)
def test_a32_metrics_need_monitoring_read(path, anonymous, outsider, reader):
    assert anonymous.get(path).status_code == 401
    assert outsider.get(path).status_code == 403
    assert reader.get(path).status_code == 200


@pytest.mark.parametrize("path", READ)
def test_the_anonymous_role_opens_them(path, anonymous, set_env):
    set_env(ANONYMOUS_ROLE="guest")
    assert anonymous.get(path).status_code == 200


def test_a_slash_at_the_end_is_no_address_of_ours(reader):
    assert reader.get("/monitoring/metrics/").status_code == 404


def test_the_text_is_what_the_database_holds(reader):
    make_execution(make_workflow("report", "fetch"), tasks=[{"step_id": "fetch", "status": "completed"}], seconds=2)
    response = reader.get("/monitoring/metrics")
    assert response["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    text = response.content.decode()
    assert 'dagger_workflow_executions_total{status="completed",workflow_id="report"} 1.0\n' in text
    assert 'dagger_step_executions_total{status="completed",step_id="fetch",workflow_id="report"} 1.0\n' in text
    assert 'dagger_workflow_execution_duration_seconds_bucket{le="2.5",workflow_id="report"} 1.0\n' in text
    assert 'dagger_workflow_execution_duration_seconds_sum{workflow_id="report"} 2.0\n' in text
    assert "django_http_requests_before_middlewares_total" in text
    assert "process_resident_memory_bytes" in text
    assert "_created" not in text


@pytest.mark.parametrize("path", ["/monitoring/metrics", "/monitoring/dagger/metrics"])
def test_each_family_is_declared_once_and_parses(path, reader):
    make_execution(make_workflow("report", "fetch"), tasks=[{"step_id": "fetch", "status": "completed"}])
    text = reader.get(path).content.decode()
    for word in ("HELP", "TYPE"):
        declared = re.findall(rf"^# {word} (\S+)", text, re.MULTILINE)
        assert len(declared) == len(set(declared))
    assert {family.name for family in parse_text(text)} >= {
        declared.name.removesuffix("_total") for declared in families.FROM_THE_DATABASE
    }


def test_only_our_own_families_are_under_dagger(reader):
    names = {family.name for family in parse_text(reader.get("/monitoring/dagger/metrics").content.decode())}
    assert names <= {declared.name.removesuffix("_total") for declared in families.OURS}


def test_openmetrics_is_given_to_those_who_prefer_it(reader):
    make_workflow("report", "fetch")
    response = reader.get("/monitoring/metrics", headers={"Accept": OPENMETRICS})
    assert response["Content-Type"].startswith("application/openmetrics-text; version=1.0.0")
    text = response.content.decode()
    assert text.endswith("# EOF\n")
    assert text.count("# EOF") == 1
    assert len(list(parse_openmetrics(text))) > len(families.FROM_THE_DATABASE)


@pytest.mark.parametrize("accept", ["application/json", "text/html", "nonsense", ""])
def test_no_accept_header_is_refused(accept, reader):
    assert reader.get("/monitoring/metrics", headers={"Accept": accept}).status_code == 200


@pytest.mark.parametrize(
    ("name", "family"),
    [
        ("dagger_workflow_executions_total", "dagger_workflow_executions_total"),
        ("dagger_workflow_executions", "dagger_workflow_executions_total"),
        ("dagger_step_execution_duration_seconds", "dagger_step_execution_duration_seconds"),
        ("dagger_step_execution_duration_seconds_bucket", "dagger_step_execution_duration_seconds"),
        ("dagger_step_execution_duration_seconds_count", "dagger_step_execution_duration_seconds"),
        ("dagger_workers", "dagger_workers"),
        ("dagger_build_info", "dagger_build_info"),
        ("process_cpu_seconds_total", "process_cpu_seconds_total"),
        ("python_info", "python_info"),
    ],
)
def test_one_metric_by_the_name_of_its_family_or_of_a_sample(name, family, reader):
    make_workflow("report", "fetch")
    text = reader.get(f"/monitoring/metrics/{name}").content.decode()
    assert re.findall(r"^# (?:HELP|TYPE) (\S+)", text, re.MULTILINE) == [family, family]
    assert any(line.startswith(family) for line in text.splitlines())


@pytest.mark.parametrize(
    "path",
    [
        "/monitoring/metrics/nothing_of_this_name",
        "/monitoring/metrics/dagger_workers_total",
        "/monitoring/dagger/metrics/process_cpu_seconds_total",
    ],
)
@pytest.mark.parametrize("accept", ["", OPENMETRICS])
def test_a32_an_unknown_name_is_404(path, accept, reader):
    response = reader.get(path, headers={"Accept": accept})
    assert response.status_code == 404
    assert response["Content-Type"] == "application/problem+json"
    assert response.json()["code"] == "unknown_metric"


def test_an_unknown_name_asks_nothing_of_the_tables(reader, monkeypatch):
    monkeypatch.setattr(facts, "gather", lambda: pytest.fail("the tables were read"))
    assert reader.get("/monitoring/metrics/nothing_of_this_name").status_code == 404


@pytest.mark.urls("orchestration.urls")
def test_a32_random_urls_make_no_series(reader, anonymous, settings):
    """Names that callers make up, wherever a URL takes one: known routes are told apart, what is in them is not."""
    settings.ENV = settings.ENV.model_copy(update={"RATE_LIMIT_ENABLED": False})  # all of them are to come through
    chance = random.Random(32)
    shapes = ("/{}", "/monitoring/metrics/{}", "/monitoring/dagger/metrics/{}", "/monitoring/runbooks/{}", "/{}/{}/{}",
              "/workflows/{}", "/executions/{}", "/progress/{}", "/tasks/{}/why", "/static/{}")  # fmt: skip

    def ask(times):
        for number in range(times):
            made_up = [f"{chance.getrandbits(64):x}" for _ in range(3)]
            path = shapes[number % len(shapes)].format(*made_up) + f"?{made_up[0]}={made_up[1]}"
            client = (reader, anonymous)[number // len(shapes) % 2]
            method = ("GET", "POST")[number // (2 * len(shapes)) % 2]
            assert client.generic(method, path).status_code >= 400

    def series():
        answer = reader.get("/monitoring/metrics")
        assert answer.status_code == 200
        text = answer.content.decode()
        return {line.rpartition(" ")[0] for line in text.splitlines() if not line.startswith("#")}

    series()  # which is a request, too
    ask(400)
    before = series()
    ask(URLS)
    assert series() == before


def test_without_the_database_the_answer_is_503(reader, monkeypatch):
    def gather(_):
        raise OperationalError("could not connect to server at 10.0.0.7, user secret")

    monkeypatch.setattr(facts, "gather", gather)
    for path in ("/monitoring/metrics", "/monitoring/metrics/dagger_workers"):
        response = reader.get(path)
        assert response.status_code == 503
        assert "secret" not in response.content.decode()


def test_the_hosts_figures_are_there_from_the_first_scrape(reader):
    text = reader.get("/monitoring/dagger/metrics").content.decode()
    values = {family.name: family.samples for family in parse_text(text)}
    assert 0 <= values["dagger_cpu_usage_percent"][0].value <= 100
    assert 0 < values["dagger_memory_usage_bytes"][0].value < values["dagger_memory_limit_bytes"][0].value
    assert 0 < values["dagger_disk_usage_bytes"][0].value <= values["dagger_disk_size_bytes"][0].value
    assert set(values["dagger_build_info"][0].labels) == {"version", "python_version", "django_version"}


# --- health and status ----------------------------------------------------------------------------------------------


def test_health_is_open_and_says_only_its_status(anonymous, outsider):
    for client in (anonymous, outsider):
        assert client.get("/monitoring/health/live").json() == {"status": "ok"}
        assert client.get("/monitoring/health/ready").json() == {"status": "ok"}


@pytest.fixture
def _patient(monkeypatch):
    """A bell is heard at once; on a loaded machine once may be later than the second that an operator is told of."""
    monkeypatch.setattr(health, "BELL_SECONDS", 60.0)


@pytest.mark.usefixtures("_patient")
def test_those_who_may_read_monitoring_see_the_checks(reader):
    answer = reader.get("/monitoring/health/ready").json()
    assert answer["status"] == "ok"
    checks = {check["name"]: check for check in answer["checks"]}
    assert set(checks) == {"database", "disk", "channel_layer", "scheduler", "workers"}
    assert checks["channel_layer"]["ok"], checks["channel_layer"]["reason"]
    assert checks["scheduler"]["reason"] == "no worker has looked for due schedules yet"
    assert checks["database"]["ok"]
    assert checks["database"]["seconds"] >= 0
    assert not checks["workers"]["ok"]
    assert checks["workers"]["reason"].startswith("0 live, 0 draining, 0 lost")


def test_without_the_database_it_is_unavailable(anonymous, reader, monkeypatch):
    def down():
        raise OperationalError("connection to 10.0.0.7 refused")

    monkeypatch.setattr(health, "_database", down)
    response = anonymous.get("/monitoring/health/ready")
    assert (response.status_code, response.json()) == (503, {"status": "unavailable"})
    response = reader.get("/monitoring/health/ready")
    assert response.status_code == 503
    assert "10.0.0.7" not in response.content.decode()


@pytest.mark.usefixtures("_patient")
def test_a_full_disk_makes_it_unavailable(reader, monkeypatch):
    monkeypatch.setattr(health, "LEAST_FREE_BYTES", 1 << 62)
    response = reader.get("/monitoring/health/ready")
    assert response.status_code == 503
    assert [check["name"] for check in response.json()["checks"] if not check["ok"]] == ["disk", "scheduler", "workers"]


@pytest.mark.parametrize("header", ["Bearer nonsense", "Bearer", "Basic x"])
def test_a_credential_that_does_not_hold_spoils_no_probe(header, anonymous):
    for path in ("/monitoring/health/live", "/monitoring/health/ready"):
        response = anonymous.get(path, headers={"Authorization": header})
        assert (response.status_code, response.json()) == (200, {"status": "ok"})


def test_liveness_asks_nothing_of_the_database(anonymous, django_assert_num_queries):
    with django_assert_num_queries(0):
        assert anonymous.get("/monitoring/health/live").status_code == 200


@pytest.mark.parametrize(
    ("runtime", "words"),
    [
        ("none", ["CONTAINER_RUNTIME=none", "DOCKER_HOST"]),
        ("dagger", ["engine unavailable", "DAGGER_SESSION_PORT"]),
        ("docker", ["engine unavailable", "/none.sock", "podman system service"]),
    ],
)
def test_a_runtime_that_is_not_there_is_told_with_the_fix(runtime, words, reader, settings, set_env, tmp_path):
    settings.CONTAINER_RUNTIME = runtime
    set_env(DOCKER_HOST=f"unix://{tmp_path}/none.sock", DAGGER_SESSION_PORT=0)
    answer = reader.get("/monitoring/dagger/status").json()
    assert (answer["runtime"], answer["available"], answer["engine"]) == (runtime, False, "")
    assert all(word in answer["reason"] for word in words)


def test_the_engine_is_told_with_its_version(reader, outsider, settings, set_env):
    engine = fake_engine()
    with serving(engine) as port:
        settings.CONTAINER_RUNTIME = ""
        set_env(DAGGER_SESSION_PORT=port, DAGGER_SESSION_TOKEN="token")
        answer = reader.get("/monitoring/dagger/status").json()
        assert outsider.get("/monitoring/dagger/status").status_code == 403
    assert (answer["runtime"], answer["available"], answer["engine"]) == ("dagger", True, "Dagger")
    assert (answer["version"], answer["sdk_version"]) == (f"v{sdk_version()}", sdk_version())
    assert "token" not in answer["reason"]


def fake_engine():
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = json.dumps({"data": {"version": f"v{sdk_version()}"}}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    return Handler


@contextmanager
def serving(handler):
    server = HTTPServer(("127.0.0.1", 0), handler)
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server.server_port
    server.shutdown()
    server.server_close()
    thread.join()


def test_the_openapi_document_describes_them_without_a_warning(reader, capsys):
    from drf_spectacular.drainage import reset_generator_stats

    reset_generator_stats()
    response = reader.get("/schema", headers={"Accept": "application/vnd.oai.openapi+json"})
    document = json.loads(response.content)
    paths = {path: each["get"] for path, each in document["paths"].items() if "/monitoring" in path and "get" in each}
    assert len(paths) == 11
    assert set(paths["/monitoring/metrics"]["responses"]["200"]["content"]) == {
        "text/plain",
        "application/openmetrics-text",
    }
    assert "monitoring" not in capsys.readouterr().err
