"""A receiver of OTLP over HTTP, which records requests, and can fail."""

import gzip
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

PATIENCE = 20.0  # seconds in which what is sent by itself must have come
SERVER, CLIENT = 2, 3  # kinds of spans, and a status
ERROR = 2


@dataclass(frozen=True, slots=True)
class Span:
    """A span as it came. Ids in hex; `parent_id` is empty where it has none. `links` are (trace, span) ids."""

    name: str
    trace_id: str
    span_id: str
    parent_id: str
    state: str
    kind: int
    status: int
    times: tuple[int, int]
    attributes: dict[str, Any]
    links: list[tuple[str, str]]
    resource: dict[str, Any]


@dataclass(slots=True)
class OtlpReceiver:
    """What came: `spans`, `metrics`, whole `bodies`, and the `headers` of each request.

    It answers `status`. While `hung` is set it answers nothing.
    """

    port: int = 0
    status: int = 200
    spans: list[Span] = field(default_factory=list)
    metrics: list[Any] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    requests: int = 0
    hung: threading.Event = field(default_factory=threading.Event)
    freed: threading.Event = field(default_factory=threading.Event)
    changed: threading.Condition = field(default_factory=threading.Condition)

    @property
    def url(self) -> str:
        """The value of OTEL_EXPORTER_OTLP_ENDPOINT."""
        return f"http://127.0.0.1:{self.port}"

    def until(self, holds: "Callable[[OtlpReceiver], bool]") -> None:
        """Returns when something has come; fails where it does not."""
        with self.changed:
            assert self.changed.wait_for(lambda: holds(self), PATIENCE), f"{self.requests} requests, {self.spans}"

    def checks(self, count: int = 1) -> list[Span]:
        """The spans of checks, once so many have come."""
        self.until(lambda it: len(it._of(SERVER)) >= count)
        return self._of(SERVER)

    def calls(self, check: Span) -> dict[str, Span]:
        """The spans of the calls of a check, by name."""
        return {span.name: span for span in self._of(CLIENT) if span.parent_id == check.span_id}

    def _of(self, kind: int) -> list[Span]:
        return [span for span in self.spans if span.kind == kind]

    def take(self, path: str, body: bytes) -> None:
        """Keeps what a request brought."""
        if path.endswith("/v1/metrics"):
            metrics = ExportMetricsServiceRequest.FromString(body)
            self.metrics += [
                (metric, _attributes(resource.resource.attributes))
                for resource in metrics.resource_metrics
                for scope in resource.scope_metrics
                for metric in scope.metrics
            ]
            return
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            about = _attributes(resource.resource.attributes)
            self.spans += [_span(span, about) for scope in resource.scope_spans for span in scope.spans]


@contextmanager
def otlp_receiver() -> Iterator[OtlpReceiver]:
    """A receiver on a free port."""
    receiver = OtlpReceiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = b"".join(self.body())
            if self.headers["Content-Encoding"] == "gzip":
                body = gzip.decompress(body)
            hung = receiver.hung.is_set()
            with receiver.changed:
                receiver.requests += 1
                receiver.headers.append({name.lower(): value for name, value in self.headers.items()})
                receiver.bodies.append(body)
                if receiver.status == 200 and not hung:
                    receiver.take(self.path, body)
                receiver.changed.notify_all()
            if hung:
                receiver.freed.wait()
                return
            self.send_response(receiver.status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def body(self) -> Iterator[bytes]:
            if (length := self.headers["Content-Length"]) is not None:
                yield self.rfile.read(int(length))
                return
            while size := int(self.rfile.readline(), 16):  # Envoy sends chunks
                yield self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    receiver.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield receiver
    finally:
        receiver.freed.set()
        server.shutdown()
        server.server_close()
        thread.join()


def _span(span: Any, resource: dict[str, Any]) -> Span:
    return Span(
        name=span.name,
        trace_id=span.trace_id.hex(),
        span_id=span.span_id.hex(),
        parent_id=span.parent_span_id.hex(),
        state=span.trace_state,
        kind=span.kind,
        status=span.status.code,
        times=(span.start_time_unix_nano, span.end_time_unix_nano),
        attributes=_attributes(span.attributes),
        links=[(redis_connection.trace_id.hex(), redis_connection.span_id.hex()) for redis_connection in span.links],
        resource=resource,
    )


def _attributes(pairs: Sequence[Any]) -> dict[str, Any]:
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in pairs}
