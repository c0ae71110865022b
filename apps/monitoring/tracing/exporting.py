"""The one door by which spans leave this process: cleaned, without waiting, and saying once when it shuts or opens."""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.trace import Status
from opentelemetry.util.types import AttributeValue

logger = logging.getLogger(__name__)

SCOPE = "apps.monitoring.tracing"
PAUSE_SECONDS = 5.0
"""After a batch that was not taken, the next ones are let go at once for so long: a dead collector costs no time."""

_DROPPED = frozenset(
    {"http.url", "url.full", "url.query", "http.user_agent", "user_agent.original", "http.server_name", "http.host"}
)
_DROPPED_PREFIXES = ("http.request.header.", "http.response.header.")
_WITHOUT_QUERY = frozenset({"http.target", "url.path"})


@dataclass(slots=True)
class ExporterState:
    """Whether the collector took the last batch (None: there was none), and the spans that it did not take."""

    up: bool | None = None
    dropped: int = 0


exporter_state = ExporterState()


class Door(SpanExporter):
    """Hands batches to `exporter`; runs in the batch processor's thread, never in a caller's."""

    def __init__(
        self,
        exporter: SpanExporter,
        *,
        endpoint: str,
        state: ExporterState = exporter_state,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._exporter = exporter
        self._endpoint = endpoint
        self._state = state
        self._clock = clock
        self._closed_until = float("-inf")

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send the batch once; one that is not taken is gone."""
        if self._clock() < self._closed_until:
            self._state.dropped += len(spans)
            return SpanExportResult.FAILURE
        try:
            result = self._exporter.export([cleaned(span) for span in spans])
        except Exception as error:
            logger.debug("the trace exporter raised %s", type(error).__name__)
            result = SpanExportResult.FAILURE
        taken = result is SpanExportResult.SUCCESS
        if not taken:
            self._state.dropped += len(spans)
            self._closed_until = self._clock() + PAUSE_SECONDS
        if taken is not self._state.up:
            self._say(taken)
        self._state.up = taken
        return result

    def _say(self, taken: bool) -> None:
        if taken:
            logger.info("traces go to %s", self._endpoint)
        else:
            logger.warning(
                "the trace collector at %s does not answer: spans are dropped until it does; set DAGGER_OTLP_ENDPOINT, "
                "or DAGGER_TRACING_ENABLED=false to trace nothing",
                self._endpoint,
            )

    def shutdown(self) -> None:
        """Close the connection."""
        self._exporter.shutdown()


def cleaned(span: ReadableSpan) -> ReadableSpan:
    """`span` as others may see it: no query, no header, no text of an exception. Our own spans have none."""
    scope = span.instrumentation_scope
    if scope is not None and scope.name == SCOPE:
        return span
    status = Status(span.status.status_code, _type_only(span.status.description))
    return ReadableSpan(
        name=span.name,
        context=span.context,
        parent=span.parent,
        resource=span.resource,
        attributes=_allowed(span.attributes or {}),
        events=[_event(event) for event in span.events],
        links=span.links,
        kind=span.kind,
        status=status,
        start_time=span.start_time,
        end_time=span.end_time,
        instrumentation_scope=scope,
    )


def _allowed(attributes: Mapping[str, AttributeValue]) -> dict[str, AttributeValue]:
    return {
        key: value.partition("?")[0] if key in _WITHOUT_QUERY and isinstance(value, str) else value
        for key, value in attributes.items()
        if key not in _DROPPED and not key.startswith(_DROPPED_PREFIXES)
    }


def _event(event: Event) -> Event:
    if event.name != "exception":
        return event
    attributes = {key: value for key, value in (event.attributes or {}).items() if key == "exception.type"}
    return Event(event.name, attributes, event.timestamp)


def _type_only(description: str | None) -> str | None:
    """`ValueError: what the user wrote` without what the user wrote."""
    kind = (description or "").partition(":")[0]
    return kind if kind.replace(".", "").isidentifier() else None
