"""The late write of a dead bridge: a request that reaches Kafka after its successor."""

from __future__ import annotations

import pytest
import trio

from tests.e2e.aftermath import check_once, finish, without_repeats
from tests.e2e.jobs import job
from tests.e2e.scene import Scene
from tests.e2e.topic_records import check_exactly
from tests.servers.kafka import KafkaServer
from tests.servers.proxy import KafkaProxy, RequestKind


# A start, the quiet time before the successor resumes, and a busy machine.
_DEADLINE_SECONDS = 25.0


@pytest.fixture
async def proxy(nursery: trio.Nursery, own_kafka: KafkaServer) -> KafkaProxy:
    """A proxy in front of the suite's Kafka."""
    made = KafkaProxy(own_kafka.detours[0])
    await nursery.start(made.serve)
    return made


async def test_a_late_write_is_at_most_a_repeat_with_the_same_identity(
    scene: Scene, dryapi: str, proxy: KafkaProxy
) -> None:
    """What lands after the successor has sent it too is the same record once more."""
    dying = scene.bridge(dryapi, kafka_bootstrap_servers=proxy.bootstrap_servers)
    await dying.start_and_wait()
    async with scene.load() as load:
        await load.run_together([job(10) for _ in range(10)])
        await dying.wait_metrics(lambda now: now.published == load.count)
        proxy.hold(RequestKind.PRODUCE)
        await load.run_together([job(10) for _ in range(10)])
        await dying.wait_metrics(lambda now: now.committed == load.count)
        with trio.fail_after(_DEADLINE_SECONDS):
            await proxy.wait_held()
        dying.kill()
        rows = dying.rows()
        assert len(rows) == load.count

        successor = scene.bridge(dryapi, outbox_dir=dying.outbox)
        await successor.start_and_wait()
        await successor.wait_metrics(lambda now: now.waiting == 0)
        check_exactly(await scene.records(load.count), load.accepted)
        with trio.fail_after(_DEADLINE_SECONDS):
            await proxy.release()
        records = await finish(scene, successor, load)
    once = without_repeats(records)
    # Otherwise nothing has landed late.
    assert len(once) < len(records)
    check_once(once, rows)
    check_exactly(once, load.accepted)
