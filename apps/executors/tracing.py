"""The trace an attempt belongs to: the span of what its executor does, and how commands and servers are told of it."""

from collections.abc import Iterator
from contextlib import contextmanager

from opentelemetry import trace
from opentelemetry.trace import Span, SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from apps.executors.types import StepResult

_tracer = trace.get_tracer(__name__)  # a proxy until tracing is set up; off, its spans record nothing


def trace_headers() -> dict[str, str]:
    """`traceparent` of the current span, for whoever is called; nothing where there is none. Ids, and no more."""
    carrier: dict[str, str] = {}
    TraceContextTextMapPropagator().inject(carrier)
    return {name: value for name, value in carrier.items() if name == "traceparent"}


def trace_environment() -> dict[str, str]:
    """TRACEPARENT of the current span, so that what a command traces lies under it; nothing where there is none."""
    return {name.upper(): value for name, value in trace_headers().items()}


@contextmanager
def span_of(name: str, *, kind: SpanKind = SpanKind.INTERNAL) -> Iterator[Span]:
    """The current span while the executor does something: a child of the attempt's, where that is traced.

    Nothing that a user wrote is told of it, so no address, argument or text of an error: see `ended`.
    """
    if not trace.get_current_span().get_span_context().trace_flags.sampled:
        yield trace.INVALID_SPAN
        return
    with _tracer.start_as_current_span(
        name, kind=kind, record_exception=False, set_status_on_exception=False
    ) as span:  # fmt: skip
        try:
            yield span
        except BaseException as error:
            _failed(span, type(error).__name__)
            raise


def ended(span: Span, result: StepResult) -> StepResult:
    """Tell the span how what it stands for ended; `result` as it came."""
    if result.error is not None:
        _failed(span, result.error.type)
        if result.error.exit_code is not None:
            span.set_attribute("process.exit.code", result.error.exit_code)
    return result


def _failed(span: Span, error_type: str) -> None:
    span.set_attribute("error.type", error_type)
    span.set_status(Status(StatusCode.ERROR, error_type))
