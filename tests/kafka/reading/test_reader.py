"""Reading topics and scanning every offset of one, on a real Kafka that may go away."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import psutil
import pytest
import trio
from confluent_kafka.cimpl import NewPartitions, TopicPartition

from bridge.errors import KafkaError, KafkaRefusedError, KafkaUnreachableError
from bridge.kafka import connection, reader
from bridge.kafka import scan as scanning
from bridge.kafka.reader import ConsumedRecord, Edge, TopicReader
from bridge.kafka.scan import Extent, Progress, ScannedRecord, Take, scan
from tests.conftest import Topic
from tests.kafka.reading.readers import (
    DEADLINE_SECONDS,
    Nothing,
    numbers,
    produce,
    read,
    reader_threads,
    settings_of,
)
from tests.kit.broker import KafkaBroker, admin_of
from tests.kit.kafka import KafkaServer
from tests.kit.writer import Sent, write, write_transaction


# A time that no retention takes while the tests run.
_YOUNG_MS = time.time_ns() // 1_000_000 - 60_000


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    """Each test ends without a reader's thread and without its sockets."""
    yield
    assert reader_threads() == []


async def test_gives_everything_from_the_beginning(topic: Topic) -> None:
    """Every record comes once, in order per partition, with all that it carries."""
    produce(topic, 30, timestamp_ms=_YOUNG_MS)
    async with TopicReader(
        settings_of(topic), [topic.name], start=Edge.BEGINNING
    ) as source:
        assert source.lag == 30
        records = await read(source, 30)
        assert source.is_at_end
        assert source.lag == 0
    assert numbers(records) == list(range(30))
    for partition in range(topic.partitions):
        offsets = [r.offset for r in records if r.partition == partition]
        assert offsets == list(range(10))
    one = next(record for record in records if record.key == b"key-7")
    assert one == ConsumedRecord(
        topic=topic.name,
        partition=7 % topic.partitions,
        offset=7 // topic.partitions,
        timestamp_ms=_YOUNG_MS,
        key=b"key-7",
        value=b"7".ljust(10),
        headers={"ce_id": b"id-7", "empty": b""},
    )


@pytest.mark.parametrize(
    ("start", "expected"),
    [
        # Each partition from its own; one that isn't named, from its beginning.
        (lambda name: {(name, 0): 2, (name, 1): 500}, [2, 5, 6, 8]),
        # Records with that time or a later one.
        (lambda _: _YOUNG_MS + 5, [5, 6, 7, 8]),
        (lambda _: _YOUNG_MS + 120_000, []),
    ],
)
async def test_starts_at_the_given_offsets(
    topic: Topic, start: Callable[[str], Any], expected: list[int]
) -> None:
    """At offsets, at a time, or at the end where nothing is as young."""
    for number in range(9):
        produce(topic, 1, first=number, timestamp_ms=_YOUNG_MS + number)
    async with TopicReader(
        settings_of(topic), [topic.name], start=start(topic.name)
    ) as source:
        assert numbers(await read(source, len(expected))) == expected
        assert source.is_at_end


async def test_cancelling_leaves_no_thread_and_no_connection(topic: Topic) -> None:
    """A reader cancelled while it waits is gone at once, sockets included."""
    process = psutil.Process()
    before = len(process.net_connections())
    with trio.CancelScope() as scope:
        async with TopicReader(settings_of(topic), [topic.name]) as source:
            assert len(process.net_connections()) > before
            began = trio.current_time()
            scope.deadline = began + 0.3
            while True:
                assert await source.receive_run() == []
    assert scope.cancelled_caught
    assert trio.current_time() - began < 3
    assert reader_threads() == []
    # Others' may have ended meanwhile.
    assert len(process.net_connections()) <= before


async def test_new_partitions_are_read_from_their_beginning(
    topic: Topic, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A partition added while reading is found, and all of it comes."""
    monkeypatch.setattr(reader, "METADATA_AGE_SECONDS", 0.3)
    produce(topic, 3)
    async with TopicReader(settings_of(topic), [topic.name]) as source:

        def grow() -> None:
            admin = admin_of(topic.bootstrap_servers)
            futures = admin.create_partitions([NewPartitions(topic.name, 5)])
            futures[topic.name].result(DEADLINE_SECONDS)
            records = [Sent(b"77", partition=partition) for partition in (0, 4)]
            write(topic.bootstrap_servers, topic.name, records)

        await trio.to_thread.run_sync(grow)
        records = await read(source, 2)
        assert {r.partition for r in records} == {0, 4}
        assert {partition for _, partition in source.positions} == set(range(5))


async def test_only_committed_records_come(topic: Topic) -> None:
    """Aborted records are skipped, and the end is after the markers."""

    def transact() -> None:
        for number, commit in ((b"1", True), (b"2", False), (b"3", True)):
            write_transaction(
                topic.bootstrap_servers, topic.name, [Sent(number)], commit=commit
            )

    await trio.to_thread.run_sync(transact)
    async with TopicReader(
        settings_of(topic), [topic.name], start=Edge.BEGINNING
    ) as source:
        assert source.ends[topic.name, 0] == 6
        records: list[ConsumedRecord] = []
        with trio.fail_after(DEADLINE_SECONDS):
            while not source.is_at_end:
                records += await source.receive_run()
    assert numbers(records) == [1, 3]


async def test_goes_on_after_a_broker_restart(
    topic: Topic, own_kafka: KafkaServer
) -> None:
    """The reader says that the broker is silent, and reads on when it is back."""
    async with TopicReader(settings_of(topic), [topic.name]) as source:
        await trio.to_thread.run_sync(lambda: produce(topic, 3))
        await read(source, 3)
        await trio.to_thread.run_sync(own_kafka.stop)
        with trio.fail_after(DEADLINE_SECONDS):
            while source.silent_since_seconds is None:
                assert await source.receive_run() == []
        await trio.to_thread.run_sync(own_kafka.start)
        await trio.to_thread.run_sync(lambda: produce(topic, 3, first=10))
        assert numbers(await read(source, 3)) == [10, 11, 12]
        assert source.silent_since_seconds is None


async def test_a_client_that_died_is_replaced(
    topic: Topic, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reader notices by the stall what aiokafka only logs, and reads on."""
    monkeypatch.setattr(reader, "_RENEW_AFTER_SECONDS", 1.5)
    produce(topic, 3)
    async with TopicReader(settings_of(topic), [topic.name]) as source:
        with monkeypatch.context() as patches:
            patches.setattr(
                "aiokafka.consumer.fetcher.Fetcher._get_actions_per_node", None
            )
            await trio.sleep(1)
        await trio.to_thread.run_sync(lambda: produce(topic, 3, first=10))
        assert numbers(await read(source, 3)) == [10, 11, 12]


async def test_a_topic_that_goes_away_is_an_error(
    topic: Topic, kafka: KafkaBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A topic deleted while it is read ends the reading with an error message."""
    monkeypatch.setattr(reader, "METADATA_AGE_SECONDS", 0.3)
    monkeypatch.setattr(reader, "TOPIC_GONE_SECONDS", 1.0)
    name = f"gone-{uuid.uuid4().hex[:8]}"
    kafka.create_topic(name)
    async with TopicReader(settings_of(topic), [name]) as source:
        await trio.to_thread.run_sync(lambda: kafka.delete_topics(name))
        with (
            trio.fail_after(DEADLINE_SECONDS),
            pytest.raises(KafkaRefusedError, match=name),
        ):
            await read(source, 1)


async def test_goes_on_in_a_log_that_became_shorter(
    topic: Topic, kafka: KafkaBroker
) -> None:
    """A position behind the end goes to the end, one before the log to its begin."""
    produce(topic, 30)
    async with TopicReader(settings_of(topic), [topic.name]) as source:

        def replace() -> None:
            kafka.delete_topics(topic.name)
            kafka.create_topic(topic.name, topic.partitions)

        await trio.to_thread.run_sync(replace)
        with trio.fail_after(DEADLINE_SECONDS):
            while any(source.positions.values()):
                await source.receive_run()
        await trio.to_thread.run_sync(lambda: produce(topic, 3, first=50))
        assert numbers(await read(source, 3)) == [50, 51, 52]


class Taken:
    """Takes a scan's parts."""

    def __init__(self, first: Callable[[], object] = lambda: None) -> None:
        self.extents: Mapping[int, Extent] = {}
        # Where each partition's log began, as last reported.
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
    """All partitions are read to the ends that they had, and progress is reported."""
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


async def test_an_end_that_holds_nothing_is_reached(
    topic: Topic, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Offsets that compaction has emptied end a scan, though no record comes."""
    produce(topic, 9)
    monkeypatch.setattr("aiokafka.consumer.fetcher.MemoryRecords", Nothing)
    taken = Taken()
    await scan(
        settings_of(topic), topic.name, taken.begin, on_progress=taken.progress.append
    )
    assert taken.offsets == {0: [], 1: [], 2: []}
    assert taken.progress[-1] == Progress(9, 9)


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


async def test_a_topic_recreated_meanwhile_ends_the_scan(
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

    with pytest.raises(KafkaError, match="truncated"):
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
