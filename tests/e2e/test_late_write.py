"""Two bridges, one outbox: the late write of a dead one, and copies that both live."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import trio

from tests.e2e.jobs import job
from tests.e2e.scene import EARLY_CRASH, Scene
from tests.kit.kafka import KafkaServer
from tests.kit.kafka_proxy import KafkaProxy, RequestKind


# A start, the quiet time before the successor resumes, and a busy machine.
_DEADLINE_SECONDS = 25.0


@pytest.fixture
async def proxy(nursery: trio.Nursery, own_kafka: KafkaServer) -> KafkaProxy:
    """A proxy in front of the suite's Kafka."""
    made = KafkaProxy(own_kafka.detours[0])
    await nursery.start(made.serve)
    return made


@pytest.mark.slow
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
    assert len(dying.rows()) == load.count

    successor = scene.bridge(dryapi, outbox_dir=dying.outbox)
    await successor.start_and_wait()
    await successor.wait_metrics(lambda now: now.waiting == 0)
    assert len(await scene.records()) == load.count
    with trio.fail_after(_DEADLINE_SECONDS):
        await proxy.release()
    await scene.finish(successor)
    ending = await scene.end(gaps=["first_start", EARLY_CRASH], repeats=True)
    # Otherwise nothing has landed late.
    assert ending.verdict.repeats


async def test_a_bridge_that_was_cut_off_is_fenced_by_its_successor(
    scene: Scene, dryapi: str, proxy: KafkaProxy
) -> None:
    """Its batch comes late, its commit would follow: no reader of committed sees it."""
    zombie = scene.bridge(
        dryapi,
        delivery="transactional",
        kafka_bootstrap_servers=proxy.bootstrap_servers,
        # It must not give up by itself, however slow the machine.
        kafka_transaction_timeout_seconds=60,
    )
    await zombie.start_and_wait()
    async with scene.load() as load:
        await load.run_together([job(10) for _ in range(10)])
        await zombie.wait_metrics(lambda now: now.published == load.count)
        proxy.hold(RequestKind.PRODUCE)
        await load.run_together([job(10) for _ in range(10)])
    await zombie.wait_metrics(lambda now: now.committed == load.count)
    with trio.fail_after(_DEADLINE_SECONDS):
        await proxy.wait_held()
    (late,) = proxy.held

    # Another machine gets the volume, while the first is cut off and lives.
    successor = scene.bridge(dryapi, delivery="transactional")
    zombie.copy_file(successor.outbox)
    await successor.start_and_wait()
    await successor.wait_metrics(lambda now: now.waiting == 0)
    # Unfenced it would commit now; fenced it would fence its successor.
    proxy.hold(RequestKind.END_TXN, RequestKind.INIT_PRODUCER_ID)
    with trio.fail_after(_DEADLINE_SECONDS):
        await late.wait_answer()
        await proxy.wait_held()
        zombie.kill()
        await proxy.release()
    await scene.finish(successor)
    # The zombie's own file still counts the rows as waiting.
    await scene.end(gaps=["first_start", EARLY_CRASH], waiting=None)


@pytest.mark.slow
async def test_the_older_of_two_bridges_with_one_outbox_ends(
    scene: Scene, dryapi: str, tmp_path: Path
) -> None:
    """In transactional delivery it is fenced and says so; the newer one goes on."""
    older = scene.bridge(dryapi, delivery="transactional")
    await older.start_and_wait()
    async with scene.load() as load:
        await load.run_together([job(5) for _ in range(10)])
    await older.wait_metrics(lambda now: now.published == load.count)
    await scene.stop(older)
    copy = tmp_path / "copy"
    shutil.copytree(older.outbox, copy)

    await older.start_and_wait()
    newer = scene.bridge(dryapi, delivery="transactional", outbox_dir=copy)
    await newer.start_and_wait()
    async with scene.load(steady=True) as load:
        sentence = await older.wait_refusal(1)
        assert "two processes use copies of one outbox" in sentence
        assert "BRIDGE_OUTBOX_DIR" in sentence
        before = (await newer.metrics()).published
        await newer.wait_metrics(lambda now: now.published > before + 100)
        await load.stop()
    await newer.wait_metrics(lambda now: now.waiting == 0)
    # Until the older one was fenced a second time both wrote: copies of one outbox.
    await scene.end(judged=False)
