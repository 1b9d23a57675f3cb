"""A damaged outbox: set aside, read as far as it goes, reported as a gap."""

from __future__ import annotations

import random
from pathlib import Path

from tests.e2e.jobs import job
from tests.e2e.scene import Scene
from tests.kit.kafka import KafkaServer


_PAGE_BYTES = 8192


def _damage(database: Path) -> None:
    """Overwrite a page in the middle, where rows lie."""
    pages = database.stat().st_size // _PAGE_BYTES
    with database.open("r+b") as file:
        file.seek(pages // 2 * _PAGE_BYTES)
        file.write(random.Random(1).randbytes(_PAGE_BYTES))


def _content(path: str) -> bytes:
    return Path(path).read_bytes()


async def test_a_damaged_file_costs_the_rows_on_its_page_and_is_told(
    scene: Scene, dryapi: str, own_kafka: KafkaServer
) -> None:
    """All other waiting events reach Kafka in order, and a gap reports the damage."""
    bridge = scene.bridge(dryapi, shutdown_timeout_seconds=0.5)
    await bridge.start_and_wait()
    async with scene.load() as load:
        own_kafka.pause()
        await load.run_together([job(10) for _ in range(80)])
        await bridge.wait_metrics(lambda now: now.committed == load.count)
        assert await bridge.stop() == 0
        waiting = load.count
        database = bridge.outbox / "outbox.sqlite3"
        _damage(database)

        own_kafka.resume()
        # The page is met when its rows are read.
        bridge.start()
        sentence = await bridge.wait_refusal(1)
        assert "outbox.sqlite3" in sentence
        damaged = database.read_bytes()
        await bridge.start_and_wait()
        reported = await bridge.wait_logged("outbox.damaged")
        # A page of 8 KiB has some 20 rows.
        assert 0 < reported["lost"] < 40
        await load.run_together([job(3) for _ in range(10)])
    await bridge.wait_metrics(lambda now: now.read == load.count - waiting)
    await bridge.wait_metrics(lambda now: now.waiting == 0)
    ending = await scene.end(
        missing=reported["lost"],
        # What was on its way when the file was set aside may come twice.
        repeats=True,
        salvaged=True,
        gaps=None,
    )
    # Not a byte of it was changed.
    assert _content(reported["set_aside"]) == damaged
    causes = [gap.cause for gap in ending.gaps]
    assert sorted(causes) == [
        "crashed",
        "first_start",
        "outbox_damaged",
        "stopped",
    ]
    gap = ending.gaps[causes.index("outbox_damaged")]
    (closed,) = (
        line for line in bridge.logged("gap.closed") if line["gap_id"] == gap.gap_id
    )
    assert closed["records_lost"] == reported["lost"]
