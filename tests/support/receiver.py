"""An OTLP/gRPC collector inside the test's process: it keeps the spans it is sent."""

import threading
import time
from concurrent import futures
from typing import Any

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc


class Receiver(trace_service_pb2_grpc.TraceServiceServicer):
    """`spans` by name; `answer` may be replaced by a pause, for a collector that hangs."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.batches: list[Any] = []
        self.delay = 0.0
        self._server = grpc.server(futures.ThreadPoolExecutor(2))  # type: ignore[no-untyped-call]
        trace_service_pb2_grpc.add_TraceServiceServicer_to_server(self, self._server)  # type: ignore[no-untyped-call]
        self.port = self._server.add_insecure_port("127.0.0.1:0")
        self._server.start()

    def Export(self, request: Any, context: Any) -> Any:
        time.sleep(self.delay)
        with self._lock:
            self.batches.append(request)
        return trace_service_pb2.ExportTraceServiceResponse()

    @property
    def endpoint(self) -> str:
        return f"127.0.0.1:{self.port}"

    def spans(self) -> dict[str, Any]:
        """Every span received, by name; the last of a name wins."""
        with self._lock:
            return {
                span.name: span
                for batch in self.batches
                for resource in batch.resource_spans
                for scope in resource.scope_spans
                for span in scope.spans
            }

    def resources(self) -> list[dict[str, Any]]:
        """The attributes of every resource that sent spans."""
        with self._lock:
            return [attributes(part.resource) for batch in self.batches for part in batch.resource_spans]

    def text(self) -> str:
        """Everything received, as text to look for what must not be in it."""
        with self._lock:
            return "".join(map(str, self.batches))

    def clear(self) -> None:
        with self._lock:
            self.batches = []

    def stop(self) -> None:
        self._server.stop(0)


def attributes(holder: Any) -> dict[str, Any]:
    """The attributes of a span, an event or a resource."""
    return {
        pair.key: getattr(pair.value, pair.value.WhichOneof("value")) if pair.value.WhichOneof("value") else None
        for pair in holder.attributes
    }
