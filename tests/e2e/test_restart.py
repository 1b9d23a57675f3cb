"""Ends and starts of the bridge: what it has read reaches Kafka, once, in order."""

from __future__ import annotations

import signal

import pytest
import trio

from tests.e2e.jobs import job
from tests.e2e.scene import Scene
from tests.kit.kafka import KafkaServer


@pytest.mark.parametrize(
    "number",
    [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)],
)
async def test_a_signal_under_load_drains(
    scene: Scene, dryapi: str, number: signal.Signals
) -> None:
    """It ends with 0, an empty outbox, and a record for each event that it read."""
    bridge = scene.bridge(dryapi)
    await bridge.start_and_wait()
    async with scene.load(steady=True, arrives="some") as load:
        seen = await bridge.wait_metrics(lambda now: now.read >= 300)
        assert await bridge.stop(number) == 0
        await load.stop()
    (stopped,) = bridge.logged("service.stopped")
    assert stopped["waiting"] == stopped["dropped"] == 0
    ending = await scene.end()
    assert stopped["read"] == stopped["published"] == len(ending.jobs) >= seen.read
    for record in ending.jobs:
        # What was read before some moment, and no more.
        assert record.value in load.accepted[(record.key or b"").decode()]


@pytest.mark.slow
@pytest.mark.parametrize("signals", [1, 2])
async def test_sigterm_without_kafka_keeps_the_rows_for_the_next_start(
    scene: Scene, dryapi: str, own_kafka: KafkaServer, signals: int
) -> None:
    """It ends within its deadline, at once at a second signal, and loses nothing."""
    deadline_seconds = 1.0 if signals == 1 else 60.0
    bridge = scene.bridge(dryapi, shutdown_timeout_seconds=deadline_seconds)
    await bridge.start_and_wait()
    async with scene.load() as load:
        own_kafka.stop()
        await load.run_together([job(10) for _ in range(10)])
    await bridge.wait_metrics(lambda now: now.committed == load.count)
    began = trio.current_time()
    bridge.send(signal.SIGTERM)
    await bridge.wait_logged("service.stopping")
    if signals == 2:
        bridge.send(signal.SIGTERM)
    assert await bridge.wait_exit() == 0
    # 1 s, or nothing, and the drain timeouts of relay and outbox on a busy machine.
    assert trio.current_time() - began < 12.0
    assert len(bridge.waiting_rows()) == load.count

    own_kafka.start()
    await bridge.start_and_wait()
    await scene.finish(bridge)
    await scene.end(gaps=["first_start", "stopped"])


async def test_sigterm_under_load_while_kafka_hangs_keeps_the_rows(
    scene: Scene, dryapi: str, own_kafka: KafkaServer
) -> None:
    """A broker that is connected and silent holds the end up no longer than allowed."""
    bridge = scene.bridge(dryapi, shutdown_timeout_seconds=1)
    await bridge.start_and_wait()
    async with scene.load(steady=True, arrives="some") as load:
        await bridge.wait_metrics(lambda now: now.published >= 100)
        own_kafka.pause()
        hung = await bridge.metrics()
        await bridge.wait_metrics(lambda now: now.committed >= hung.committed + 200)
        began = trio.current_time()
        assert await bridge.stop() == 0
        assert trio.current_time() - began < 12.0
        await load.stop()
    (stopped,) = bridge.logged("service.stopped")
    assert stopped["waiting"] == len(bridge.waiting_rows()) >= 200
    rows = bridge.rows()
    assert stopped["read"] == len(rows)

    own_kafka.resume()
    await bridge.start_and_wait()
    await scene.finish(bridge)
    await scene.end(
        committed={row.ce_id: row.value for row in rows},
        gaps=["first_start", "stopped"],
    )


@pytest.mark.slow
async def test_a_refused_start_still_delivers_what_an_earlier_run_left(
    scene: Scene, dryapi: str, own_kafka: KafkaServer
) -> None:
    """With a token that is no longer good it ends with 3, and the rows are in Kafka."""
    bridge = scene.bridge(dryapi, shutdown_timeout_seconds=0.1)
    await bridge.start_and_wait()
    async with scene.load() as load:
        own_kafka.stop()
        await load.run_together([job(10) for _ in range(10)])
    await bridge.wait_metrics(lambda now: now.committed == load.count)
    assert await bridge.stop() == 0
    assert len(bridge.waiting_rows()) == load.count

    own_kafka.start()
    refused = scene.bridge(
        dryapi,
        outbox_dir=bridge.outbox,
        api_token=f"{scene.account.token}-revoked",
        # A broker that has just started takes its time on a busy machine.
        shutdown_timeout_seconds=60,
    )
    refused.start()
    assert "HTTP 401" in await refused.wait_refusal(3)
    await scene.end(gaps=["first_start", "stopped"], open_gaps=1)
