"""Scanning every offset of a topic, on a real Kafka that may go away meanwhile."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence

import pytest
import trio
from confluent_kafka.cimpl import TopicPartition

from bridge.errors import KafkaError, KafkaUnreachableError
from bridge.kafka import connection
from bridge.kafka import scan as scanning
from bridge.kafka.scan import Extent, Progress, ScannedRecord, Take, scan
from tests.conftest import Topic
from tests.kafka.reading.readers import DEADLINE_SECONDS, produce, settings_of
from tests.kit.broker import KafkaBroker, admin_of
from tests.kit.kafka import KafkaServer


class Taken:
    """Takes a scan's parts."""

    def __init__(self, first: Callable[[], object] = lambda: None) -> None:
        self.extents: Mapping[int, Extent] = {}
        # Where each partition's log began, as told last.
        self.log_starts: dict[int, int] = {}
        # The records' offsets by partition.
        self.offsets: dict[int, list[int]] = {}
        self.progress: list[Progress] = []
        self.may_be_compacted: bool | None = None
        self._first: Callable[[], object] | None = first

    def begin(self, extents: Mapping[int, Extent], may_be_compacted: bool) -> Take:  # noqa: FBT001
        """Learn what will be read."""
        self.extents, self.may_be_compacted = extents, may_be_compacted
        self.offsets = {partition: [] for partition in extents}
        return self._take

    def _take(
        self, partition: int, records: Sequence[ScannedRecord], gone_before: int
    ) -> None:
        self.log_starts[partition] = gone_before
        self.offsets[partition] += [record[0] for record in records]
        if self._first is not None:
            first, self._first = self._first, None
            first()


def scanner_threads() -> list[threading.Thread]:
    """The scanners' threads that are alive."""
    return [t for t in threading.enumerate() if t.name == "bridge-kafka-scanner"]


async def test_every_record_comes_once_and_the_scan_ends(topic: Topic) -> None:
    """All partitions are read to the ends that they had, and progress is told."""
    produce(topic, 900)
    # What is written after the ends were taken isn't read.
    taken = Taken(lambda: produce(topic, 30, first=900))
    await scan(
        settings_of(topic), topic.name, taken.begin, on_progress=taken.progress.append
    )
    assert taken.offsets == {partition: list(range(300)) for partition in range(3)}
    assert taken.progress[-1] == Progress(900, 900)
    assert [extent.end for extent in taken.extents.values()] == [300] * 3
    assert scanner_threads() == []


async def test_records_deleted_meanwhile_are_jumped_over(
    topic: Topic, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The scan goes on where the log begins now, and says what is gone."""
    monkeypatch.setattr(connection, "PARTITION_BYTES", 1_000)
    monkeypatch.setattr(connection, "FETCH_BYTES", 2_000)
    for number in range(30):
        produce(topic, 1, first=3 * number, size_bytes=1_000)

    def trim() -> None:
        admin = admin_of(topic.bootstrap_servers)
        futures = admin.delete_records([TopicPartition(topic.name, 0, 25)])
        for future in futures.values():
            future.result(DEADLINE_SECONDS)

    taken = Taken(trim)
    await scan(settings_of(topic), topic.name, taken.begin)
    offsets = taken.offsets[0]
    assert offsets[-5:] == [25, 26, 27, 28, 29]
    assert len(offsets) < 30
    assert taken.log_starts[0] == 25


async def test_a_broker_that_comes_back_is_read_on(
    own_kafka: KafkaServer, topic: Topic, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A restart in the middle costs time and no record."""
    monkeypatch.setattr(connection, "PARTITION_BYTES", 10_000)
    monkeypatch.setattr(connection, "FETCH_BYTES", 20_000)
    for number in range(10):
        produce(topic, 60, first=60 * number, size_bytes=500)

    def restart() -> None:
        own_kafka.kill()
        own_kafka.start()

    taken = Taken(restart)
    await scan(settings_of(topic), topic.name, taken.begin)
    assert taken.offsets == {partition: list(range(200)) for partition in range(3)}


async def test_a_broker_that_stays_away_ends_the_scan(
    own_kafka: KafkaServer, topic: Topic, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing for a minute is an error that names the address."""
    monkeypatch.setattr(connection, "PARTITION_BYTES", 1_000)
    monkeypatch.setattr(connection, "FETCH_BYTES", 1_000)
    monkeypatch.setattr(scanning, "SILENT_SECONDS", 1.0)
    for number in range(6):
        produce(topic, 3, first=3 * number, size_bytes=1_000)
    with pytest.raises(KafkaUnreachableError, match=topic.bootstrap_servers):
        await scan(settings_of(topic), topic.name, Taken(own_kafka.kill).begin)
    own_kafka.start()


async def test_a_topic_made_anew_meanwhile_ends_the_scan(
    kafka: KafkaBroker, topic: Topic, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A log that became shorter than what was read can't be judged."""
    monkeypatch.setattr(connection, "PARTITION_BYTES", 1_000)
    monkeypatch.setattr(connection, "FETCH_BYTES", 1_000)
    for number in range(10):
        produce(topic, 3, first=3 * number, size_bytes=1_000)

    def replace() -> None:
        kafka.delete_topics(topic.name)
        kafka.create_topic(topic.name, topic.partitions)

    with pytest.raises(KafkaError, match="shorter"):
        await scan(settings_of(topic), topic.name, Taken(replace).begin)


async def test_a_cancelled_scan_leaves_nothing_behind(topic: Topic) -> None:
    """It ends within a moment, and so does its thread."""
    produce(topic, 900)
    began = threading.Event()
    with trio.fail_after(DEADLINE_SECONDS):
        async with trio.open_nursery() as nursery:
            taken = Taken(began.set)
            nursery.start_soon(scan, settings_of(topic), topic.name, taken.begin)
            await trio.to_thread.run_sync(began.wait, DEADLINE_SECONDS)
            nursery.cancel_scope.cancel()
    assert scanner_threads() == []


async def test_a_damaged_batch_ends_the_scan(
    own_kafka: KafkaServer, topic: Topic
) -> None:
    """A wrong checksum is named; what the batch holds can't be known."""
    produce(topic, 3, size_bytes=500)
    own_kafka.stop()
    (file,) = own_kafka.data_dir.rglob(f"{topic.name}-0/*.log")
    data = bytearray(file.read_bytes())
    data[-100] ^= 1
    file.write_bytes(data)
    own_kafka.start()
    with pytest.raises(KafkaError, match="wrong checksum"):
        await scan(settings_of(topic), topic.name, Taken().begin)
