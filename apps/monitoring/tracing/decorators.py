"""`@trace_function`, `@trace_workflow`, `@trace_step`: a span around each call, bare or with arguments.

They fit functions and methods, sync and async, and generators of both kinds, whose span lasts until they are
exhausted and is the current one only while their own code runs.
"""

import functools
import inspect
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar, cast, overload

from opentelemetry import trace
from opentelemetry.trace import Span, Status, StatusCode

from apps.monitoring.tracing.exporting import SCOPE

F = TypeVar("F", bound=Callable[..., Any])

_tracer = trace.get_tracer(SCOPE)  # a proxy until tracing is set up


@overload
def trace_function(function: F, /) -> F: ...


@overload
def trace_function(*, name: str | None = None) -> Callable[[F], F]: ...


def trace_function(function: Any = None, /, *, name: str | None = None) -> Any:
    """A span for each call; `name` is its name, by default the function's qualified name."""
    return _decorator("function", "", function, name)


@overload
def trace_workflow(function: F, /) -> F: ...


@overload
def trace_workflow(*, name: str | None = None) -> Callable[[F], F]: ...


def trace_workflow(function: Any = None, /, *, name: str | None = None) -> Any:
    """A span `workflow {name}` for each call of what carries out a workflow."""
    return _decorator("workflow", "workflow ", function, name)


@overload
def trace_step(function: F, /) -> F: ...


@overload
def trace_step(*, name: str | None = None) -> Callable[[F], F]: ...


def trace_step(function: Any = None, /, *, name: str | None = None) -> Any:
    """A span `step {name}` for each call of what performs a step."""
    return _decorator("step", "step ", function, name)


def _decorator(kind: str, prefix: str, function: Any, name: str | None) -> Any:
    def decorate(wrapped: Any) -> Any:
        if isinstance(wrapped, staticmethod | classmethod):
            return type(wrapped)(decorate(wrapped.__func__))
        qualified = getattr(wrapped, "__qualname__", type(wrapped).__qualname__)
        attributes = {
            "orchestration.kind": kind,
            "code.function.name": f"{getattr(wrapped, '__module__', None) or '?'}.{qualified}",
        }
        span = functools.partial(_span, prefix + (name or qualified), attributes)
        return _wrapped(wrapped, span)

    return decorate if function is None else decorate(function)


_MakeSpan = Callable[[], Span]


def _span(name: str, attributes: dict[str, str]) -> Span:
    return _tracer.start_span(name, attributes=attributes)


def _wrapped(function: Any, start: _MakeSpan) -> Any:
    if inspect.isasyncgenfunction(function):

        @functools.wraps(function)
        async def traced(*args: Any, **kwargs: Any) -> Any:
            with _ending(start()) as span:
                generator = function(*args, **kwargs)
                act, given = generator.asend, None
                while True:
                    with _current(span):
                        try:
                            item = await act(given)
                        except StopAsyncIteration:
                            return
                    try:
                        given, act = (yield item), generator.asend
                    except GeneratorExit:
                        with _current(span):
                            await generator.aclose()
                        raise
                    except BaseException as error:
                        given, act = error, generator.athrow
    elif inspect.isgeneratorfunction(function):

        @functools.wraps(function)
        def traced(*args: Any, **kwargs: Any) -> Any:
            with _ending(start()) as span:
                return (yield from _drive(function(*args, **kwargs), span))
    elif inspect.iscoroutinefunction(function):

        @functools.wraps(function)
        async def traced(*args: Any, **kwargs: Any) -> Any:
            with _ending(start()) as span, _current(span):
                return await function(*args, **kwargs)
    else:

        @functools.wraps(function)
        def traced(*args: Any, **kwargs: Any) -> Any:
            with _ending(start()) as span, _current(span):
                return function(*args, **kwargs)

    return traced


@contextmanager
def _ending(span: Span) -> Iterator[Span]:
    """End the span whatever happens; of an exception only its type is told, for its text may be a user's."""
    try:
        yield span
    except GeneratorExit:
        raise  # whoever iterated has had enough
    except BaseException as error:
        kind = f"{type(error).__module__}.{type(error).__qualname__}".removeprefix("builtins.")
        span.set_attribute("error.type", kind)
        span.add_event("exception", {"exception.type": kind})
        span.set_status(Status(StatusCode.ERROR, kind))
        raise
    finally:
        span.end()


def _current(span: Span) -> Any:
    return trace.use_span(span, end_on_exit=False, record_exception=False, set_status_on_exception=False)


def _drive(generator: Generator[Any, Any, Any], span: Span) -> Generator[Any, Any, Any]:
    """The generator's items; the span is current while it makes them, not while they are used."""
    act: Callable[[Any], Any] = generator.send
    given: Any = None
    while True:
        with _current(span):
            try:
                item = act(given)
            except StopIteration as stop:
                return stop.value
        try:
            given, act = (yield item), generator.send
        except GeneratorExit:
            with _current(span):
                generator.close()
            raise
        except BaseException as error:
            given, act = error, cast("Callable[[Any], Any]", generator.throw)
