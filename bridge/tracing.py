"""
OpenTelemetry: a span for each event received, and one for each batch sent.

Off by default: then OpenTelemetry, which is an extra, isn't imported. Its SDK reads the
standard OTEL_* variables: where spans are sent, and which are kept. An event's span
ends when the event is offered to the outbox. Its context is stored with the record, in
the outbox and in Kafka. A batch's span is made when its outcome is known, so no span
stays open.
"""

from __future__ import annotations

import urllib.parse
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Final

import msgspec
import trio

from bridge import __version__
from bridge.errors import DOCS_URL, ConfigError
from bridge.events.header_names import TRACEPARENT
from bridge.events.record import Record, StoredRecord
from bridge.settings import Settings


if TYPE_CHECKING:
    from opentelemetry.sdk.trace.export import SpanExporter


__all__ = ["Tracing", "open_tracing", "secrets_in"]

_SERVICE: Final = "dryapi-kafka-bridge"

# Those for messaging and for Kafka are still in development: names may change with
# another number.
_CONVENTIONS: Final = "https://opentelemetry.io/schemas/1.44.0"

# What the exporter gets at the end: a collector that answers takes some 10 ms for a
# full queue. It runs beside the outbox's last commit.
_GRACE_SECONDS: Final = 2.0

# Of variables, the first that is set counts.
_PREFIXES: Final = ("OTEL_EXPORTER_OTLP_TRACES_", "OTEL_EXPORTER_OTLP_")
_PROTOCOL: Final = "http/protobuf"

_Attributes = dict[str, str | int]


def open_tracing(settings: Settings, environ: Mapping[str, str]) -> Tracing | None:
    """
    Start tracing, if it is enabled.

    Args:
        settings: All settings.
        environ: The process's variables, of which the SDK reads its own.

    Returns:
        What makes the spans; None where tracing is off.

    Raises:
        ConfigError: The extra is missing, or a variable can't be used.
    """
    if not settings.tracing.enabled:
        return None
    for prefix in _PREFIXES:
        # Empty is not set, says the specification.
        if protocol := environ.get(f"{prefix}PROTOCOL", "").strip():
            if protocol == _PROTOCOL:
                break
            raise ConfigError(
                f"{prefix}PROTOCOL names a protocol that the bridge doesn't support",
                hint="Spans go out as http/protobuf, mostly to a collector's port 4318",
            )
    try:
        return Tracing(settings.kafka.client_id)
    except ImportError as error:
        raise ConfigError(
            "tracing.enabled (BRIDGE_TRACING_ENABLED) needs OpenTelemetry, which is"
            f" not installed (no module {error.name})",
            hint="Install it: pip install 'dryapi-kafka-bridge[tracing]'",
        ) from error
    except (OSError, RuntimeError, ValueError) as error:
        # Its text may repeat what the variable held.
        raise ConfigError(
            "an OTEL_* variable can't be used (OpenTelemetry's SDK raises"
            f" {type(error).__name__})",
            hint="Check those of the exporter, OTEL_BSP_* and OTEL_SPAN_*;"
            f" {DOCS_URL}/operate/tracing.md lists them",
        ) from None


def secrets_in(environ: Mapping[str, str]) -> Iterator[str]:
    """
    Find what no log line may show: headers' values, and parts of URLs.

    The SDK logs headers that it can't read, and the HTTP client URLs that it couldn't
    reach.

    Args:
        environ: The process's variables.
    """
    for prefix in _PREFIXES:
        for header in environ.get(f"{prefix}HEADERS", "").split(","):
            value = header.partition("=")[2] or header
            yield from (value, urllib.parse.unquote(value))
        try:
            url = urllib.parse.urlsplit(environ.get(f"{prefix}ENDPOINT", ""))
        except ValueError:
            continue
        yield from (url.query, url.username or "", url.password or "")


class Tracing:
    """
    Makes spans of events and of batches; its exporter has a thread of its own.

    Args:
        client_id: The bridge's name at the brokers.
        exporter: Where spans go; None for a collector, over OTLP.

    Raises:
        ImportError: The extra is missing.
    """

    def __init__(self, client_id: str, exporter: SpanExporter | None = None) -> None:
        # Importing takes 0.3 s.
        from opentelemetry import trace
        from opentelemetry.context import Context
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import (
            OTLPSpanExporter,
        )
        from opentelemetry.sdk.resources import OTELResourceDetector, Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.trace.propagation.tracecontext import (
            TraceContextTextMapPropagator,
        )

        own = Resource({"service.name": _SERVICE, "service.version": __version__})
        # By OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES, which win.
        named = OTELResourceDetector().detect()
        self._provider = TracerProvider(
            resource=Resource.create().merge(own).merge(named),
            # `run` shuts down, with a deadline.
            shutdown_on_exit=False,
        )
        self._provider.add_span_processor(
            BatchSpanProcessor(exporter or OTLPSpanExporter())
        )
        self._tracer = self._provider.get_tracer(
            _SERVICE, __version__, schema_url=_CONVENTIONS
        )
        self._client_id = client_id
        self._trace = trace
        self._header = TraceContextTextMapPropagator()
        # dryAPI sends no context with an event.
        self._no_parent = Context()

    async def run(self) -> None:
        """Wait to be cancelled, then export spans for as long as there is time."""
        try:
            await trio.sleep_forever()
        finally:
            with trio.move_on_after(_GRACE_SECONDS, shield=True):
                await trio.to_thread.run_sync(
                    self._provider.shutdown, abandon_on_cancel=True
                )

    # -- What comes in --------------------------------------------------------

    def offering(
        self, offer: Callable[[list[Record]], None]
    ) -> Callable[[list[Record]], None]:
        """Return `offer` with a span for each record before it."""
        return lambda records: offer([self._created(record) for record in records])

    def _created(self, record: Record) -> Record:
        """Return a record with the context of a span of its own."""
        topic = record.topic
        attributes = _operation("create", topic)
        attributes |= {"messaging.message.body.size": len(record.value)}
        span = self._tracer.start_span(
            f"create {topic}",
            self._no_parent,
            self._trace.SpanKind.PRODUCER,
            attributes | _key(record.key),
            start_time=record.received_at_us * 1000,
        )
        span.end()
        carrier: dict[str, str] = {}
        self._header.inject(carrier, self._trace.set_span_in_context(span))
        # With OTEL_SDK_DISABLED there is none.
        headers = tuple((name, text.encode()) for name, text in carrier.items())
        return msgspec.structs.replace(record, extra=record.extra + headers)

    # -- What goes out, called on the relay's thread --------------------------

    def published(  # noqa: PLR0913 - a batch's facts, as the relay reports them
        self,
        topic: str,
        partition: int,
        rows: Sequence[StoredRecord],
        began_ns: int,
        *,
        base_offset: int | None = None,
        broker: tuple[str, int] | None = None,
        error_type: str | None = None,
    ) -> None:
        """
        Make the span of a batch that was acknowledged or has failed.

        There is one if any of its events is sampled, and in that one's trace: another
        decision of the sampler would keep few of those that links lead to.

        Args:
            topic: The topic.
            partition: The partition.
            rows: What the batch held.
            began_ns: When it was handed to the producer, nanoseconds since the epoch.
            base_offset: The offset of the first; None where it failed.
            broker: Host and port of the broker that acknowledged it, if known.
            error_type: What failed; None where nothing did.
        """
        parent, links = None, []
        for place, row in enumerate(rows):
            if (header := dict(row.extra).get(TRACEPARENT)) is None:
                continue
            context = self._header.extract({TRACEPARENT: header.decode()})
            created = self._trace.get_current_span(context).get_span_context()
            if created.trace_flags.sampled:
                parent = parent or context
                offset = None if base_offset is None else base_offset + place
                links.append(self._trace.Link(created, _message(row, offset)))
        if not links:
            return
        attributes = _operation("send", topic)
        attributes["messaging.destination.partition.id"] = str(partition)
        attributes["messaging.client.id"] = self._client_id
        if len(rows) > 1:
            attributes["messaging.batch.message_count"] = len(rows)
        else:
            attributes |= _message(rows[0], base_offset)
        if broker is not None:
            attributes["server.address"], attributes["server.port"] = broker
        if error_type is not None:
            attributes["error.type"] = error_type
        span = self._tracer.start_span(
            f"send {topic}",
            parent,
            self._trace.SpanKind.CLIENT,
            attributes,
            links,
            start_time=began_ns,
        )
        if error_type is not None:
            # Without a description: what a broker says may repeat anything.
            span.set_status(self._trace.StatusCode.ERROR)
        span.end()


def _operation(name: str, topic: str) -> _Attributes:
    return {
        "messaging.system": "kafka",
        "messaging.operation.name": name,
        "messaging.operation.type": name,
        "messaging.destination.name": topic,
    }


def _message(row: StoredRecord, offset: int | None) -> _Attributes:
    """Describe one message: on its own span, or on its link from a batch's."""
    attributes: _Attributes = {"messaging.message.id": row.ce_id, **_key(row.key)}
    if offset is not None:
        attributes["messaging.kafka.offset"] = offset
    return attributes


def _key(key: bytes | None) -> _Attributes:
    """Give a key that is text; a dead letter may have any bytes, or none."""
    try:
        return {} if key is None else {"messaging.kafka.message.key": key.decode()}
    except UnicodeDecodeError:
        return {}
