"""Two bridges with copies of one outbox: nothing on one machine can lock both."""

from __future__ import annotations

import shutil
from pathlib import Path

import trio

from tests.e2e.jobs import job
from tests.e2e.scene import Scene
from tests.kit.bridge_process import BridgeProcess


async def test_the_older_of_two_bridges_with_one_outbox_ends(
    scene: Scene, dryapi: str, tmp_path: Path
) -> None:
    """In transactional delivery it is fenced and says so; the newer one goes on."""
    older = scene.bridge(dryapi, delivery="transactional")
    await older.start_and_wait()
    async with scene.load() as load:
        await load.run_together([job(5) for _ in range(10)])
        await older.wait_metrics(lambda now: now.published == load.count)
    assert await older.stop() == 0
    copy = tmp_path / "copy"
    shutil.copytree(older.outbox, copy)

    await older.start_and_wait()
    newer = scene.bridge(dryapi, delivery="transactional", outbox_dir=copy)
    await newer.start_and_wait()
    async with scene.load(steady=True) as load:
        sentence = await older.wait_refusal(1)
        assert "two processes use copies of one outbox" in sentence
        assert "BRIDGE_OUTBOX_DIR" in sentence
        await _publishes(newer)
        await load.stop()
    await newer.wait_metrics(lambda now: now.waiting == 0)
    assert await newer.stop() == 0


async def _publishes(bridge: BridgeProcess) -> None:
    before = (await bridge.metrics()).published
    with trio.fail_after(20):
        await bridge.wait_metrics(lambda now: now.published > before + 100)
