"""A receiver of traces and metrics by OTLP over HTTP, on loopback: it decodes what services export.

`python -m tests.doubles.otlp_receiver` runs one in a process of its own and prints its URL; it ends with its
standard input.
"""

import gzip
import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span

LARGEST_BODY = 64 << 20
LARGEST_COUNT = 200_000  # spans that are kept


@dataclass(frozen=True, slots=True)
class ReceivedSpan:
    """A span as it arrived; times in unix nanoseconds."""

    service: str
    name: str
    kind: str  # as INTERNAL
    trace_id: str
    span_id: str
    parent_id: str  # empty for the first of a trace
    start: int
    end: int
    attributes: dict[str, Any]
    events: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    failed: bool = False
    status: str = ""

    @property
    def text(self) -> str:
        """All that it says."""
        return f"{self.name} {self.attributes} {self.events} {self.status}"


class OtlpReceiver:
    """The server, the spans that it has received, and the last metrics."""

    def __init__(self) -> None:
        self.metrics: ExportMetricsServiceRequest | None = None
        self._spans: list[ReceivedSpan] = []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                length = int(self.headers.get("Content-Length", 0))
                if self.path not in ("/v1/traces", "/v1/metrics") or length > LARGEST_BODY:
                    self.send_error(404 if length <= LARGEST_BODY else 413)
                    return
                body = self.rfile.read(length)
                if self.headers.get("Content-Encoding") == "gzip":
                    body = gzip.decompress(body)
                if self.path == "/v1/traces":
                    receiver.take(ExportTraceServiceRequest.FromString(body))
                    answer = ExportTraceServiceResponse().SerializeToString()
                else:
                    receiver.metrics = ExportMetricsServiceRequest.FromString(body)
                    answer = ExportMetricsServiceResponse().SerializeToString()
                self.send_response(200)
                self.send_header("Content-Type", "application/x-protobuf")
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_: object) -> None:
                """Log nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def take(self, request: ExportTraceServiceRequest) -> None:
        """Keep the spans of a request."""
        for of_service in request.resource_spans:
            service = str(_attributes(of_service.resource.attributes).get("service.name", ""))
            for of_library in of_service.scope_spans:
                self._spans += [_received(service, span) for span in of_library.spans]
        del self._spans[:-LARGEST_COUNT]

    def spans(self, trace_id: str | None = None) -> list[ReceivedSpan]:
        """Return the spans of a trace, or all, by their starts."""
        found = [span for span in list(self._spans) if trace_id in (None, span.trace_id)]
        return sorted(found, key=lambda span: span.start)

    @contextmanager
    def running(self) -> Iterator["OtlpReceiver"]:
        """Receive while the block runs."""
        thread = threading.Thread(target=self._server.serve_forever, name="otlp receiver", daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self._server.shutdown()
            self._server.server_close()
            thread.join()


def tree(spans: Iterable[ReceivedSpan]) -> str:
    """Return spans as an indented tree, each with its service; a child that comes often is counted."""
    spans = list(spans)
    known = {span.span_id for span in spans}
    children: dict[str, list[ReceivedSpan]] = {}
    for span in spans:
        children.setdefault(span.parent_id if span.parent_id in known else "", []).append(span)
    lines: list[str] = []

    def show(parent: str, depth: int) -> None:
        for span in children.get(parent, ()):
            milliseconds = (span.end - span.start) / 1e6
            lines.append(f"{'  ' * depth}{span.name} ({span.service}, {span.kind}) {milliseconds:.1f} ms")
            show(span.span_id, depth + 1)

    show("", 0)
    return "\n".join(lines)


def _received(service: str, span: Span) -> ReceivedSpan:
    return ReceivedSpan(
        service=service,
        name=span.name,
        kind=Span.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_"),
        trace_id=span.trace_id.hex(),
        span_id=span.span_id.hex(),
        parent_id=span.parent_span_id.hex(),
        start=span.start_time_unix_nano,
        end=span.end_time_unix_nano,
        attributes=_attributes(span.attributes),
        events=[(event.name, _attributes(event.attributes)) for event in span.events],
        failed=span.status.code == 2,
        status=span.status.message,
    )


def _attributes(pairs: Iterable[KeyValue]) -> dict[str, Any]:
    return {pair.key: _value(pair.value) for pair in pairs}


def _value(value: AnyValue) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_value(one) for one in value.array_value.values]
    if kind == "kvlist_value":
        return _attributes(value.kvlist_value.values)
    return getattr(value, kind) if kind else None


if __name__ == "__main__":
    with OtlpReceiver().running() as running:
        print(running.url, flush=True)
        sys.stdin.read()
