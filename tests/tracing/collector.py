"""A collector of our own: takes spans as OTLP over HTTP, and keeps them."""

from __future__ import annotations

import gzip
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

import trio
import trio.testing
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (  # noqa: TID251 - the protocol, from outside
    ExportTraceServiceRequest,
)

from bridge.tracing.sdk import Tracing


def end(tracing: Tracing) -> None:
    """Bring all spans out, as the service does when it stops."""
    trio.run(_run_and_stop, tracing)


async def _run_and_stop(tracing: Tracing) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(tracing.run)
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()


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

    def is_of(self, traceparent: str) -> bool:
        """Whether it is the span that a header names, as one that is sampled."""
        version, trace_id, span_id, flags = traceparent.split("-")
        named = (version, trace_id, span_id, int(flags, 16) & 1)
        return named == ("00", self.trace_id, self.span_id, 1)


class Collector:
    """Listens on a port of its own while it is entered."""

    def __init__(self) -> None:
        self.spans: list[ReceivedSpan] = []
        self.headers: list[dict[str, str]] = []
        self.paths: list[str] = []
        self.bodies: list[bytes] = []
        self._server = ThreadingHTTPServer(
            ("127.0.0.1", 0), _handler(self._take), bind_and_activate=True
        )
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.05,), daemon=True
        )

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def url(self) -> str:
        """What OTEL_EXPORTER_OTLP_ENDPOINT is to be."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def named(self, name: str) -> list[ReceivedSpan]:
        """Give the spans with this name, in order."""
        return [span for span in self.spans if span.name == name]

    def wait(self, condition: Callable[[Self], bool], seconds: float = 10.0) -> None:
        """Wait until what has come is as wanted."""
        deadline = time.monotonic() + seconds
        while not condition(self):
            names = [span.name for span in self.spans]
            assert time.monotonic() < deadline, names
            time.sleep(0.02)

    def _take(self, path: str, headers: dict[str, str], body: bytes) -> None:
        if headers.get("content-encoding") == "gzip":
            body = gzip.decompress(body)
        self.paths.append(path)
        self.headers.append(headers)
        self.bodies.append(body)
        self.spans += _decoded(body)


def _handler(
    take: Callable[[str, dict[str, str], bytes], None],
) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        """Answers the one request that there is."""

        def do_POST(self) -> None:
            """Take spans."""
            body = self.rfile.read(int(self.headers["content-length"]))
            names = {name.lower(): value for name, value in self.headers.items()}
            take(self.path, names, body)
            self.send_response(200)
            self.send_header("content-type", "application/x-protobuf")
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's
            """Say nothing."""

    return Handler


def _decoded(body: bytes) -> list[ReceivedSpan]:
    request = ExportTraceServiceRequest.FromString(body)
    return [
        ReceivedSpan(
            name=span.name,
            kind=span.kind,
            trace_id=span.trace_id.hex(),
            span_id=span.span_id.hex(),
            parent_id=span.parent_span_id.hex(),
            started_ns=span.start_time_unix_nano,
            ended_ns=span.end_time_unix_nano,
            # STATUS_CODE_ERROR.
            failed=span.status.code == 2,
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
        for resource in request.resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    ]


def _attributes(pairs: Any) -> dict[str, object]:
    return {
        pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in pairs
    }
