"""The real tools on loopback: Prometheus, Alertmanager and an OTLP receiver watch a platform under load, then broken.

Prints what came: each panel's series, and the times at which an alert passed each station on its way.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest
import yaml
from websockets.sync.client import connect

from apps.monitoring.alerts import files
from tests.e2e.conftest import PATIENCE, ROOT, Installation
from tests.e2e.test_make_run import ended, execute, until
from tests.support.postgres import free_port
from tests.support.receiver import Receiver, attributes

MONITORING = ROOT / "monitoring"
DASHBOARDS = ("grafana-dagger-dashboard.json", "grafana-dagger-advanced-dashboard.json")
WAIT_SECONDS = 5  # the `for` of the rule that is broken on purpose; the others are as committed
OPENMETRICS = "application/openmetrics-text;version=1.0.0"


def tool(name):
    if shutil.which(name) is None:
        if os.environ.get("CI") == "true":
            pytest.fail(f"{name} is not installed: apt-get install prometheus prometheus-alertmanager")
        pytest.skip(f"{name} is not installed")
    return name


class Hook:
    """Where Alertmanager delivers."""

    def __init__(self):
        self.got = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                outer.got.append((time.time(), self.path, json.loads(body)))
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def stop(self):
        self._server.shutdown()
        self._server.server_close()

    def first(self, name, status):
        """When an alert of this name came with this status, and where to."""
        for at, path, body in list(self.got):
            for alert in body["alerts"]:
                if alert["labels"]["alertname"] == name and alert["status"] == status:
                    return at, path
        return None


class Stack:
    """Everything, started and stopped by its own process ids."""

    def __init__(self, directory):
        self.directory = directory
        self.prometheus, self.alertmanager = (f"http://127.0.0.1:{free_port()}" for _ in range(2))
        self.hook, self.collector = Hook(), Receiver()
        self.platform = Installation(
            directory, WORKERS="0", PROMETHEUS_URL=self.prometheus, ALERTMANAGER_URL=self.alertmanager,
            DAGGER_TRACING_ENABLED="true", DAGGER_OTLP_ENDPOINT=self.collector.endpoint,
            HTTP_STEP_ALLOWED_HOSTS="127.0.0.1",
            PLATFORM_URL="http://platform.example", OTEL_BSP_SCHEDULE_DELAY="500",
            RATE_LIMIT_LOGIN="600/m",  # the load types wrong passwords from the address that logs in
        )  # fmt: skip
        self.running, self.worker = [], None

    def start(self):
        token, routes = self.directory / "token", self.directory / "alertmanager.yml"
        hook = f"http://127.0.0.1:{self.hook.port}"
        destinations = {f"ALERT_{name.upper()}": f"{hook}/{name}" for name in ("pager", "operators", "watchdog")}
        with ThreadPoolExecutor(1) as pool:
            written = pool.submit(self.manage, "alertmanager_config", str(routes), **destinations)
            self.platform.start()
            self.manage("scrape_token", "--once", str(token))
            written.result()
        config = yaml.safe_load((MONITORING / "prometheus.yml").read_text())
        config["global"] |= {"scrape_interval": "2s", "scrape_timeout": "2s", "evaluation_interval": "1s"}
        config["alerting"]["alertmanagers"][0]["static_configs"][0]["targets"] = [self.alertmanager.split("//")[1]]
        scraped = config["scrape_configs"][0]
        scraped["authorization"]["credentials_file"] = str(token)
        scraped["static_configs"][0]["targets"] = [f"127.0.0.1:{self.platform.port}"]
        (self.directory / "prometheus.yml").write_text(yaml.safe_dump(config))
        (self.directory / "alerting_rules.yml").write_text(files.rules(waits={"NoWorkers": WAIT_SECONDS}))
        patient = {"group_interval: 5m": "group_interval: 1s", "group_wait: 10s": "group_wait: 1s"}
        text = routes.read_text()
        for before, after in patient.items():
            assert before in text
            text = text.replace(before, after)
        routes.write_text(text)
        self.run(
            tool("prometheus-alertmanager"), f"--config.file={self.directory}/alertmanager.yml",
            f"--storage.path={self.directory}/am", f"--web.listen-address={self.alertmanager.split('//')[1]}",
            "--cluster.listen-address=",
        )  # fmt: skip
        self.run(
            tool("prometheus"), f"--config.file={self.directory}/prometheus.yml",
            f"--storage.tsdb.path={self.directory}/tsdb", f"--web.listen-address={self.prometheus.split('//')[1]}",
            "--enable-feature=exemplar-storage",
        )  # fmt: skip
        for url in (self.prometheus, self.alertmanager):
            until(lambda url=url: ready(url))
        return self

    def run(self, *command):
        log = (self.directory / f"{command[0]}.log").open("wb")
        self.running.append(subprocess.Popen(command, stdout=log, stderr=log))

    def manage(self, *command, **values):
        environment = {**self.platform.environment, **values}
        subprocess.run([sys.executable, "manage.py", *command], cwd=ROOT, env=environment, check=True, timeout=300)

    def work(self):
        log = (self.directory / "worker.log").open("ab")
        self.worker = subprocess.Popen(
            [sys.executable, "manage.py", "worker"], cwd=ROOT, env=self.platform.environment, stdout=log, stderr=log
        )

    def stop_working(self):
        self.worker.terminate()
        self.worker.wait(PATIENCE)

    def stop(self):
        for process in [*self.running, *([self.worker] if self.worker else [])]:
            if process.poll() is None:
                process.terminate()
                process.wait(PATIENCE)
        self.platform.stop()
        self.hook.stop()
        self.collector.stop()

    def query(self, expression):
        answer = httpx.get(f"{self.prometheus}/api/v1/query", params={"query": expression}, timeout=PATIENCE).json()
        assert answer["status"] == "success", (expression, answer)
        return answer["data"]["result"]


def ready(url):
    try:
        return httpx.get(f"{url}/-/ready", timeout=10).status_code == 200
    except httpx.HTTPError:
        return False


@pytest.fixture(scope="module")
def stack(tmp_path_factory):
    tool("prometheus"), tool("prometheus-alertmanager")
    made = Stack(tmp_path_factory.mktemp("stack"))
    try:
        yield made.start()
    finally:
        made.stop()


def step(identity, *depends_on, **values):
    return {"id": identity, "depends_on": list(depends_on), **values}


ESTIMATED = {"name": "Estimated", "steps": [step("a", python={"call": "builtin.sleep", "with": {"seconds": 5}})]}
GOOD = {
    "name": "Good",
    "steps": [step("a", python="builtin.noop", circuit_breaker="warehouse"), step("b", "a", python="builtin.noop")],
}
RETRIED = {
    "name": "Retried",
    "steps": [step("a", python={"call": "builtin.fail", "with": {"times": 1}}, retries=2, retry_delay=0)],
}
BAD = {"name": "Bad", "steps": [step("a", python={"call": "builtin.fail", "with": {"times": 9}})]}
BROKEN = {
    "name": "Broken",
    "steps": [step("a", circuit_breaker="flaky", python={"call": "builtin.fail", "with": {"times": 9}})],
}
# A command that traces by itself, as any program with OpenTelemetry may: it goes on where TRACEPARENT says.
TRACING_COMMAND = """
import os
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
provider = TracerProvider(resource=Resource.create({"service.name": "a-command"}))
provider.add_span_processor(SimpleSpanProcessor(OTLPSpanExporter(endpoint=os.environ["COLLECTOR"], insecure=True)))
context = TraceContextTextMapPropagator().extract({"traceparent": os.environ["TRACEPARENT"]})
provider.get_tracer("t").start_span("of the command", context=context).end()
"""


def traced(stack):
    """Steps of which one is tried twice, one is a command that traces, one asks the platform itself."""
    command = step("command", "a", command=[sys.executable, "-c", TRACING_COMMAND])
    command["environment"] = {"COLLECTOR": stack.collector.endpoint}
    request = step("request", "a", http={"url": f"{stack.platform.base}/auth/me", "expect": [401]})
    return {"name": "Traced", "steps": [*RETRIED["steps"], command, request]}


SLOW = {"name": "Slow", "steps": [step("a", python={"call": "builtin.sleep", "with": {"seconds": 60}})]}


def load(stack, client, over):
    """Successes, failures, retries, cancels, a socket, wrong passwords; new ones while Prometheus scrapes."""
    url = f"{stack.platform.base.replace('http', 'ws')}/progress/ws"
    bearer = {"Authorization": f"Bearer {client.token}"}
    with connect(url, additional_headers=bearer, ping_interval=None, open_timeout=PATIENCE):
        while not over.is_set():
            for definition in (GOOD, RETRIED, BAD, BROKEN):
                execute(client, definition)
            cancelled = execute(client, SLOW)
            client.post(f"/executions/{cancelled}/cancel")
            httpx.post(
                f"{stack.platform.base}/auth/token", data={"username": "admin", "password": "no"}, timeout=PATIENCE
            )
            over.wait(0.5)


def estimated(stack):
    """An estimate that was told, of an execution that has ended since. Learnt at once: workers take their time."""
    client = stack.platform.client()
    learn = ("shell", "-c", "from apps.workflows.services.estimates import fold_due; fold_due()")
    for execution in [execute(client, ESTIMATED) for _ in range(3)]:
        ended(client, execution)
    stack.manage(*learn)
    execution = execute(client, ESTIMATED)
    until(lambda: client.get(f"/progress/{execution}").json()["started_at"])
    assert client.get(f"/progress/{execution}/estimate").json()["p50"] is not None
    ended(client, execution)
    stack.manage(*learn)


def series_of(stack):
    """(title, how many series with a number each of its queries finds) of every panel now."""
    rows = []
    for name in DASHBOARDS:
        for panel in json.loads((MONITORING / name).read_text())["panels"]:
            found = []
            for target in panel["targets"]:
                expression = target["expr"].replace("$__rate_interval", "20s").replace("$__range", "2m")
                result = stack.query(expression.replace("$workflow", ".*"))
                found.append(sum(one["value"][1] != "NaN" for one in result))
            rows.append((panel["title"], found))
    return rows


def test_every_panel_shows_data_of_a_platform_under_load(stack):
    stack.work()
    client = stack.platform.client()
    over = threading.Event()

    def empty():
        return [title for title, found in series_of(stack) if not all(found)]

    with ThreadPoolExecutor(2) as pool:
        loading, telling = pool.submit(load, stack, client, over), pool.submit(estimated, stack)
        began = time.monotonic()
        while (without := empty()) and not loading.done() and time.monotonic() < began + 180:
            time.sleep(0.5)
        over.set()
        loading.result(), telling.result()
    assert without == []
    rows = series_of(stack)
    for title, found in rows:
        print(f"  {title:<33} {sum(found):>4} series of {len(found)} queries")
    series = sum(sum(found) for _, found in rows)
    print(f"panels {len(rows)}, series {series}, empty = {len(without)} after {time.monotonic() - began:.0f} s")


def test_an_exemplar_leads_to_a_received_span(stack):
    if stack.worker is None or stack.worker.poll() is not None:
        stack.work()
    client = stack.platform.client()
    execution = execute(client, GOOD)
    ended(client, execution)

    def exemplars():
        text = client.get("/monitoring/dagger/metrics", headers={"Accept": OPENMETRICS}).text
        found = re.findall(r'^dagger_(\w+)_bucket.* # \{span_id="(\w+)",trace_id="(\w+)"\}', text, re.MULTILINE)
        return found if len({family for family, _, _ in found}) == 2 else None

    found = until(exemplars)
    assert {family for family, _, _ in found} == {
        "workflow_execution_duration_seconds", "step_execution_duration_seconds"
    }  # fmt: skip

    def received():
        spans = {
            (span.span_id.hex(), span.trace_id.hex()): span
            for batch in stack.collector.batches
            for resource in batch.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        }
        hit = {family: spans[span, trace] for family, span, trace in found if (span, trace) in spans}
        return hit if len(hit) == 2 else None

    hit = until(received)
    names = sorted(span.name for span in hit.values())
    assert re.fullmatch(r"RUN \S+", names[0])
    assert re.fullmatch(r"run_step \S+", names[1])


def test_one_execution_is_one_trace_across_its_processes(stack):
    if stack.worker is None or stack.worker.poll() is not None:
        stack.work()
    client = stack.platform.client()
    trace = "0af7651916cd43dd8448eb211c80319c"
    client.headers["traceparent"] = f"00-{trace}-b7ad6b7169203331-01"
    execution = execute(client, traced(stack))
    del client.headers["traceparent"]
    ended(client, execution)

    def received():
        found = [
            (attributes(resource.resource)["service.name"], span)
            for batch in stack.collector.batches
            for resource in batch.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
            if span.trace_id.hex() == trace
        ]
        ids = {span.span_id for _, span in found}
        named = {span.name: span for _, span in found}
        missing = wanted - Counter(span.name for _, span in found)
        # Each process sends its spans by itself: the server those of the request that began it and of the step's own.
        whole = not missing and named["RUN traced"].parent_span_id in ids
        asked = whole and any(span.parent_span_id == named["GET"].span_id for _, span in found)
        return found if asked else None

    wanted = Counter(["RUN traced", *["run_step a"] * 2, "run_step command", "exec", "of the command",
                      "run_step request", "GET"])  # fmt: skip
    found = until(received)
    spans = {span.span_id: span for _, span in found}
    for service, span in sorted(found, key=lambda one: one[1].start_time_unix_nano):
        parent = spans[span.parent_span_id].name if span.parent_span_id in spans else span.parent_span_id.hex() or "-"
        print(f"  {service:<34} {span.name:<34} under {parent}")
    assert {service.rsplit("-", 1)[1] for service, _ in found} == {"server", "worker", "command"}
    under = {span.name: spans[span.parent_span_id].name for span in spans.values() if span.parent_span_id in spans}
    assert re.fullmatch(r"POST \S*workflows/\S+/execute\S*", under.pop("RUN traced"))
    (own,) = (name for name, parent in under.items() if parent == "GET")
    assert re.fullmatch(r"GET \S*auth/me\S*", own)
    del under[own]
    assert under == {
        "run_step a": "RUN traced", "run_step command": "RUN traced", "run_step request": "RUN traced",
        "exec": "run_step command", "of the command": "exec", "GET": "run_step request",
    }  # fmt: skip
    attempts = sorted(
        (span for _, span in found if span.name == "run_step a"), key=lambda one: one.start_time_unix_nano
    )
    assert attempts[1].links[0].span_id == attempts[0].span_id


def test_an_alert_passes_every_station_and_ends(stack):
    if stack.worker is not None and stack.worker.poll() is None:
        stack.stop_working()
    client = stack.platform.client()
    began = time.time()
    stations = []

    def reached(station, look, seconds=150):
        until(look, seconds)
        stations.append((station, time.time() - began))

    def in_prometheus(state):
        alerts = httpx.get(f"{stack.prometheus}/api/v1/alerts", timeout=PATIENCE).json()["data"]["alerts"]
        return any(one["labels"]["alertname"] == "NoWorkers" and one["state"] == state for one in alerts)

    def in_alertmanager():
        alerts = httpx.get(f"{stack.alertmanager}/api/v2/alerts", timeout=PATIENCE).json()
        return any(one["labels"]["alertname"] == "NoWorkers" for one in alerts)

    def told():
        answer = client.get("/monitoring/alerts?name=NoWorkers").json()
        if answer["upstream_error"] is not None:
            return None  # Alertmanager took longer than its two seconds, on a machine that others load
        return [one for one in answer["alerts"] if "alertmanager" in one["source"]]

    execution = execute(client, GOOD)  # broken on purpose: nobody is there to perform it
    reached("pending in Prometheus", lambda: in_prometheus("pending"))
    reached("firing in Prometheus", lambda: in_prometheus("firing"))
    reached("in Alertmanager", in_alertmanager)
    reached("at /monitoring/alerts", told)
    reached("webhook delivered", lambda: stack.hook.first("NoWorkers", "firing"))
    assert stack.hook.first("NoWorkers", "firing")[1] == "/pager"
    (alert,) = until(told)
    assert alert["state"] == "firing"
    assert alert["annotations"]["runbook_url"].endswith("/monitoring/runbooks/NoWorkers")
    stack.work()
    assert ended(client, execution)["status"] == "completed"
    reached("gone from Prometheus", lambda: not in_prometheus("firing"))
    reached("gone from /monitoring/alerts", lambda: told() == [])
    reached("webhook told of the end", lambda: stack.hook.first("NoWorkers", "resolved"))
    for station, seconds in stations:
        print(f"  {seconds:6.1f} s  {station}")
