"""Two bridges with copies of one outbox: nothing on one machine can lock both."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.e2e.jobs import job
from tests.e2e.scene import Scene


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
