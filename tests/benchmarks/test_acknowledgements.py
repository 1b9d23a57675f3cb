"""From the notes of acknowledgements and a topic's records to what events took."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.acknowledgements import Notes, latency
from benchmarks.memory_outbox import MemoryOutbox
from tests.kafka.relay.relaying import record
from tests.kit.reader import Record


def _read(offset: int, at: float, partition: int = 0) -> Record:
    moment = datetime.fromtimestamp(at, UTC).isoformat().replace("+00:00", "Z")
    headers = {"ce_time": moment.encode()}
    return Record(partition, offset, b"key", b"value", headers, 0)


def _acknowledged(file: Path, count: int) -> float:
    """Acknowledge so many rows at offsets from 10 on; return when."""
    outbox, notes = MemoryOutbox(), Notes()
    outbox.open_topic("t", lambda _: 0, {0: (0, 0)}).result()
    notes.watch(outbox)
    outbox.offer([record("t", number) for number in range(count)])
    outbox.acknowledge("t", 0, 1, count, 10, 100)
    assert outbox.statistics.acknowledged == count
    notes.save(file)
    return time.time()


def test_each_event_is_measured_up_to_its_batch(tmp_path: Path) -> None:
    """Every record of a batch ends with it, and began when it was read."""
    file = tmp_path / "notes.json"
    now = _acknowledged(file, 3)
    records = [_read(10, now - 3), _read(11, now - 2), _read(12, now - 1)]

    taken = latency(file, "t", records, lead_seconds=0.0)

    assert taken is not None
    assert abs(taken.p50 - 2_000) < 500
    assert abs(taken.p99 - 3_000) < 500


def test_the_lead_is_left_out(tmp_path: Path) -> None:
    """Events read soon after the first one don't count."""
    file = tmp_path / "notes.json"
    now = _acknowledged(file, 3)
    records = [_read(10, now - 9), _read(11, now - 8.5), _read(12, now - 1)]

    taken = latency(file, "t", records, lead_seconds=2.0)

    assert taken is not None
    assert taken.p999 < 2_000


def test_records_that_were_not_acknowledged_have_no_latency(tmp_path: Path) -> None:
    """Neither other offsets, nor other partitions, nor other topics count."""
    file = tmp_path / "notes.json"
    now = _acknowledged(file, 1)

    assert latency(file, "t", [_read(11, now)], lead_seconds=0.0) is None
    assert latency(file, "t", [_read(10, now, 1)], lead_seconds=0.0) is None
    assert latency(file, "other", [_read(10, now)], lead_seconds=0.0) is None


def test_without_notes_there_is_no_latency(tmp_path: Path) -> None:
    """A contender that takes none, as a peer, has no time to acknowledgement."""
    records = [_read(10, time.time())]

    assert latency(tmp_path / "notes.json", "t", records, lead_seconds=0.0) is None
