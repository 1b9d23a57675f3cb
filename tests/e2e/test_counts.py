"""The counts add up: whatever happens, at each moment."""

from __future__ import annotations

import json
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from functools import partial

import pytest
import trio

from tests.conftest import Topic
from tests.e2e.jobs import Load, data_uri, job, jpeg
from tests.e2e.scene import Scene, counts_of, without_preview
from tests.kit.bridge_process import BridgeProcess, Metrics
from tests.kit.broker import configure_topic
from tests.kit.kafka import KafkaServer


# Full after some hundred events.
_OUTBOX_BYTES = 400_000
_BUFFER_BYTES = 50_000

_LOST = 50

_OPEN_SECONDS = 20.0

_IMAGE = data_uri(jpeg(10))

# A preview of the flood's isn't an image: it fills the disk as a dead letter.
_NO_IMAGE = "data:image/jpeg;base64," + "A" * 8_000

_SCRAPE_SECONDS = 0.05


def _check(metrics: Metrics) -> None:
    """What came is what went and what is there: of all, and of each topic's rows."""
    counts = counts_of(metrics)
    went = counts.published + counts.dead_lettered + counts.dropped + counts.waiting
    assert counts.came == went
    assert metrics.buffered >= 0
    found, committed, resent, acknowledged, refused, waiting = (
        Counter(metrics.table(f"bridge_rows_{name}"))
        for name in (
            "found_total",
            "committed_total",
            "resent_total",
            "acknowledged_total",
            "refused_total",
            "waiting",
        )
    )
    for table in (found, committed, resent, acknowledged, refused, waiting):
        assert min(table.values(), default=0) >= 0
    # Gaps as well.
    assert found + committed + resent == acknowledged + refused + waiting


def _offered(metrics: Metrics) -> int:
    """Give how many records the intakes say that they have made."""
    names = ("bridge_events_accepted_total", "bridge_previews_accepted_total")
    # Of a preview that isn't an image: the event went on without it.
    letters = metrics.total("bridge_dlq_records_total", reason="invalid_preview")
    return sum(map(metrics.total, names)) + letters


def _found(metrics: Metrics) -> int:
    """Give how many rows were found at the start; gaps apart."""
    table = metrics.table("bridge_rows_found_total")
    return sum(count for (topic,), count in table.items() if ".gaps" not in topic)


@asynccontextmanager
async def _scraped(bridge: BridgeProcess) -> AsyncIterator[list[Metrics]]:
    """Look at each reading's sums inside the block, from its start on; keep them."""
    readings: list[Metrics] = []

    async def scrape() -> None:
        while True:
            now = await bridge.wait_metrics(lambda _: True)
            _check(now)
            readings.append(now)
            await trio.sleep(_SCRAPE_SECONDS)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(scrape)
        yield readings
        nursery.cancel_scope.cancel()


def _poison() -> Iterator[str]:
    """Give what becomes a dead letter, and what comes after its job's end."""
    request_id = str(uuid.uuid4())
    for number in range(10):
        yield f"no JSON {number}"
        yield json.dumps({"request_id": request_id, "status": f"dreaming {number}"})
    for status in ("done", "in_progress", "in_progress"):
        fields = {"request_id": request_id, "status": status, "progress": "1.00"}
        yield json.dumps({**fields, "preview": None, "result_url": None})


async def _fill(bridge: BridgeProcess, load: Load) -> None:
    """Have more come than memory and disk take."""
    await load.run_together([job(4, [_NO_IMAGE] * 4) for _ in range(10)])
    while (await bridge.metrics()).total("bridge_events_dropped_total") < _LOST:
        await load.run_together([job(20) for _ in range(10)])


async def _wait_all_open(bridge: BridgeProcess) -> None:
    """Wait until jobs, dead letters, gaps and previews can be written."""
    with trio.fail_after(_OPEN_SECONDS):
        while len(bridge.logged("topic.open")) < 4:  # noqa: ASYNC110 - a log's lines
            await trio.sleep(0.02)


@pytest.mark.timeout(90)
async def test_whatever_came_is_accounted_for_at_any_moment(
    scene: Scene,
    dryapi: str,
    own_kafka: KafkaServer,
    topic: Topic,
    preview_topic: str,
) -> None:
    """Poison, previews, refusals, drops, a crash, a backlog: each scrape adds up."""
    bridge = scene.bridge(
        dryapi,
        previews="topic",
        outbox_max_bytes=_OUTBOX_BYTES,
        outbox_buffer_bytes=_BUFFER_BYTES,
    )
    await bridge.start_and_wait()
    # These come a moment after the subscription by which the bridge is ready.
    await bridge.wait_logged("gap.resolved")
    await _wait_all_open(bridge)
    async with scene.load(bridge, arrives="some") as load, _scraped(bridge):
        said = bridge.all_output
        await load.run_together([job(3, [_IMAGE]) for _ in range(10)])
        # Previews are records of their own.
        await bridge.wait_metrics(lambda now: now.published == load.count + 10)
        # Nothing is said of a stream that flows.
        assert bridge.all_output == said
        await trio.to_thread.run_sync(
            partial(
                configure_topic,
                topic.bootstrap_servers,
                preview_topic,
                {"max.message.bytes": "600"},
            )
        )
        poison = await scene.publish(_poison())
        await bridge.wait_metrics(lambda now: now.read == load.count + poison)
        await bridge.wait_metrics(lambda now: now.waiting == 0)
        own_kafka.pause()
        # Previews that the restarted bridge finds: in memory a flood drops them first.
        await load.run_together([job(2, [_IMAGE]) for _ in range(3)])
        await bridge.wait_metrics(
            lambda now: now.read == load.count + poison and now.buffered == 0
        )
        await _fill(bridge, load)
        crashed = await bridge.wait_metrics(lambda now: now.read == load.count + poison)
    bridge.kill()
    left = len(bridge.waiting_rows())
    own_kafka.resume()
    assert crashed.total("bridge_outbox_accepted_total") == _offered(crashed)
    assert counts_of(crashed).dead_lettered >= poison - 1
    assert crashed.total("bridge_events_dropped_total") >= _LOST

    # With room, and under load while what was found goes out.
    bridge = scene.bridge(dryapi, previews="topic", outbox_dir=bridge.outbox)
    bridge.start()
    async with _scraped(bridge) as readings:
        await bridge.wait_ready()
        async with scene.load(bridge, steady=True) as load:
            await bridge.wait_metrics(lambda now: _found(now) == left)
            await load.stop()
        rested = await bridge.wait_metrics(
            lambda now: now.read == load.count and now.waiting == 0
        )
    assert len(readings) > 3
    assert counts_of(rested).waiting == 0
    assert rested.total("bridge_outbox_accepted_total") == _offered(rested)
    assert rested.total("bridge_dlq_records_total", reason="refused_by_broker") > 0
    # There are as many series as before, whatever jobs there are.
    assert not load.accepted.keys() & rested.words
    await scene.end(
        label=without_preview,
        # As an independent reader counts them.
        counts=[counts_of(crashed), counts_of(rested)],
        all_counted=True,
        gaps=None,
        dead_letters=dict.fromkeys(
            (
                "not_json",
                "unknown_status",
                "after_terminal",
                "invalid_preview",
                "refused_by_broker",
            )
        ),
        marks={"preview_moved", "preview_invalid", "preview_dropped"},
        headers={"bridge_preview_sha256"},
    )
