"""Spans of executions and attempts, written by processes that never spoke to each other, make one trace."""

import time
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

from apps.executors.types import StepCall, StepError, StepResult
from apps.monitoring.receivers import on_committed
from apps.monitoring.tracing import around_attempt, trace_function
from apps.monitoring.tracing import provider as provider_module
from tests.support.receiver import attributes

TRACE = "0af7651916cd43dd8448eb211c80319c"
START = datetime(2025, 1, 31, 12, 0, 0, 250_001, tzinfo=UTC)
OK, ERROR, UNSET = 1, 2, 0


def call(step="fetch", attempt=1, **values):
    return StepCall(
        kind="python", config={"secret": "hunter2"}, stdin=b"hunter2", attempt=attempt, task_key="t1",
        attempt_key=f"t1:{attempt}", workflow_id="report", execution_id="e1", step_id=step, **values,
    )  # fmt: skip


def closed(**values):
    given = {
        "trace_id": TRACE, "workflow_slug": "report", "execution_id": "e1", "status": "completed",
        "started_at": START, "finished_at": START + timedelta(seconds=3), "parent_execution_id": None,
        "trace_parent": "",
    }  # fmt: skip
    return SimpleNamespace(**{**given, **values})


def test_attempts_lie_under_the_execution_that_is_written_last(receiver, received):
    @trace_function(name="of the executor")
    def perform():
        pass

    with around_attempt(call(), TRACE) as attempt:
        perform()
        attempt.finish(StepResult(outputs={"password": "hunter2"}))
    on_committed(None, closed=[closed()])
    spans = received()
    run, step, inner = spans["RUN report"], spans["run_step fetch"], spans["of the executor"]
    assert {span.trace_id.hex() for span in (run, step, inner)} == {TRACE}
    assert run.parent_span_id == b""
    assert step.parent_span_id == run.span_id
    assert inner.parent_span_id == step.span_id
    assert run.start_time_unix_nano == int(START.timestamp()) * 10**9 + 250_001_000
    assert run.end_time_unix_nano - run.start_time_unix_nano == 3 * 10**9
    assert (run.status.code, step.status.code) == (OK, OK)
    assert attributes(step) == {
        "orchestration.workflow.id": "report",
        "orchestration.execution.id": "e1",
        "orchestration.step.id": "fetch",
        "orchestration.step.kind": "python",
        "orchestration.step.attempt": 1,
    }
    assert "hunter2" not in receiver.text()


def test_an_attempt_links_to_the_one_before(receiver, received):
    with around_attempt(call("first", 1), TRACE) as attempt:
        attempt.finish(StepResult(error=StepError(type="exit_code", message="hunter2")))
    with around_attempt(call("again", 2), TRACE) as attempt:
        attempt.finish(StepResult())
    spans = received()
    assert [link.span_id for link in spans["run_step again"].links] == [spans["run_step first"].span_id]
    assert spans["run_step first"].status.code == ERROR
    assert spans["run_step first"].status.message == "exit_code"
    assert attributes(spans["run_step first"])["error.type"] == "exit_code"
    assert not spans["run_step first"].links
    assert "hunter2" not in receiver.text()


def test_an_attempt_that_is_broken_off_says_so(receiver, received):
    with pytest.raises(KeyboardInterrupt), around_attempt(call("broken"), TRACE):
        raise KeyboardInterrupt
    assert attributes(received()["run_step broken"])["error.type"] == "KeyboardInterrupt"


def test_executions_of_one_trace_have_spans_of_their_own(receiver, received):
    """A request that starts two, and a step that starts another workflow: one trace, no span id twice."""
    asked = "b7ad6b7169203331"
    for name, parent, request in (("parent", None, asked), ("child", "parent", ""), ("other", None, "")):
        given = {"execution_id": name, "parent_execution_id": parent, "trace_parent": request}
        on_committed(None, closed=[closed(workflow_slug=name, **given)])
    spans = received()
    run, child, other = (spans[f"RUN {name}"] for name in ("parent", "child", "other"))
    assert {span.trace_id.hex() for span in (run, child, other)} == {TRACE}
    assert len({span.span_id for span in (run, child, other)}) == 3
    assert child.parent_span_id == run.span_id
    assert run.parent_span_id.hex() == asked
    assert other.parent_span_id == b""


@pytest.mark.parametrize(
    ("status", "code"), [("completed", OK), ("failed", ERROR), ("timed_out", ERROR), ("cancelled", UNSET)]
)
def test_the_status_of_an_execution(status, code, receiver, received):
    on_committed(None, closed=[closed(status=status, workflow_slug=status)])
    span = received()[f"RUN {status}"]
    assert span.status.code == code
    assert attributes(span)["orchestration.status"] == status


def test_an_execution_that_never_began_has_no_length(receiver, received):
    on_committed(None, closed=[closed(started_at=None)])
    span = received()["RUN report"]
    assert span.end_time_unix_nano == span.start_time_unix_nano


@pytest.mark.parametrize("trace_id", ["", "0" * 32, "nothexadecimal", "ff", "g" * 32])
def test_without_a_trace_id_nothing_is_traced(trace_id, receiver, received):
    with around_attempt(call("nowhere"), trace_id) as attempt:
        attempt.finish(StepResult())
    on_committed(None, closed=[closed(trace_id=trace_id)])
    assert received() == {}


def test_off_and_unsampled_cost_less_than_40_microseconds(monkeypatch):
    monkeypatch.setattr(provider_module, "configure", lambda service: None)
    assert cost_of_an_attempt() < 1e-3
    monkeypatch.setattr(provider_module, "_current", TracerProvider(sampler=ALWAYS_OFF))
    assert cost_of_an_attempt() < 1e-3


def cost_of_an_attempt():
    """Seconds, the best of several series: the machine may be busy."""
    given, result, best = call(), StepResult(), 1.0
    for _ in range(7):
        began = time.thread_time()
        for _ in range(300):
            with around_attempt(given, TRACE) as attempt:
                attempt.finish(result)
        best = min(best, (time.thread_time() - began) / 300)
    return best


def test_a_command_is_told_the_trace_of_its_attempt(receiver, received, tmp_path):
    from apps.executors.process.launch import environment_of

    assert "TRACEPARENT" not in environment_of(call(), {}, tmp_path)
    with around_attempt(call(), TRACE) as span:
        environment = environment_of(call(), {}, tmp_path)
        span.finish(StepResult(outputs={}))
    spans = received()
    (name,) = [name for name in spans if name.startswith("run_step")]
    assert environment["TRACEPARENT"] == f"00-{TRACE}-{spans[name].span_id.hex()}-01"


def test_logs_carry_the_trace_and_the_span(receiver):
    import json
    import logging

    from apps.core.logs import JSONFormatter

    record = logging.makeLogRecord({"name": "x", "msg": "hello", "levelno": logging.INFO, "levelname": "INFO"})
    assert "trace_id" not in json.loads(JSONFormatter().format(record))
    with around_attempt(call(), TRACE) as span:
        told = json.loads(JSONFormatter().format(record))
        span.finish(StepResult(outputs={}))
    assert told["trace_id"] == TRACE
    assert len(told["span_id"]) == 16
