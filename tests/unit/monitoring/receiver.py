"""An OTLP/gRPC collector inside the test's process: it keeps the spans it is sent."""

import threading
import time
from concurrent import futures

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc


class Receiver(trace_service_pb2_grpc.TraceServiceServicer):
    """`spans` by name; `answer` may be replaced by a pause, for a collector that hangs."""

    def __init__(self):
        self._lock = threading.Lock()
        self.batches = []
        self.delay = 0.0
        self._server = grpc.server(futures.ThreadPoolExecutor(2))
        trace_service_pb2_grpc.add_TraceServiceServicer_to_server(self, self._server)
        self.port = self._server.add_insecure_port("127.0.0.1:0")
        self._server.start()

    def Export(self, request, context):
        time.sleep(self.delay)
        with self._lock:
            self.batches.append(request)
        return trace_service_pb2.ExportTraceServiceResponse()

    @property
    def endpoint(self):
        return f"127.0.0.1:{self.port}"

    def spans(self):
        """Every span received, by name; the last of a name wins."""
        with self._lock:
            return {
                span.name: span
                for batch in self.batches
                for resource in batch.resource_spans
                for scope in resource.scope_spans
                for span in scope.spans
            }

    def resources(self):
        """The attributes of every resource that sent spans."""
        with self._lock:
            return [attributes(part.resource) for batch in self.batches for part in batch.resource_spans]

    def text(self):
        """Everything received, as text to look for what must not be in it."""
        with self._lock:
            return "".join(map(str, self.batches))

    def clear(self):
        with self._lock:
            self.batches = []

    def stop(self):
        self._server.stop(0)


def attributes(holder):
    """The attributes of a span, an event or a resource."""
    return {
        pair.key: getattr(pair.value, pair.value.WhichOneof("value")) if pair.value.WhichOneof("value") else None
        for pair in holder.attributes
    }
