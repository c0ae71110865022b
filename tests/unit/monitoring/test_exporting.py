"""With a collector that is dead or hangs nobody waits, a process ends in time, and the log says it once."""

import logging
import os
import socket
import subprocess
import sys
import time

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from apps.monitoring.tracing.exporting import Door, ExporterState
from apps.monitoring.tracing.provider import is_insecure
from tests.support.receiver import Receiver, attributes

PROGRAM = """
import resource, sys, time
import django
django.setup()
from apps.monitoring import tracing
from django.conf import settings
settings.ENV = settings.ENV.model_copy(update={"DAGGER_TRACING_ENABLED": True, "DAGGER_OTLP_ENDPOINT": sys.argv[1]})
tracing.configure(service=sys.argv[2])

@tracing.trace_function(name="work")
def work():
    pass

def preempted():
    return resource.getrusage(resource.RUSAGE_THREAD).ru_nivcsw

took, worst, before = [], 0.0, preempted()
for number in range(int(sys.argv[3])):
    began = time.perf_counter()
    work()
    seconds = time.perf_counter() - began
    worst = max(worst, seconds)
    if before == (before := preempted()):  # else somebody else had the processor meanwhile
        took.append(seconds)
took = sorted(took) or [worst]
print(worst, took[len(took) * 99 // 100], time.monotonic(), flush=True)
"""


def run(endpoint, *, spans=3_000, service="worker"):
    """(worst call and the 99th of a hundred in seconds, from the last line to the end, what it wrote to stderr)."""
    environment = {**os.environ, "DJANGO_SETTINGS_MODULE": "orchestration.settings.test", "LOG_LEVEL": "INFO"}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, endpoint, service, str(spans)],
        capture_output=True, text=True, env=environment, timeout=240, check=True,
    )  # fmt: skip
    ended = time.monotonic()
    worst, p99, last = map(float, done.stdout.split())
    return worst, p99, ended - last, done.stderr


def held_up(endpoint):
    """The same; what others do on the machine falls on one of some runs, a collector that is waited for on each."""
    for _ in range(3):
        found = run(endpoint)
        if found[0] <= WORST and found[1] <= P99 and found[2] <= ENDS_WITHIN:
            break
    return found


WORST, P99 = 1.5, 0.005  # seconds that A33 allows; a span takes some 30 µs
ENDS_WITHIN = 8.0  # far above the 3 s it takes at most on a machine of its own, far below a hang


@pytest.fixture
def silent():
    """A port that accepts connections and never says a word."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(50)
        yield f"127.0.0.1:{listening.getsockname()[1]}"


@pytest.fixture
def dead():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{taken.getsockname()[1]}"


def test_a33_a_dead_collector_holds_nothing_up(dead):
    worst, p99, ending, log = held_up(dead)
    assert ending <= ENDS_WITHIN
    assert worst <= WORST
    assert p99 <= P99
    assert log.count("does not answer") == 1
    assert "Traceback" not in log
    assert log.count("\n") == 1


def test_a33_a_hanging_collector_holds_nothing_up(silent):
    worst, p99, ending, log = held_up(silent)
    assert ending <= ENDS_WITHIN
    assert worst <= WORST
    assert p99 <= P99
    assert log.count("\n") == log.count("does not answer") <= 1
    assert "Traceback" not in log


def test_a33_a_living_collector_gets_the_last_span_of_a_process():
    receiver = Receiver()
    try:
        run(receiver.endpoint, spans=1)
        assert "work" in receiver.spans()
        (resource,) = receiver.resources()
        assert resource["service.name"] == "ai-orchestration-platform-worker"
    finally:
        receiver.stop()


REQUESTS = """
import asyncio, sys
from django.conf import settings
settings.ENV = settings.ENV.model_copy(update={"DAGGER_TRACING_ENABLED": True, "DAGGER_OTLP_ENDPOINT": sys.argv[1]})
settings.ROOT_URLCONF = "tests.integration.monitoring.urls"
from apps.monitoring import tracing
tracing.configure(service="server")
from django.core.asgi import get_asgi_application
application = get_asgi_application()

async def get(path, query=b""):
    scope = {"type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "GET", "path": path,
             "raw_path": path.encode(), "query_string": query, "root_path": "", "scheme": "http",
             "server": ("localhost", 80), "client": ("127.0.0.1", 1),
             "headers": [(b"host", b"localhost"), (b"authorization", b"Bearer hunter2"), (b"user-agent", b"hunter2"),
                         (b"traceparent", b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")]}
    answer = []
    async def receive():
        return {"type": "http.request", "body": b"", "more_body": False}
    async def send(message):
        answer.append(message)
    task = asyncio.ensure_future(application(scope, receive, send))
    await asyncio.wait([task], timeout=120)

async def main():
    await get("/plain", b"token=hunter2")
    await get("/broken", b"token=hunter2")
    await get("/monitoring/health/live")
asyncio.run(main())
"""


def test_a33_requests_are_traced_without_query_header_or_text():
    receiver = Receiver()
    try:
        environment = {**os.environ, "DJANGO_SETTINGS_MODULE": "orchestration.settings.test"}
        subprocess.run([sys.executable, "-c", REQUESTS, receiver.endpoint], env=environment, timeout=240, check=True)
        spans = receiver.spans()
        assert set(spans) == {"GET plain", "GET broken"}
        assert attributes(spans["GET plain"])["http.route"] == "plain"
        assert spans["GET plain"].trace_id.hex() == "0af7651916cd43dd8448eb211c80319c"
        assert spans["GET plain"].parent_span_id.hex() == "b7ad6b7169203331"
        text = receiver.text()
        assert "hunter2" not in text
        assert "what a user wrote" not in text
        assert "Traceback" not in text
    finally:
        receiver.stop()


class Fickle(SpanExporter):
    """Takes batches, or does not."""

    def __init__(self):
        self.taking = True
        self.batches = 0

    def export(self, spans):
        self.batches += 1
        if self.taking is None:
            raise OSError("unforeseen")
        return SpanExportResult.SUCCESS if self.taking else SpanExportResult.FAILURE


@pytest.fixture
def door(caplog):
    caplog.set_level(logging.INFO, logger="apps.monitoring.tracing.exporting")
    clock = [0.0]
    exporter, state = Fickle(), ExporterState()
    spans = [TracerProvider(shutdown_on_exit=False).get_tracer("t").start_span("s")]

    def export(*, after=0.0):
        clock[0] += after
        made.export(spans)
        return [record.levelname for record in caplog.records]

    made = Door(exporter, endpoint="collector:4317", state=state, clock=lambda: clock[0])
    return exporter, state, export


def test_a_change_of_the_collectors_state_is_logged_once(door):
    exporter, state, export = door
    exporter.taking = False
    for _ in range(5):
        assert export(after=10) == ["WARNING"]
    assert (state.up, state.dropped) == (False, 5)
    exporter.taking = True
    for _ in range(5):
        assert export(after=10) == ["WARNING", "INFO"]
    assert (state.up, state.dropped) == (True, 5)
    exporter.taking = None
    assert export() == ["WARNING", "INFO", "WARNING"]


def test_after_a_failure_batches_are_let_go_without_trying(door):
    exporter, state, export = door
    exporter.taking = False
    export()
    export(after=1)
    export(after=1)
    assert (exporter.batches, state.dropped) == (1, 3)
    export(after=5)
    assert exporter.batches == 2


@pytest.mark.parametrize(
    ("endpoint", "insecure"),
    [("localhost:4317", True), ("http://collector:4317", True), ("https://c:4317", False), ("HTTPS://c:4317", False)],
)
def test_an_endpoint_without_a_scheme_is_in_the_clear(endpoint, insecure):
    assert is_insecure(endpoint) is insecure
