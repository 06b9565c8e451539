"""Spans of OpenTelemetry: recorded in the process of a test, or received from other processes by OTLP over HTTP."""

from __future__ import annotations

import functools
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry import trace
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter


@dataclass(frozen=True)
class Span:
    """A span that has ended.

    :param start, end: nanoseconds since 1970.
    :param error: description of its status, if that is an error.
    :param events: their names; what was recorded of an exception would be one.
    """

    name: str
    id: str
    parent: str | None
    trace_id: str
    start: int
    end: int
    attributes: Mapping[str, Any]
    error: str | None = None
    events: list[str] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


# --- in this process --------------------------------------------------------------------------------------------------


@functools.cache
def _exporter() -> InMemorySpanExporter:
    # A process can have only one provider. Tests without a recorded span around them are not affected.
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    return exporter


@contextmanager
def recording(name: str = "worker.test") -> Iterator[list[Span]]:
    """Record a span around the block, as Airflow does around a task. The list has the spans inside it when it ends."""
    found: list[Span] = []
    exporter = _exporter()
    exporter.clear()
    with trace.get_tracer(__name__).start_as_current_span(name) as around:
        try:
            yield found
        finally:
            here = around.get_span_context().trace_id
            ended = [each for each in exporter.get_finished_spans() if each.context and each.context.trace_id == here]
            found += map(_of_sdk, sorted(ended, key=lambda each: each.start_time or 0))


def _of_sdk(span: ReadableSpan) -> Span:
    assert span.context
    return Span(
        span.name,
        f"{span.context.span_id:016x}",
        f"{span.parent.span_id:016x}" if span.parent else None,
        f"{span.context.trace_id:032x}",
        span.start_time or 0,
        span.end_time or 0,
        dict(span.attributes or {}),
        span.status.description if not span.status.is_ok and not span.status.is_unset else None,
        [event.name for event in span.events],
    )


# --- from other processes ---------------------------------------------------------------------------------------------


class Collector:
    """A receiver of OTLP on loopback.

    :ivar url: for the variable ``OTEL_EXPORTER_OTLP_ENDPOINT``.
    :ivar bodies: what was received, as it came.
    """

    def __init__(self) -> None:
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.path == "/v1/traces":
                    collector.bodies.append(body)
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.bodies: list[bytes] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def variables(self) -> dict[str, str]:
        """Return what makes Airflow 3.2 and later send its spans here."""
        return {
            "AIRFLOW__TRACES__OTEL_ON": "True",
            "OTEL_TRACES_EXPORTER": "otlp_proto_http",
            "OTEL_EXPORTER_OTLP_ENDPOINT": self.url,
            "OTEL_EXPORTER_OTLP_COMPRESSION": "none",
            "OTEL_SERVICE_NAME": "airflow",
        }

    @property
    def spans(self) -> list[Span]:
        """All spans so far, in the order of their beginning."""
        return sorted((span for body in self.bodies for span in _received(body)), key=lambda span: span.start)

    def __enter__(self) -> Collector:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def _received(body: bytes) -> Iterator[Span]:
    for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
        for scope in resource.scope_spans:
            for span in scope.spans:
                yield Span(
                    span.name,
                    span.span_id.hex(),
                    span.parent_span_id.hex() or None,
                    span.trace_id.hex(),
                    span.start_time_unix_nano,
                    span.end_time_unix_nano,
                    {each.key: _value(each.value) for each in span.attributes},
                    span.status.message if span.status.code == 2 else None,
                    [event.name for event in span.events],
                )


def _value(value: Any) -> Any:
    return getattr(value, value.WhichOneof("value"))
