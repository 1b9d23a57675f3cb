"""A collector of our own: takes spans as OTLP over HTTP, and keeps them."""

from __future__ import annotations

import gzip
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any, Self

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (  # noqa: TID251 - the protocol, from outside
    ExportTraceServiceRequest,
)


@dataclass(frozen=True)
class ReceivedLink:
    """A link of a span."""

    trace_id: str
    span_id: str
    attributes: Mapping[str, object]


@dataclass(frozen=True)
class ReceivedSpan:
    """A span as it came."""

    name: str
    kind: int
    trace_id: str
    span_id: str
    parent_id: str
    started_ns: int
    ended_ns: int
    failed: bool
    message: str
    attributes: Mapping[str, object]
    links: tuple[ReceivedLink, ...]
    resource: Mapping[str, object]


@dataclass
class Collector:
    """What has come."""

    url: str = ""
    spans: list[ReceivedSpan] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)

    def named(self, name: str) -> list[ReceivedSpan]:
        """Give the spans with this name, in order."""
        return [span for span in self.spans if span.name == name]

    def wait(self, condition: Callable[[Self], bool], seconds: float = 10.0) -> None:
        """Wait until what has come is as wanted."""
        deadline = time.monotonic() + seconds
        while not condition(self):
            assert time.monotonic() < deadline, [span.name for span in self.spans]
            time.sleep(0.02)


@contextmanager
def collecting() -> Iterator[Collector]:
    """Listen on a port; its URL is for OTEL_EXPORTER_OTLP_ENDPOINT."""
    collector = Collector()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            headers = {name.lower(): value for name, value in self.headers.items()}
            if headers.get("content-encoding") == "gzip":
                body = gzip.decompress(body)
            collector.paths.append(self.path)
            collector.headers.append(headers)
            collector.bodies.append(body)
            collector.spans += _decoded(body)
            self.send_response(200)
            self.send_header("content-type", "application/x-protobuf")
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        collector.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        yield collector
        server.shutdown()
        thread.join()


def _decoded(body: bytes) -> Iterator[ReceivedSpan]:
    for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
        for span in (span for scope in resource.scope_spans for span in scope.spans):
            yield ReceivedSpan(
                name=span.name,
                kind=span.kind,
                trace_id=span.trace_id.hex(),
                span_id=span.span_id.hex(),
                parent_id=span.parent_span_id.hex(),
                started_ns=span.start_time_unix_nano,
                ended_ns=span.end_time_unix_nano,
                failed=span.status.code == 2,  # STATUS_CODE_ERROR
                message=span.status.message,
                attributes=_attributes(span.attributes),
                links=tuple(
                    ReceivedLink(
                        link.trace_id.hex(),
                        link.span_id.hex(),
                        _attributes(link.attributes),
                    )
                    for link in span.links
                ),
                resource=_attributes(resource.resource.attributes),
            )


def _attributes(pairs: Any) -> dict[str, object]:
    return {
        pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in pairs
    }
