"""Traces: decorators for anybody's functions, spans of executions and attempts, and the way to the collector.

Nothing here blocks a caller, whether a collector answers or not. Spans carry no user text: of an exception its type,
of a request neither query nor headers.
"""

from apps.monitoring.tracing.decorators import trace_function, trace_step, trace_workflow
from apps.monitoring.tracing.executions import around_attempt, emit_execution_span
from apps.monitoring.tracing.exporting import exporter_state
from apps.monitoring.tracing.provider import configure, shutdown

__all__ = [
    "around_attempt",
    "configure",
    "emit_execution_span",
    "exporter_state",
    "shutdown",
    "trace_function",
    "trace_step",
    "trace_workflow",
]
