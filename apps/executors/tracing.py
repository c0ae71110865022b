"""The trace an attempt belongs to, as the commands that it starts are told of it."""

from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator


def trace_environment() -> dict[str, str]:
    """TRACEPARENT of the attempt's span, so that what a command traces lies under it; nothing where there is none."""
    carrier: dict[str, str] = {}
    TraceContextTextMapPropagator().inject(carrier)
    return {name.upper(): value for name, value in carrier.items()}
