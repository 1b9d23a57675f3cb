"""What must be true of topic and outbox once a bridge that went through much has ended.

Owns the claims of tests in which not everything that was published can have been
read: what was on disk arrives once and in order, and what comes later gets through.
"""

from __future__ import annotations

from collections.abc import Sequence

from tests.e2e.jobs import Load, job
from tests.e2e.scene import Scene
from tests.e2e.topic_records import by_key, check_dense
from tests.kit.bridge_process import BridgeProcess, Row
from tests.kit.reader import Record


__all__ = ["check_once", "check_order", "finish", "without_repeats"]


def check_once(records: Sequence[Record], rows: Sequence[Row]) -> None:
    """Each row that was on disk stands in the topic once, under its identity."""
    found = {record.headers["ce_id"].decode(): record.value for record in records}
    for row in rows:
        assert found[row.ce_id] == row.value


def check_order(records: Sequence[Record], load: Load) -> None:
    """Of each job, no event is there twice, is foreign, or stands out of order."""
    for key, values in by_key(records).items():
        places = [load.accepted[key].index(value) for value in values]
        assert places == sorted(set(places))
    check_dense(records)


async def finish(scene: Scene, bridge: BridgeProcess, load: Load) -> list[Record]:
    """Run ten more jobs, wait until all is in Kafka, and read the topic."""
    before = set(load.accepted)
    await load.run_together([job(3) for _ in range(10)])
    last = load.accepted.keys() - before
    # They arrive behind everything else of their lanes.
    await bridge.wait_metrics(lambda now: now.read >= 50 and now.waiting == 0)
    assert await bridge.stop() == 0
    assert bridge.waiting_rows() == []
    records = await scene.records()
    found = by_key(records)
    assert all(found[key] == load.accepted[key] for key in last)
    return records


def without_repeats(records: Sequence[Record]) -> list[Record]:
    """
    Give the first record of each identity; a further one must say the same.

    Args:
        records: By partition and offset.
    """
    first: dict[bytes, Record] = {}
    for record in records:
        known = first.setdefault(record.headers["ce_id"], record)
        assert record.partition == known.partition
        assert (record.key, record.value) == (known.key, known.value)
        assert record.headers == known.headers
    return list(first.values())
