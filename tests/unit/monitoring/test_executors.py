"""What an executor does is a span under its attempt's, and whoever it starts or calls is told of that span."""

import asyncio

import pytest
from opentelemetry.trace import SpanKind

from apps.executors import Options, StepCall
from apps.executors.guard import Guard
from apps.executors.http import HttpExecutor
from apps.executors.process import ProcessExecutor
from apps.monitoring.tracing import around_attempt
from tests.support.receiver import attributes
from tests.unit.executors.conftest import Remembered
from tests.unit.executors.http_server import Server

TRACE = "0af7651916cd43dd8448eb211c80319c"
CLIENT = 3  # of OTLP
ERROR = 2


def call(kind, config):
    return StepCall(
        kind=kind, config=config, attempt=1, task_key="t1", attempt_key="t1:1", workflow_id="report",
        execution_id="e1", step_id="fetch",
    )  # fmt: skip


async def performed(executor, kind, config, sink=None):
    given = call(kind, config)
    with around_attempt(given, TRACE) as attempt:
        result = await executor.run(given, sink or Remembered())
        attempt.finish(result)
    return result


@pytest.fixture
async def http(tmp_path):
    made = HttpExecutor(Options(process_steps="off", work_dir=tmp_path, http_allowed_hosts=frozenset({"127.0.0.1"})))
    yield made
    await made.close()


@pytest.fixture
async def process(tmp_path):
    guard = Guard(tmp_path)
    yield ProcessExecutor(Options(process_steps="trusted", work_dir=tmp_path), guard)
    await asyncio.to_thread(guard.close)


@pytest.fixture
async def server():
    made = Server()
    await made.start()
    yield made
    await made.stop()


async def test_a_server_is_told_of_the_request_and_the_span_tells_no_address(http, server, receiver, received):
    server.answers["/a?token=hunter2"] = (200, {"X-Secret": "hunter2"}, b"hunter2")
    config = {"url": server.url("/a?token=hunter2"), "auth": {"bearer": "hunter2"}, "method": "POST", "body": "hunter2"}
    assert (await performed(http, "http", config)).error is None
    spans = received()
    request, step = spans["POST"], spans["run_step fetch"]
    assert request.parent_span_id == step.span_id
    assert request.kind == CLIENT == SpanKind.CLIENT.value + 1
    assert attributes(request) == {"http.request.method": "POST", "http.response.status_code": 200}
    assert server.asked[0].headers["traceparent"] == f"00-{TRACE}-{request.span_id.hex()}-01"
    assert not {"tracestate", "baggage"} & set(server.asked[0].headers)
    assert "hunter2" not in receiver.text()
    assert "127.0.0.1" not in receiver.text()


async def test_a_traceparent_of_the_steps_own_stands(http, server, receiver):
    server.answers["/"] = (200, {}, b"")
    own = f"00-{'1' * 32}-{'2' * 16}-01"
    await performed(http, "http", {"url": server.url("/"), "headers": {"Traceparent": own}})
    assert server.asked[0].headers["traceparent"] == own


async def test_each_request_of_a_redirect_is_a_span_of_its_own(http, server, received):
    server.answers["/old"] = (302, {"Location": server.url("/new")}, b"")
    server.answers["/new"] = (500, {}, b"no")
    assert (await performed(http, "http", {"url": server.url("/old")})).error.type == "http_status"
    first, second = (asked.headers["traceparent"] for asked in server.asked)
    assert first != second
    last = received()["GET"]
    assert second == f"00-{TRACE}-{last.span_id.hex()}-01"
    assert attributes(last) == {
        "http.request.method": "GET", "http.response.status_code": 500, "error.type": "http_status",
    }  # fmt: skip
    assert last.status.code == ERROR


async def test_without_a_trace_nobody_is_told_of_one(http, server, process, received):
    server.answers["/"] = (200, {}, b"")
    assert (await http.run(call("http", {"url": server.url("/")}), Remembered())).error is None
    sink = Remembered()
    await process.run(call("process", {"command": ["env"]}), sink)
    assert "traceparent" not in server.asked[0].headers
    assert "TRACEPARENT" not in sink.text()
    assert received() == {}


async def test_a_command_is_told_of_its_exec(process, receiver, received):
    sink = Remembered()
    config = {"command": ["sh", "-c", "env; exit 3"], "environment": {"PASSWORD": "hunter2"}}
    assert (await performed(process, "process", config, sink)).error.exit_code == 3
    spans = received()
    inner, step = spans["exec"], spans["run_step fetch"]
    assert inner.parent_span_id == step.span_id
    assert f"TRACEPARENT=00-{TRACE}-{inner.span_id.hex()}-01" in sink.text().splitlines()
    assert attributes(inner) == {"error.type": "exit_code", "process.exit.code": 3}
    assert "hunter2" not in receiver.text()


async def test_a_command_that_is_broken_off_ends_its_span(process, received):
    given, sink = call("process", {"command": ["sh", "-c", "echo begun; exec sleep 300"]}), Remembered()

    async def attempt():
        with around_attempt(given, TRACE):
            await process.run(given, sink)

    running = asyncio.create_task(attempt())
    async with asyncio.timeout(60):
        while "begun" not in sink.text():
            await asyncio.sleep(0.01)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert attributes(received()["exec"])["error.type"] == "CancelledError"
