"""The main job: events leave a real soketi and arrive in a real Kafka topic."""

from __future__ import annotations

import time

from bridge.sandbox.jobs import paint
from tests.e2e.jobs import job
from tests.e2e.scene import Scene


async def test_every_event_arrives_once_in_order_and_as_designed(
    scene: Scene, dryapi: str
) -> None:
    """60 jobs at once, 2,400 events, 240 previews: the topic holds just them."""
    previews = [
        stage
        for picture in paint(80_000).previews
        for stage in picture
        if 20_000 <= len(stage) <= 90_000
    ]
    assert max(map(len, previews)) > 70_000
    bridge = scene.bridge(dryapi)
    await bridge.start_and_wait()
    began_ms = time.time_ns() // 1_000_000
    async with scene.load(bridge) as load:
        shown = [
            [previews[(number + step) % len(previews)] for step in range(4)]
            for number in range(60)
        ]
        await load.run_together([job(38, each) for each in shown])
    assert load.count == 2_400
    metrics = await bridge.wait_metrics(lambda now: now.published >= load.count)
    assert metrics.read == metrics.committed == metrics.published == load.count
    ending = await scene.end()
    ended_ms = time.time_ns() // 1_000_000
    assert all(began_ms <= record.timestamp <= ended_ms for record in ending.jobs)
    assert {record.partition for record in ending.jobs} == set(
        range(scene.topic.partitions)
    )
