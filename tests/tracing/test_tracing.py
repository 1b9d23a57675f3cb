"""The spans of events and batches, and what a bridge does without a collector."""

from __future__ import annotations

import io
import json
import socket
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing

import pytest
import trio
import trio.testing
from opentelemetry.exporter.otlp.proto.http.trace_exporter import (  # noqa: TID251 - its thread is to end here
    OTLPSpanExporter,
)
from opentelemetry.sdk.trace.export import SpanExporter  # noqa: TID251 - likewise

from bridge.errors import ConfigError
from bridge.events import header_names as names
from bridge.events.record import Envelope, Record, StoredRecord
from bridge.operations import logs
from bridge.settings import Settings, TracingSettings
from bridge.text import hide
from bridge.tracing import Tracing, open_tracing, secrets_in
from tests.tracing.collector import Collector, ReceivedSpan, collecting


NOW_US = 1_769_860_800_000_000
_ENVELOPE = Envelope("https://api.dryapi.dev/clients/42", "type", "socket", "json")
_ON = Settings(tracing=TracingSettings(enabled=True))
_CANARY = "canary7d1f"

# OTLP's numbers of kinds.
_CLIENT, _PRODUCER = 3, 4

_OF_SEND = {
    "messaging.system": "kafka",
    "messaging.operation.name": "send",
    "messaging.operation.type": "send",
    "messaging.destination.name": "jobs",
    "messaging.client.id": "bridge-1",
}


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    """A collector that the SDK's own variables name."""
    with collecting() as started:
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


def _traceparent(record: Record) -> str:
    return dict(record.extra)[names.TRACEPARENT].decode()


def _ended(tracing: Tracing, collector: Collector) -> list[ReceivedSpan]:
    """Bring all spans out, as the service does when it stops."""

    async def run_and_stop() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(tracing.run)
            await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()

    trio.run(run_and_stop)
    return collector.spans


# -- Spans -----------------------------------------------------------------------------


def test_an_event_gets_the_context_of_its_span(collector: Collector) -> None:
    """Each record has a header of its own behind its others; nothing else changes."""
    tracing = Tracing("bridge-1")
    records = [_record(1), _record(2, key=None), _record(3, key=b"\xff")]
    offered = _offer(tracing, *records)
    spans = _ended(tracing, collector)

    for before, after, span in zip(records, offered, spans, strict=True):
        version, *ids, flags = _traceparent(after).split("-")
        assert (version, *ids) == ("00", span.trace_id, span.span_id)
        assert int(flags, 16) & 1 == 1
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
    """What is each message's own is on its link, the batch's on its span."""
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
    assert sent.attributes == _OF_SEND | {
        "messaging.destination.partition.id": "2",
        "messaging.batch.message_count": 3,
        "server.address": "kafka-1",
        "server.port": 9092,
    }


def test_a_failed_batch_says_what_failed(collector: Collector) -> None:
    """Only by the error's class: what a broker says may repeat anything."""
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


@pytest.mark.parametrize("share", ["0", "0.3"])
def test_a_batch_is_kept_where_one_of_its_events_is(
    share: str, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each link leads to a span that was kept, and each header says if its own was."""
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "parentbased_traceidratio")
    monkeypatch.setenv("OTEL_TRACES_SAMPLER_ARG", share)
    tracing = Tracing("bridge-1")
    kept: dict[str, bool] = {}
    for number in range(100):
        offered = _offer(tracing, _record(number), _record(number))
        for record in offered:
            _, _, span_id, flags = _traceparent(record).split("-")
            # The bit above it says that the ids are random (Trace Context, level 2).
            kept[span_id] = int(flags, 16) & 1 == 1
        tracing.published("jobs", 0, _stored(offered), 1, base_offset=0)
    _ended(tracing, collector)
    created = {span.span_id for span in collector.named("create jobs")}
    sent = collector.named("send jobs")
    assert len(kept) == 200
    assert created == {span_id for span_id, is_kept in kept.items() if is_kept}
    assert (20 < len(created) < 120) if share == "0.3" else not created
    assert {link.span_id for span in sent for link in span.links} == created


def test_a_switched_off_sdk_leaves_records_alone(
    collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    """OTEL_SDK_DISABLED is OpenTelemetry's own switch."""
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    tracing = Tracing("bridge-1")
    assert _offer(tracing, _record()) == [_record()]
    assert _ended(tracing, collector) == []


# -- Without a collector ---------------------------------------------------------------

# More than the queue holds, so that some must be dropped.
_EVENTS = 5_000


@pytest.mark.usefixtures("logging_as_before")
@pytest.mark.parametrize("listens", [False, True])
async def test_nobody_waits_for_a_collector(
    listens: bool,  # noqa: FBT001 - a parameter
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Events go on at once, the log has a few lines of it, a stop is soon over."""
    out = io.StringIO()
    logs.configure("json", "debug", out)
    with closing(socket.socket()) as port:
        port.bind(("127.0.0.1", 0))
        if listens:
            # It never answers: no program accepts what connects.
            port.listen(8)
        environ = {
            "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": (
                f"http://127.0.0.1:{port.getsockname()[1]}/?token={_CANARY}"
            ),
            "OTEL_BSP_SCHEDULE_DELAY": "10",
        }
        for name, value in environ.items():
            monkeypatch.setenv(name, value)
        for text in secrets_in(environ):
            hide(text)
        before = set(threading.enumerate())
        exporter: SpanExporter = OTLPSpanExporter()
        tracing = Tracing("bridge-1", exporter)
        taken: list[Record] = []
        offer = tracing.offering(taken.extend)
        longest = 0.0
        async with trio.open_nursery() as nursery:
            nursery.start_soon(tracing.run)
            for number in range(_EVENTS // 10):
                began = time.monotonic()
                offer([Record("jobs", b"job-1", b"{}", number + 1, _ENVELOPE)] * 10)
                longest = max(longest, time.monotonic() - began)
                await trio.lowlevel.checkpoint()
            # Its exporter has tried once, and waits to try again.
            await trio.sleep(0.3)
            ending = time.monotonic()
            nursery.cancel_scope.cancel()
        # One that is silent would be waited for for 10 s.
        assert time.monotonic() - ending < 8
    lines = [json.loads(line) for line in out.getvalue().splitlines()]
    # A process that ends leaves the exporter's thread behind; this one doesn't end.
    exporter.shutdown()
    for thread in set(threading.enumerate()) - before:
        if thread.name.startswith("Otel"):
            thread.join(10)
            assert not thread.is_alive()
    assert len(taken) == _EVENTS
    # Far below what a connection to it would wait.
    assert longest < 5
    assert len(lines) < 10
    # One that is silent is abandoned after 10 s, and reported then.
    assert lines or listens
    assert {line["level"] for line in lines} <= {"warning", "error"}
    assert _CANARY not in out.getvalue()


# -- Starting --------------------------------------------------------------------------


@pytest.mark.parametrize("missing", ["opentelemetry.sdk.trace", "requests"])
def test_a_missing_extra_is_named(
    missing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A start says what to install, and ends as any wrong setting does."""
    for name in [*sys.modules]:
        if name.startswith("opentelemetry"):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(ConfigError) as caught:
        open_tracing(_ON, {})
    assert "'dryapi-kafka-bridge[tracing]'" in str(caught.value)
    assert "BRIDGE_TRACING_ENABLED" in str(caught.value)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "-1", r"/docs/operate/tracing\.md"),
        ("OTEL_SPAN_LINK_COUNT_LIMIT", _CANARY, r"/docs/operate/tracing\.md"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc", "_OTLP_PROTOCOL .*http/protobuf"),
        (
            "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL",
            "http/json",
            "_TRACES_PROTOCOL .*http/protobuf",
        ),
    ],
)
def test_a_variable_that_cannot_be_used_is_a_wrong_setting(
    name: str, value: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error says what to look at; the value isn't repeated."""
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match=words) as caught:
        open_tracing(_ON, {name: value})
    assert _CANARY not in str(caught.value)


def test_secrets_of_the_exporter_are_known() -> None:
    """What the SDK and its HTTP client may log is hidden by value."""
    found = set(
        secrets_in(
            {
                "OTEL_EXPORTER_OTLP_HEADERS": "Authorization=Bearer%20one,x-key=two",
                "OTEL_EXPORTER_OTLP_TRACES_HEADERS": "three",
                "OTEL_EXPORTER_OTLP_ENDPOINT": "https://four:five@host/v1?token=six",
                "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://[",
            }
        )
    )
    assert found - {""} == {
        *("Bearer%20one", "Bearer one", "two", "three", "four", "five", "token=six")
    }
