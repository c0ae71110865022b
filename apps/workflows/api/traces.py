"""The trace that a request belongs to, for what it starts to go on with."""

from typing import TypedDict

from opentelemetry import trace


class Traced(TypedDict):
    """The trace and the span of a request, in hexadecimal digits (32 and 16); empty when none is recorded."""

    trace_id: str
    trace_parent: str


def callers_trace() -> Traced:
    """Where what this request starts belongs."""
    context = trace.get_current_span().get_span_context()
    if not context.is_valid:
        return Traced(trace_id="", trace_parent="")
    return Traced(trace_id=f"{context.trace_id:032x}", trace_parent=f"{context.span_id:016x}")
