"""The spans of events and batches, as a collector gets them."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

import pytest

from bridge.events import header_names as names
from bridge.events.record import Envelope, Record, StoredRecord
from bridge.tracing.sdk import Tracing
from tests.tracing.collector import Collector, ReceivedSpan, end


NOW_US = 1_769_860_800_000_000
_ENVELOPE = Envelope("https://api.dryapi.dev/clients/42", "type", "socket", "json")

# OTLP's numbers of kinds.
_CLIENT, _PRODUCER = 3, 4


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    """A collector that the SDK's own variables name."""
    with Collector() as started:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", started.url)
        yield started


def _record(number: int = 1, key: bytes | None = b"job-1") -> Record:
    value = b'{"preview":"data:secret","result_url":"https://x/1.png?signature=abc"}'
    return Record("jobs", key, value, NOW_US + number, _ENVELOPE, (("a", b"b"),))


def _stored(records: Sequence[Record]) -> list[StoredRecord]:
    """Give records as the relay gets them, from memory or from a file."""
    return [
        StoredRecord(
            number,
            f"5f0c-{number}",
            record.key,
            record.value,
            record.received_at_us,
            record.envelope,
            record.extra,
        )
        for number, record in enumerate(records, 1)
    ]


def _offer(tracing: Tracing, *records: Record) -> list[Record]:
    offered: list[Record] = []
    tracing.offering(offered.extend)(list(records))
    return offered


def _traceparent(record: Record | StoredRecord) -> str:
    return dict(record.extra)[names.TRACEPARENT].decode()


def _ended(tracing: Tracing, collector: Collector) -> list[ReceivedSpan]:
    end(tracing)
    return collector.spans


def test_an_event_gets_the_context_of_its_span(collector: Collector) -> None:
    """Each record has a header of its own behind its others; nothing else changes."""
    tracing = Tracing("bridge-1")
    records = [_record(1), _record(2, key=None), _record(3, key=b"\xff")]
    offered = _offer(tracing, *records)
    spans = _ended(tracing, collector)

    for before, after, span in zip(records, offered, spans, strict=True):
        assert span.is_of(_traceparent(after))
        assert after.extra[:-1] == before.extra
        assert after.value == before.value
        assert (span.name, span.kind, span.parent_id) == ("create jobs", _PRODUCER, "")
        assert span.started_ns == before.received_at_us * 1000
    assert spans[0].trace_id != spans[1].trace_id
    assert spans[0].attributes == {
        "messaging.system": "kafka",
        "messaging.operation.name": "create",
        "messaging.operation.type": "create",
        "messaging.destination.name": "jobs",
        "messaging.kafka.message.key": "job-1",
        "messaging.message.body.size": len(records[0].value),
    }
    # A dead letter may have any bytes for its key.
    for span in spans[1:]:
        assert "messaging.kafka.message.key" not in span.attributes
    assert collector.paths == ["/v1/traces"]


def test_a_batch_links_to_its_events(collector: Collector) -> None:
    """What is each message's own stands on its link, the batch's on its span."""
    tracing = Tracing("bridge-1")
    rows = _stored(_offer(tracing, _record(1), _record(2), _record(3)))
    began = time.time_ns()
    broker = ("kafka-1", 9092)
    tracing.published("jobs", 2, rows, began, base_offset=40, broker=broker)
    *created, sent = _ended(tracing, collector)

    assert (sent.name, sent.kind, sent.failed) == ("send jobs", _CLIENT, False)
    assert (sent.trace_id, sent.parent_id) == (created[0].trace_id, created[0].span_id)
    assert sent.started_ns == began <= sent.ended_ns
    assert [(link.trace_id, link.span_id) for link in sent.links] == [
        (one.trace_id, one.span_id) for one in created
    ]
    assert [link.attributes for link in sent.links] == [
        {
            "messaging.message.id": f"5f0c-{number}",
            "messaging.kafka.message.key": "job-1",
            "messaging.kafka.offset": 39 + number,
        }
        for number in (1, 2, 3)
    ]
    assert sent.attributes == {
        "messaging.system": "kafka",
        "messaging.operation.name": "send",
        "messaging.operation.type": "send",
        "messaging.destination.name": "jobs",
        "messaging.destination.partition.id": "2",
        "messaging.client.id": "bridge-1",
        "messaging.batch.message_count": 3,
        "server.address": "kafka-1",
        "server.port": 9092,
    }


def test_a_failed_batch_says_what_failed(collector: Collector) -> None:
    """By the error's class alone: what a broker says may repeat anything."""
    tracing = Tracing("bridge-1")
    rows = _stored(_offer(tracing, _record()))
    began = time.time_ns()
    tracing.published("jobs", 0, rows, began, error_type="aiokafka.errors.NotEnough")
    tracing.published("jobs", 0, rows, began, base_offset=7)
    created, failed, sent = _ended(tracing, collector)
    assert (failed.failed, failed.message, sent.failed) == (True, "", False)
    assert failed.attributes["error.type"] == "aiokafka.errors.NotEnough"
    assert "error.type" not in sent.attributes
    assert "messaging.kafka.offset" not in failed.attributes
    assert failed.links[0].span_id == sent.links[0].span_id == created.span_id


def test_rows_of_a_time_without_tracing_are_no_links(collector: Collector) -> None:
    """An outbox may hold such; a batch of them alone has no span."""
    tracing = Tracing("bridge-1")
    plain, traced = _stored([_record(1), *_offer(tracing, _record(2))])
    tracing.published("jobs", 0, [plain], 1, base_offset=0)
    tracing.published("jobs", 0, [plain, traced], 1, base_offset=1)
    created, sent = _ended(tracing, collector)
    (link,) = sent.links
    assert (link.span_id, sent.parent_id) == (created.span_id, created.span_id)
    assert link.attributes["messaging.kafka.offset"] == 2
    assert sent.attributes["messaging.batch.message_count"] == 2


def test_what_is_not_sampled_says_so_in_its_header(
    collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A consumer that goes by its parent keeps nothing either; no span goes out."""
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "parentbased_traceidratio")
    monkeypatch.setenv("OTEL_TRACES_SAMPLER_ARG", "0")
    tracing = Tracing("bridge-1")
    offered = _offer(tracing, _record(1), _record(2))
    tracing.published("jobs", 0, _stored(offered), 1, base_offset=0)
    assert _ended(tracing, collector) == []
    first, second = map(_traceparent, offered)
    assert first != second
    for traceparent in (first, second):
        # The bit above it says that the ids are random (Trace Context, level 2).
        assert int(traceparent.rpartition("-")[2], 16) & 1 == 0


def test_a_batch_is_kept_where_one_of_its_events_is(
    collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each link leads to a span that was kept, and each of those to its batch."""
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "parentbased_traceidratio")
    monkeypatch.setenv("OTEL_TRACES_SAMPLER_ARG", "0.3")
    tracing = Tracing("bridge-1")
    for number in range(100):
        rows = _stored(_offer(tracing, _record(number), _record(number)))
        tracing.published("jobs", 0, rows, 1, base_offset=0)
    _ended(tracing, collector)
    created = {span.span_id for span in collector.named("create jobs")}
    sent = collector.named("send jobs")
    assert 20 < len(created) < 120
    assert {link.span_id for span in sent for link in span.links} == created


def test_a_switched_off_sdk_leaves_records_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """OTEL_SDK_DISABLED is OpenTelemetry's own switch."""
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    tracing = Tracing("bridge-1")
    assert _offer(tracing, _record()) == [_record()]
    end(tracing)
