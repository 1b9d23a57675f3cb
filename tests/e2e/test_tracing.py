"""Spans and their contexts, from soketi through the outbox to a topic's readers."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence

import pytest
import trio

from tests.e2e.jobs import job
from tests.e2e.scene import EARLY_CRASH, Scene
from tests.kit.kafka import KafkaServer
from tests.kit.reader import Record
from tests.tracing.collector import Collector, ReceivedSpan, collecting


_CANARY = f"canary-{secrets.token_hex(12)}"


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    """A collector that the standard variables lead the bridge to."""
    with collecting() as started:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", started.url)
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", f"x-token={_CANARY}")
        monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")
        yield started


async def _wait_created(collector: Collector, name: str, count: int) -> None:
    await trio.to_thread.run_sync(
        collector.wait, lambda now: len(now.named(name)) >= count
    )


def _sent(
    topic: str, records: Sequence[Record], collector: Collector
) -> dict[str, ReceivedSpan]:
    """Find the batch that brought each record, by the spans; gives them by `ce_id`."""
    created = {span.span_id for span in collector.named(f"create {topic}")}
    contexts = {
        record.headers["ce_id"].decode(): record.headers["traceparent"].decode()
        for record in records
    }
    assert len(created) == len(records)
    assert {context.split("-")[2] for context in contexts.values()} == created
    found: dict[str, ReceivedSpan] = {}
    for batch in collector.named(f"send {topic}"):
        for link in batch.links if not batch.failed else ():
            ce_id = link.attributes["messaging.message.id"]
            assert isinstance(ce_id, str)
            assert contexts[ce_id].split("-")[1:3] == [link.trace_id, link.span_id]
            assert ce_id not in found
            found[ce_id] = batch
    return found


@pytest.mark.slow
async def test_a_context_lasts_over_a_crash(
    scene: Scene, dryapi: str, own_kafka: KafkaServer, collector: Collector
) -> None:
    """What came in before a kill goes out after it with the context of then."""
    topic = scene.topic.name
    bridge = scene.bridge(dryapi, tracing_enabled="true")
    await bridge.start_and_wait()
    async with scene.load(bridge) as load:
        await load.run_together([job(8), job(8)])
        first = load.count
        await bridge.wait_metrics(lambda now: now.published >= first)
        own_kafka.pause()
        # What comes first is on its way, what comes then waits behind it.
        for _ in range(2):
            await load.run_together([job(8) for _ in range(6)])
            await bridge.wait_metrics(lambda now: now.committed >= load.count)
    await _wait_created(collector, f"create {topic}", load.count)
    bridge.kill()
    own_kafka.resume()
    await bridge.start_and_wait()
    await bridge.wait_metrics(lambda now: now.waiting == 0)
    ending = await scene.end(gaps=["first_start", EARLY_CRASH], headers={"traceparent"})
    records = ending.jobs
    assert bridge.logged("settings.odd") == []

    sent = _sent(topic, records, collector)
    processes = {
        ce_id: batch.resource["service.instance.id"] for ce_id, batch in sent.items()
    }
    before = [*processes.values()].count(processes[_first(records)])
    after = len(processes) - before
    # What was on its way at the kill is in the log, without an acknowledgement.
    assert before == first
    assert 0 < after <= load.count - first
    assert len(set(processes.values())) == 2
    _check_secrets(scene, collector, bridge.all_output)


def _first(records: Sequence[Record]) -> str:
    """Give the `ce_id` of the record that was read first."""
    first = min(records, key=lambda record: record.headers["ce_time"])
    return first.headers["ce_id"].decode()


def _check_secrets(scene: Scene, collector: Collector, output: str) -> None:
    """Look for what no log line may hold, and what no span may."""
    assert collector.headers
    assert all(headers["x-token"] == _CANARY for headers in collector.headers)
    assert _CANARY not in output
    for body in collector.bodies:
        assert scene.account.token.encode() not in body
        assert b"signature=" not in body
