"""
The spans, made with OpenTelemetry's SDK; the only importer of it.

An event's span is done when the event is handed to the outbox: its context travels with
the record, in the outbox's row as in Kafka. What became of a batch is told when that is
known, so that no span is ever open.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import msgspec
import trio
from opentelemetry.context import Context  # noqa: TID251 - this module's library
from opentelemetry.exporter.otlp.proto.http.trace_exporter import (  # noqa: TID251 - as above
    OTLPSpanExporter,
)
from opentelemetry.sdk.resources import (  # noqa: TID251 - as above
    OTELResourceDetector,
    Resource,
)
from opentelemetry.sdk.trace import TracerProvider  # noqa: TID251 - as above
from opentelemetry.sdk.trace.export import (  # noqa: TID251 - as above
    BatchSpanProcessor,
    SpanExporter,
)
from opentelemetry.trace import (  # noqa: TID251 - as above
    Link,
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    StatusCode,
    TraceFlags,
    set_span_in_context,
)

from bridge import __version__
from bridge.events import header_names
from bridge.events.record import Record, StoredRecord


__all__ = ["Tracing"]

_SERVICE: Final = "dryapi-kafka-bridge"

# Those for messaging and for Kafka are still in development: names may change with
# another number.
_CONVENTIONS: Final = "https://opentelemetry.io/schemas/1.44.0"

# What the exporter gets at the end: a collector that answers takes some 10 ms for a
# full queue, one that doesn't is left. It passes beside the outbox's last commit.
_GRACE_SECONDS: Final = 2.0

# Nothing is above an event: dryAPI sends no context with it.
_NO_PARENT: Final = Context()

_Attributes = dict[str, str | int]


class Tracing:
    """
    Makes spans of events and of batches; its exporter has a thread of its own.

    Args:
        client_id: What the brokers know the bridge as.
        exporter: Where spans go; by OTLP to a collector if it is left out.
    """

    def __init__(self, client_id: str, exporter: SpanExporter | None = None) -> None:
        own = Resource({"service.name": _SERVICE, "service.version": __version__})
        # By OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES, which win.
        named = OTELResourceDetector().detect()
        self._provider = TracerProvider(
            resource=Resource.create().merge(own).merge(named),
            # An end that has a deadline is `run`'s.
            shutdown_on_exit=False,
        )
        self._provider.add_span_processor(
            BatchSpanProcessor(exporter or OTLPSpanExporter())
        )
        self._tracer = self._provider.get_tracer(
            _SERVICE, __version__, schema_url=_CONVENTIONS
        )
        self._client_id = client_id

    async def run(self) -> None:
        """Wait to be cancelled, then bring spans out for as long as there is time."""
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
        """Put a span for each record before what takes them."""

        def traced(records: list[Record]) -> None:
            offer([self._created(record) for record in records])

        return traced

    def _created(self, record: Record) -> Record:
        """Give a record with the context of a span of its own."""
        topic = record.topic
        span = self._tracer.start_span(
            f"create {topic}",
            _NO_PARENT,
            SpanKind.PRODUCER,
            _about("create", topic),
            start_time=record.received_at_us * 1000,
        )
        if span.is_recording():
            if (key := _key(record.key)) is not None:
                span.set_attribute("messaging.kafka.message.key", key)
            span.set_attribute("messaging.message.body.size", len(record.value))
        span.end()
        context = span.get_span_context()
        if not context.is_valid:
            # OTEL_SDK_DISABLED.
            return record
        header = (header_names.TRACEPARENT, _traceparent(context))
        return msgspec.structs.replace(record, extra=(*record.extra, header))

    # -- What goes out, called on the relay's thread --------------------------

    def published(  # noqa: PLR0913 - a batch's facts, as the relay tells them
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

        There is one if any of its events is sampled, and in that one's trace: a
        sampler that is asked anew would keep few of those that links lead to.

        Args:
            topic: The topic.
            partition: The partition.
            rows: What the batch held.
            began_ns: When it was handed to the producer, nanoseconds since the epoch.
            base_offset: The offset of the first; None where it failed.
            broker: Host and port of who acknowledged it, where that is known.
            error_type: What failed; None where nothing did.
        """
        links = []
        for place, row in enumerate(rows):
            context = _context(row)
            if context is not None and context.trace_flags.sampled:
                offset = None if base_offset is None else base_offset + place
                links.append(Link(context, _of_message(row, offset)))
        if not links:
            return
        attributes = _about("send", topic)
        attributes["messaging.destination.partition.id"] = str(partition)
        attributes["messaging.client.id"] = self._client_id
        if len(rows) > 1:
            attributes["messaging.batch.message_count"] = len(rows)
        else:
            attributes |= _of_message(rows[0], base_offset)
        if broker is not None:
            attributes["server.address"], attributes["server.port"] = broker
        if error_type is not None:
            attributes["error.type"] = error_type
        span = self._tracer.start_span(
            f"send {topic}",
            set_span_in_context(NonRecordingSpan(links[0].context), _NO_PARENT),
            SpanKind.CLIENT,
            attributes,
            links,
            start_time=began_ns,
        )
        if error_type is not None:
            # Without a description: what a broker says may repeat anything.
            span.set_status(StatusCode.ERROR)
        span.end()


def _about(operation: str, topic: str) -> _Attributes:
    return {
        "messaging.system": "kafka",
        "messaging.operation.name": operation,
        "messaging.operation.type": operation,
        "messaging.destination.name": topic,
    }


def _of_message(row: StoredRecord, offset: int | None) -> _Attributes:
    """Say what is one message's own: on its span, or on the link of a batch's."""
    attributes: _Attributes = {"messaging.message.id": row.ce_id}
    if (key := _key(row.key)) is not None:
        attributes["messaging.kafka.message.key"] = key
    if offset is not None:
        attributes["messaging.kafka.offset"] = offset
    return attributes


def _key(key: bytes | None) -> str | None:
    """Give a key as text; None where there is none, or none that is text."""
    if key is None:
        return None
    try:
        return key.decode()
    except UnicodeDecodeError:
        return None


def _traceparent(context: SpanContext) -> bytes:
    """Write a context as W3C's Trace Context does, with the flags that the SDK sets."""
    return b"00-%032x-%016x-%02x" % (
        context.trace_id,
        context.span_id,
        context.trace_flags,
    )


def _context(row: StoredRecord) -> SpanContext | None:
    """Read the context that an event got when it came in, by whichever process."""
    for name, value in row.extra:
        if name == header_names.TRACEPARENT:
            _, trace, span, flags = value.split(b"-")
            return SpanContext(
                int(trace, 16),
                int(span, 16),
                is_remote=True,
                trace_flags=TraceFlags(int(flags, 16)),
            )
    return None
