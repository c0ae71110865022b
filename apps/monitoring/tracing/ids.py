"""Span ids that several processes agree on without telling each other: derived, not drawn.

The execution's span is written at its end, by whichever process ended it, and is the parent of attempts that other
processes wrote long before.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from opentelemetry.sdk.trace.id_generator import RandomIdGenerator

_given: ContextVar[tuple[int | None, int] | None] = ContextVar("given_ids", default=None)


class GivenIds(RandomIdGenerator):
    """Random ids, but those that were given for the span being started."""

    def generate_trace_id(self) -> int:
        """The given trace id, or a random one."""
        given = _given.get()
        return given[0] if given is not None and given[0] is not None else super().generate_trace_id()

    def generate_span_id(self) -> int:
        """The given span id, or a random one."""
        given = _given.get()
        return given[1] if given is not None else super().generate_span_id()


@contextmanager
def given(*, span_id: int, trace_id: int | None = None) -> Iterator[None]:
    """The span started inside has these ids."""
    token = _given.set((trace_id, span_id))
    try:
        yield
    finally:
        _given.reset(token)


def trace_id_of(text: str) -> int | None:
    """32 hexadecimal digits as a number; None for anything else, and for the invalid 0."""
    return _number(text, 32)


def span_id_of(text: str) -> int | None:
    """16 hexadecimal digits, likewise."""
    return _number(text, 16)


def _number(text: str, digits: int) -> int | None:
    try:
        return (int(text, 16) or None) if len(text) == digits else None
    except ValueError:
        return None


def execution_span_id(execution_id: str) -> int:
    """The id of the one span of an execution. Not by its trace, which all share that one request or parent started."""
    return _derived(execution_id)


def attempt_span_id(task_key: str, attempt: int) -> int:
    """The id of the span of one attempt."""
    return _derived(f"{task_key}:{attempt}")


def _derived(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") or 1
