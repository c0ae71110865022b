"""Spans of executions and of attempts: `RUN {workflow}` over `run_step {step}`, whichever processes wrote them."""

from contextvars import Token
from datetime import datetime
from functools import lru_cache
from types import TracebackType
from typing import TYPE_CHECKING, Self

from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.trace.sampling import Decision
from opentelemetry.trace import Link, NonRecordingSpan, Span, SpanContext, SpanKind, Status, StatusCode, TraceFlags

from apps.monitoring.tracing import ids, provider
from apps.monitoring.tracing.exporting import SCOPE

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

    from apps.executors.types import StepCall, StepResult

_SAMPLED = TraceFlags(TraceFlags.SAMPLED)
_BAD = frozenset({"failed", "timed_out"})


class Untraced:
    """Around an attempt that leaves no trace."""

    __slots__ = ()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def finish(self, result: "StepResult") -> None:
        """Nothing is recorded."""


_UNTRACED = Untraced()


class Traced:
    """Around an attempt: its span is the current one inside, so that what the executor traces lies under it."""

    __slots__ = ("_finished", "_span", "_token")

    def __init__(self, span: Span) -> None:
        self._span = span
        self._finished = False
        self._token: Token[Context] | None = None

    def __enter__(self) -> Self:
        self._token = otel_context.attach(trace.set_span_in_context(self._span))
        return self

    def finish(self, result: "StepResult") -> None:
        """The attempt ended so; of an error only its type is told."""
        self._finished = True
        self._end_as(result.error.type if result.error else "")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._token is not None:
            otel_context.detach(self._token)
        if not self._finished:
            self._end_as(kind.__name__ if kind else "")
        self._span.end()

    def _end_as(self, error_type: str) -> None:
        if error_type:
            self._span.set_attribute("error.type", error_type)
            self._span.set_status(Status(StatusCode.ERROR, error_type))
        else:
            self._span.set_status(Status(StatusCode.OK))


def around_attempt(call: "StepCall", trace_id: str) -> Traced | Untraced:
    """A context around one attempt of a step: `with around_attempt(call, trace_id) as span: …; span.finish(result)`.

    The span is a child of the execution's, which is written later, and links to the attempt before. A worker needs no
    other call: tracing is set up at its first attempt.
    """
    tracing = provider.current() or provider.configure("worker")
    trace_number = ids.trace_id_of(trace_id)
    if tracing is None or trace_number is None or not _sampled(tracing, trace_number):
        return _UNTRACED
    parent = _span_of(call.execution_id, trace_number)
    links = []
    if call.attempt > 1:
        before = ids.attempt_span_id(call.task_key, call.attempt - 1)
        links.append(Link(SpanContext(trace_number, before, is_remote=True, trace_flags=_SAMPLED)))
    with ids.given(span_id=ids.attempt_span_id(call.task_key, call.attempt)):
        span = _tracer(tracing).start_span(
            f"run_step {call.step_id}",
            context=trace.set_span_in_context(NonRecordingSpan(parent), Context()),
            kind=SpanKind.CONSUMER,
            links=links,
            attributes={
                "orchestration.workflow.id": call.workflow_id,
                "orchestration.execution.id": call.execution_id,
                "orchestration.step.id": call.step_id,
                "orchestration.step.kind": call.kind,
                "orchestration.step.attempt": call.attempt,
            },
        )
    return Traced(span)


def emit_execution_span(
    *,
    trace_id: str,
    name: str,
    started_at: datetime | None,
    finished_at: datetime,
    status: str,
    execution_id: str,
    parent_execution_id: str = "",
    parent_span_id: str = "",
) -> None:
    """Write the span `RUN {name}` of an execution that has ended, dated back; one that never began has no length.

    It lies under that of the execution of which a step started it, or under the request that did (16 hexadecimal
    digits); the others are roots.
    """
    tracing, trace_number = provider.current(), ids.trace_id_of(trace_id)
    if tracing is None or trace_number is None:
        return
    context = Context()
    parent = _span_of(parent_execution_id, trace_number) if parent_execution_id else None
    if parent is None and (span_id := ids.span_id_of(parent_span_id)):
        parent = SpanContext(trace_number, span_id, is_remote=True, trace_flags=_SAMPLED)
    if parent is not None:
        context = trace.set_span_in_context(NonRecordingSpan(parent), context)
    with ids.given(trace_id=trace_number, span_id=ids.execution_span_id(execution_id)):
        span = _tracer(tracing).start_span(
            f"RUN {name}",
            context=context,
            start_time=_nanoseconds(started_at or finished_at),
            attributes={
                "orchestration.workflow.id": name,
                "orchestration.execution.id": execution_id,
                "orchestration.status": status,
            },
        )
    if status in _BAD:
        span.set_status(Status(StatusCode.ERROR, status))
    elif status == "completed":
        span.set_status(Status(StatusCode.OK))
    span.end(_nanoseconds(finished_at))


def _span_of(execution_id: str, trace_number: int) -> SpanContext:
    """The span of an execution, which is written when that ends."""
    span_id = ids.execution_span_id(execution_id)
    return SpanContext(trace_number, span_id, is_remote=True, trace_flags=_SAMPLED)


@lru_cache(maxsize=1)
def _tracer(tracing: "TracerProvider") -> trace.Tracer:
    """Made once: making one costs as much as a span."""
    return tracing.get_tracer(SCOPE)


def _sampled(tracing: "TracerProvider", trace_number: int) -> bool:
    """What the sampler will say of the execution's own span: one answer in every process, for it depends on the id."""
    decision = tracing.sampler.should_sample(Context(), trace_number, "").decision
    return decision is Decision.RECORD_AND_SAMPLE


def _nanoseconds(moment: datetime) -> int:
    return round(moment.timestamp() * 1_000_000) * 1_000
