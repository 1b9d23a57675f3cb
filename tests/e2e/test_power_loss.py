"""Power loss: the outbox's file is put back to what it was some moments ago."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from tests.e2e.aftermath import check_once, finish
from tests.e2e.jobs import job
from tests.e2e.scene import Scene
from tests.e2e.topic_records import check_exactly
from tests.kit.bridge_process import BridgeProcess, Row
from tests.kit.kafka import KafkaServer
from tests.kit.reader import Record


def _check_identities(records: Iterable[Record], *files: Iterable[Row]) -> None:
    """No identity names two events, in the topic or in any state of the file."""
    named: dict[str, bytes] = {}
    for row in (row for file in files for row in file):
        assert named.setdefault(row.ce_id, row.value) == row.value
    for record in records:
        assert record.value is not None
        ce_id = record.headers["ce_id"].decode()
        assert named.setdefault(ce_id, record.value) == record.value
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
    """Rows that wait by the file and stand in the log aren't sent a second time."""
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
        records = await finish(scene, bridge, load)
    check_exactly(records, load.accepted)
    check_once(records, bridge.rows())
    _check_identities(records, rows, restored, bridge.rows())


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
        kept = dict(load.accepted)
        bridge.copy_file(tmp_path / "copy")
        own_kafka.stop()
        await load.run_together([job(10) for _ in range(10)])
        await bridge.wait_metrics(lambda now: now.committed == load.count)
        lost = load.accepted.keys() - kept.keys()
        rows = _killed(bridge, put_back=tmp_path / "copy")
        assert bridge.waiting_rows() == []

        own_kafka.start()
        await bridge.start_and_wait()
        records = await finish(scene, bridge, load)
    check_exactly(
        records,
        {key: values for key, values in load.accepted.items() if key not in lost},
    )
    check_once(records, bridge.rows())
    _check_identities(records, rows, bridge.rows())
