"""OpenTelemetry for this process: set up once, and ended within a bound even when the collector is dead."""

import atexit
import logging
import os
import socket
import threading
from typing import TYPE_CHECKING

from django.conf import settings
from opentelemetry import trace

if TYPE_CHECKING:  # gRPC and the SDK are loaded where tracing is on
    from opentelemetry.sdk.trace import TracerProvider

NAMESPACE = "ai-orchestration-platform"
EXPORT_SECONDS = 2
SHUTDOWN_SECONDS = 2.5
QUEUE_SPANS = 8_192
NOT_TRACED = "monitoring/health,monitoring/metrics,monitoring/dagger/metrics"
"""Asked every few seconds by machines: their spans would bury all others."""

_REQUEST_MIDDLEWARE = "apps.core.api.middleware.RequestMiddleware"
_NOISY = ("opentelemetry.exporter.otlp.proto.grpc.exporter", "opentelemetry.sdk._shared_internal")

_lock = threading.Lock()
_current: "TracerProvider | None" = None
_end: "_End | None" = None


def current() -> "TracerProvider | None":
    """The provider of this process; None while tracing is off or not set up."""
    return _current


def configure(service: str) -> "TracerProvider | None":
    """Set tracing up for this process, unless it is already, or `DAGGER_TRACING_ENABLED` is false.

    `service` is `server` or `worker`. For `server` HTTP requests are traced, too: call it before Django's handler is
    made, because that reads `MIDDLEWARE`.
    """
    global _current, _end  # noqa: PLW0603 (one provider a process, as OpenTelemetry has it)
    with _lock:
        if _current is not None or not settings.ENV.DAGGER_TRACING_ENABLED:
            return _current
        provider = build(service, settings.ENV.DAGGER_OTLP_ENDPOINT)
        trace.set_tracer_provider(provider)
        if service == "server":
            _trace_requests(provider)
        _end = _End(provider)
        atexit.register(shutdown)
        _current = provider
        return provider


def build(service: str, endpoint: str) -> "TracerProvider":
    """A provider that sends to `endpoint` (`host:port` in the clear, or a URL whose scheme says whether).

    The sampler is OpenTelemetry's default and obeys `OTEL_TRACES_SAMPLER`.
    """
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    from apps.monitoring.tracing.exporting import Door
    from apps.monitoring.tracing.ids import GivenIds

    for name in _NOISY:  # they complain once a batch; the door says it once a change
        logging.getLogger(name).setLevel(logging.CRITICAL)
    resource = Resource.create(
        {
            "service.name": f"{NAMESPACE}-{service}",
            "service.namespace": NAMESPACE,
            "service.version": str(settings.SPECTACULAR_SETTINGS["VERSION"]),
            "service.instance.id": f"{socket.gethostname()}:{os.getpid()}",
        }
    )
    provider = TracerProvider(resource=resource, id_generator=GivenIds(), shutdown_on_exit=False)
    exporter = OTLPSpanExporter(endpoint=endpoint, insecure=is_insecure(endpoint), timeout=EXPORT_SECONDS)
    provider.add_span_processor(BatchSpanProcessor(Door(exporter, endpoint=endpoint), max_queue_size=QUEUE_SPANS))
    return provider


def is_insecure(endpoint: str) -> bool:
    """Whether `endpoint` is spoken to without TLS: anything but https, for gRPC's own default would be TLS."""
    return not endpoint.lower().startswith("https://")


def shutdown(seconds: float = SHUTDOWN_SECONDS) -> None:
    """Send what is left, for at most `seconds`; what was not sent then is lost."""
    if _end is not None:
        _end.come(seconds)


class _End(threading.Thread):
    """Ends the provider when told to. Made in advance, since a dying interpreter starts no thread."""

    def __init__(self, provider: "TracerProvider") -> None:
        super().__init__(name="tracing-end", daemon=True)
        self._provider = provider
        self._told = threading.Event()
        self._pid = os.getpid()
        self.start()

    def run(self) -> None:
        """Wait to be told."""
        self._told.wait()
        self._provider.shutdown()

    def come(self, seconds: float) -> None:
        """End it now, and wait no longer than `seconds`."""
        if os.getpid() == self._pid:  # a forked child has not this thread
            self._told.set()
            self.join(seconds)


def _trace_requests(provider: "TracerProvider") -> None:
    from opentelemetry.instrumentation.django import DjangoInstrumentor

    # Inside the frame that gives requests their ids and renders what goes wrong.
    middleware = list(settings.MIDDLEWARE)
    position = middleware.index(_REQUEST_MIDDLEWARE) + 1 if _REQUEST_MIDDLEWARE in middleware else 0
    DjangoInstrumentor().instrument(tracer_provider=provider, excluded_urls=NOT_TRACED, middleware_position=position)
