"""Power loss: the outbox's file is put back to what it was some moments ago."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest

from tests.e2e.jobs import job
from tests.e2e.scene import EARLY_CRASH, Scene
from tests.kit.bridge_process import BridgeProcess, Row
from tests.kit.kafka import KafkaServer
from tests.kit.reader import Record


def _check_identities(records: Iterable[Record], *files: Iterable[Row]) -> None:
    """No identity names two events, in the topic or in any state of the file."""
    named: dict[str, bytes] = {}
    pairs = [(row.ce_id, row.value) for file in files for row in file]
    pairs += [
        (record.headers["ce_id"].decode(), record.value or b"") for record in records
    ]
    for ce_id, value in pairs:
        assert named.setdefault(ce_id, value) == value
    # Nor do two identities name one event; no two events of a test are alike.
    assert len(set(named.values())) == len(named)


def _killed(bridge: BridgeProcess, put_back: Path) -> list[Row]:
    """Kill a bridge and put its file back; gives the rows that it had then."""
    bridge.kill()
    rows = bridge.rows()
    bridge.put_back(put_back)
    return rows


async def test_a_file_from_before_an_acknowledgement_learns_from_the_log(
    scene: Scene, dryapi: str, own_kafka: KafkaServer, tmp_path: Path
) -> None:
    """Rows that wait by the file and are in the log aren't sent a second time."""
    bridge = scene.bridge(dryapi)
    await bridge.start_and_wait()
    async with scene.load() as load:
        await load.run_together([job(10) for _ in range(10)])
        await bridge.wait_metrics(lambda now: now.published == load.count)
        own_kafka.pause()
        await load.run_together([job(10) for _ in range(10)])
        await bridge.wait_metrics(lambda now: now.committed == load.count)
        bridge.copy_file(tmp_path / "copy")
        own_kafka.resume()
        await load.run_together([job(10) for _ in range(10)])
    await bridge.wait_metrics(lambda now: now.published == load.count)
    rows = _killed(bridge, put_back=tmp_path / "copy")
    restored = bridge.rows()
    assert len(bridge.waiting_rows()) == 120
    assert len(rows) == 360

    await bridge.start_and_wait()
    resumed = await bridge.wait_metrics(lambda now: now.waiting == 0)
    assert resumed.total("bridge_records_resumed_total") == 120
    await scene.finish(bridge)
    ending = await scene.end(gaps=["first_start", EARLY_CRASH])
    _check_identities(ending.jobs, rows, restored, bridge.rows())


@pytest.mark.slow
async def test_events_after_a_lost_commit_have_identities_of_their_own(
    scene: Scene, dryapi: str, own_kafka: KafkaServer, tmp_path: Path
) -> None:
    """What the power loss took is gone; nothing of it is mixed up with what follows."""
    bridge = scene.bridge(dryapi)
    await bridge.start_and_wait()
    async with scene.load() as load:
        await load.run_together([job(10) for _ in range(10)])
    await bridge.wait_metrics(
        lambda now: (now.committed, now.waiting) == (load.count, 0)
    )
    bridge.copy_file(tmp_path / "copy")
    own_kafka.stop()
    async with scene.load(arrives="none") as lost:
        await lost.run_together([job(10) for _ in range(10)])
    await bridge.wait_metrics(lambda now: now.committed == load.count + lost.count)
    rows = _killed(bridge, put_back=tmp_path / "copy")
    assert bridge.waiting_rows() == []

    own_kafka.start()
    await bridge.start_and_wait()
    await scene.finish(bridge)
    ending = await scene.end(gaps=["first_start", EARLY_CRASH])
    _check_identities(ending.jobs, rows, bridge.rows())
