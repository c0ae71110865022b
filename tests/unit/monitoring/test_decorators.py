"""The decorators, as a collector sees them: names, parents, errors; on every kind of callable."""

import inspect

import pytest
from opentelemetry import trace

from apps.monitoring.tracing import trace_function, trace_step, trace_workflow
from tests.support.receiver import attributes

ERROR, UNSET = 2, 0


def test_a_function_bare_and_with_a_name(receiver, received):
    @trace_function
    def bare(value):
        "Its docstring."
        return value + 1

    @trace_function(name="my_function")
    def named():
        return "x"

    assert (bare(1), named()) == (2, "x")
    assert (bare.__name__, bare.__doc__) == ("bare", "Its docstring.")
    spans = received()
    name = "test_a_function_bare_and_with_a_name.<locals>.bare"
    assert attributes(spans[name])["code.function.name"] == f"{__name__}.{name}"
    assert attributes(spans["my_function"])["orchestration.kind"] == "function"


def test_workflow_over_step_over_function_is_one_trace(receiver, received):
    @trace_function(name="inner")
    def inner():
        pass

    @trace_step(name="sum")
    def step():
        inner()

    @trace_workflow(name="report")
    def workflow():
        step()

    workflow()
    spans = received()
    workflow_span, step_span, function_span = spans["workflow report"], spans["step sum"], spans["inner"]
    assert workflow_span.parent_span_id == b""
    assert step_span.parent_span_id == workflow_span.span_id
    assert function_span.parent_span_id == step_span.span_id
    assert len({span.trace_id for span in spans.values()}) == 1
    assert [attributes(span)["orchestration.kind"] for span in (workflow_span, step_span)] == ["workflow", "step"]


async def test_coroutines_stay_coroutines_and_nest(receiver, received):
    @trace_step(name="child")
    async def child():
        return 7

    @trace_workflow(name="parent")
    async def parent():
        return await child()

    assert inspect.iscoroutinefunction(parent)
    assert await parent() == 7
    spans = received()
    assert spans["step child"].parent_span_id == spans["workflow parent"].span_id


def test_methods_of_every_kind(receiver, received):
    class Thing:
        @trace_function(name="method")
        def method(self):
            return self

        @trace_function(name="class above")
        @classmethod
        def class_above(cls):
            return cls

        @classmethod
        @trace_function(name="class below")
        def class_below(cls):
            return cls

        @trace_function(name="static")
        @staticmethod
        def static(value):
            return value

        @trace_function(name="async method")
        async def async_method(self):
            return self

    thing = Thing()
    assert thing.method() is thing
    assert thing.class_above() is Thing.class_below() is Thing
    assert Thing.static(3) == thing.static(3) == 3
    assert inspect.iscoroutinefunction(thing.async_method)
    assert {"method", "class above", "class below", "static"} <= received().keys()


def test_a_generator_is_traced_to_its_end_and_leaves_its_users_alone(receiver, received):
    @trace_function(name="used meanwhile")
    def use():
        pass

    @trace_function(name="used by it")
    def used():
        pass

    @trace_function(name="numbers")
    def numbers():
        got = []
        for number in range(3):
            used()
            got.append((yield number))
        return got

    assert inspect.isgeneratorfunction(numbers)
    running = numbers()
    assert next(running) == 0
    assert not trace.get_current_span().get_span_context().is_valid
    use()
    assert running.send("a") == 1
    assert running.send("b") == 2
    assert "numbers" not in received()
    with pytest.raises(StopIteration) as end:
        running.send("c")
    assert end.value.value == ["a", "b", "c"]
    spans = received()
    assert spans["used by it"].parent_span_id == spans["numbers"].span_id
    assert spans["used meanwhile"].parent_span_id == b""


def test_a_generator_may_be_closed_early_or_thrown_into(receiver, received):
    tidied = []

    @trace_function(name="left")
    def left():
        try:
            yield 1
            yield 2
        finally:
            tidied.append("left")

    @trace_function(name="thrown")
    def thrown():
        try:
            yield 1
        except KeyError:
            yield "caught"

    running = left()
    next(running)
    running.close()
    assert tidied == ["left"]
    other = thrown()
    next(other)
    assert other.throw(KeyError("k")) == "caught"
    assert list(other) == []
    spans = received()
    assert spans["left"].status.code == spans["thrown"].status.code == UNSET


async def test_an_async_generator(receiver, received):
    closed = []

    @trace_function(name="inside")
    async def inside():
        pass

    @trace_function(name="stream")
    async def stream():
        try:
            for number in range(3):
                await inside()
                got = yield number
                if got == "stop":
                    return
        finally:
            closed.append(True)

    assert inspect.isasyncgenfunction(stream)
    assert [number async for number in stream()] == [0, 1, 2]
    spans = received()
    assert spans["inside"].parent_span_id == spans["stream"].span_id
    running = stream()
    assert await anext(running) == 0
    assert not trace.get_current_span().get_span_context().is_valid
    with pytest.raises(StopAsyncIteration):
        await running.asend("stop")
    other = stream()
    await anext(other)
    await other.aclose()
    assert closed == [True, True, True]
    assert received()["stream"].status.code == UNSET


async def test_an_async_generator_that_is_thrown_into(receiver, received):
    @trace_function(name="athrown")
    async def stream():
        try:
            yield 1
        except KeyError:
            yield "caught"

    running = stream()
    await anext(running)
    assert await running.athrow(KeyError("k")) == "caught"
    await running.aclose()
    assert received()["athrown"].status.code == UNSET


def test_of_an_exception_only_its_type_leaves(receiver, received):
    class OwnError(Exception):
        pass

    @trace_function(name="fails")
    def fails():
        raise OwnError("the password is hunter2")

    @trace_function(name="fails built in")
    def fails_built_in():
        raise ValueError("the password is hunter2")

    with pytest.raises(OwnError):
        fails()
    with pytest.raises(ValueError, match="hunter2"):
        fails_built_in()
    spans = received()
    assert spans["fails"].status.code == ERROR
    assert attributes(spans["fails"])["error.type"].endswith("OwnError")
    assert attributes(spans["fails built in"])["error.type"] == "ValueError"
    assert [event.name for event in spans["fails"].events] == ["exception"]
    assert "hunter2" not in receiver.text()


async def test_a_failing_coroutine_and_generator(receiver, received):
    @trace_step(name="fails later")
    async def fails():
        raise RuntimeError("x")

    @trace_step(name="fails midway")
    def midway():
        yield 1
        raise LookupError("x")

    with pytest.raises(RuntimeError):
        await fails()
    with pytest.raises(LookupError):
        list(midway())
    spans = received()
    assert attributes(spans["step fails later"])["error.type"] == "RuntimeError"
    assert attributes(spans["step fails midway"])["error.type"] == "LookupError"


def test_the_resource_names_the_platform(receiver, received):
    trace_function(name="any")(lambda: None)()
    received()
    (resource,) = receiver.resources()
    assert resource["service.name"] == "ai-orchestration-platform-test"
    assert resource["service.namespace"] == "ai-orchestration-platform"
    assert resource["service.version"]


def test_spans_of_others_leave_without_query_header_or_text(receiver, received):
    other = trace.get_tracer("some.library")
    with pytest.raises(ValueError, match="hunter2"), other.start_as_current_span("theirs") as span:
        span.set_attribute("http.url", "http://host/p?token=hunter2")
        span.set_attribute("http.target", "/p?token=hunter2")
        span.set_attribute("http.user_agent", "hunter2")
        span.set_attribute("http.request.header.authorization", "hunter2")
        span.set_attribute("http.route", "/p")
        raise ValueError("hunter2")
    found = received()["theirs"]
    assert attributes(found) == {"http.target": "/p", "http.route": "/p"}
    assert found.status.message == "ValueError"
    assert attributes(found.events[0]) == {"exception.type": "ValueError"}
    assert "hunter2" not in receiver.text()
