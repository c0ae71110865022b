"""Log records as one JSON object a line, whatever an attacker put into a name, a path or a message.

Everything outside ASCII and every control character is written as a `\\uXXXX` escape, so CR LF, ANSI sequences,
U+2028 and bidirectional marks never reach a terminal or a log pipeline as themselves.
"""

import json
import logging
from contextvars import ContextVar
from typing import Any

import structlog
from django.http import HttpRequest
from opentelemetry import trace
from structlog.typing import EventDict, Processor

request_id: ContextVar[str] = ContextVar("request_id", default="")
"""The id of the request being answered; empty outside one."""

current_request: ContextVar[HttpRequest | None] = ContextVar("current_request", default=None)
"""The request being answered, for those who note down who did something; never to decide by."""


def _request_id(_: Any, __: str, event: EventDict) -> EventDict:
    """The id by which a log record, an answer and a caller's report are matched."""
    if current := request_id.get():
        event.setdefault("request_id", current)
    return event


def _trace(_: Any, __: str, event: EventDict) -> EventDict:
    """The trace and the span in which the record was written, where there is one."""
    context = trace.get_current_span().get_span_context()
    if context.is_valid:
        event.setdefault("trace_id", f"{context.trace_id:032x}")
        event.setdefault("span_id", f"{context.span_id:016x}")
    return event


def _plain_request(_: Any, __: str, event: EventDict) -> EventDict:
    """Django attaches the whole request to its records: its method and path are enough, its headers are nobody's."""
    request = event.pop("request", None)
    if request is not None:
        event.setdefault("method", getattr(request, "method", None))
        event.setdefault("path", getattr(request, "path", None))
    return event


def _text(value: Any) -> str:
    """What JSON has no word for, by its text; a broken `__str__` must not cost the record."""
    try:
        return str(value)
    except Exception:
        return f"<{type(value).__name__}>"


def _dumps(event: Any, **_: Any) -> str:
    """One line of ASCII JSON."""
    return json.dumps(event, ensure_ascii=True, default=_text, skipkeys=True)


_SHARED: list[Processor] = [
    structlog.stdlib.add_log_level,
    structlog.stdlib.add_logger_name,
    structlog.stdlib.ExtraAdder(),
    structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
    _request_id,
    _trace,
    _plain_request,
]


class JSONFormatter(structlog.stdlib.ProcessorFormatter):
    """Formats records of `logging` and of structlog: `time, level, logger, message, request_id, exception`, extras."""

    def __init__(self, *_: Any, **__: Any) -> None:
        super().__init__(
            foreign_pre_chain=_SHARED,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                # A traceback as text: frames' local variables may hold secrets and stay out.
                structlog.processors.format_exc_info,
                structlog.processors.EventRenamer("message"),
                structlog.processors.JSONRenderer(serializer=_dumps),
            ],
        )

    def format(self, record: logging.LogRecord) -> str:
        """The record as one line; a record whose arguments do not fit its text is still written."""
        try:
            return super().format(record)
        except Exception as error:
            return _dumps(
                {
                    "level": record.levelname.lower(),
                    "logger": record.name,
                    "message": str(record.msg),
                    "logging_error": f"{type(error).__name__}: {error}",
                }
            )
