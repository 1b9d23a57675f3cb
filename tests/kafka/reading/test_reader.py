"""The reader against a real Kafka: where it starts and what it gives."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from functools import partial
from typing import Any

import psutil
import pytest
import trio
from confluent_kafka import Producer
from confluent_kafka.cimpl import NewPartitions

from bridge.errors import KafkaRefusedError
from bridge.kafka import reader
from bridge.kafka.reader import ConsumedRecord, Edge, TopicReader
from tests.conftest import Topic
from tests.kafka.reading.readers import (
    DEADLINE_SECONDS,
    numbers,
    produce,
    read,
    reader_threads,
    settings_of,
)
from tests.kit.broker import KafkaBroker, admin_of
from tests.kit.kafka import KafkaServer


# A time that no retention takes while the tests run.
_YOUNG_MS = time.time_ns() // 1_000_000 - 60_000

pytestmark = pytest.mark.usefixtures("no_thread_is_left")


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
async def test_begins_where_it_is_told_to(
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


async def test_a_cancelled_call_takes_no_record(topic: Topic) -> None:
    """Calls that are cancelled again and again lose nothing."""
    records: list[ConsumedRecord] = []
    async with (
        TopicReader(settings_of(topic), [topic.name]) as source,
        trio.open_nursery() as nursery,
    ):
        for first in range(0, 60, 6):
            write = partial(produce, topic, 6, first=first)
            nursery.start_soon(trio.to_thread.run_sync, write)
        with trio.fail_after(DEADLINE_SECONDS):
            while len(records) < 60:
                with trio.move_on_after(0.001):
                    records += await source.receive_run()
    assert numbers(records) == list(range(60))


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
            producer = Producer({"bootstrap.servers": topic.bootstrap_servers})
            for partition in (0, 4):
                producer.produce(topic.name, value=b"77", partition=partition)
            producer.flush(DEADLINE_SECONDS)

        await trio.to_thread.run_sync(grow)
        records = await read(source, 2)
        assert {r.partition for r in records} == {0, 4}
        assert {partition for _, partition in source.positions} == set(range(5))


async def test_only_committed_records_come(topic: Topic) -> None:
    """Aborted records are passed over, and the end lies behind the markers."""

    def transact() -> None:
        producer = Producer(
            {
                "bootstrap.servers": topic.bootstrap_servers,
                "transactional.id": uuid.uuid4().hex,
            }
        )
        producer.init_transactions(DEADLINE_SECONDS)
        for number, ending in ((1, "commit"), (2, "abort"), (3, "commit")):
            producer.begin_transaction()
            producer.produce(topic.name, value=str(number).encode(), partition=0)
            if ending == "commit":
                producer.commit_transaction(DEADLINE_SECONDS)
            else:
                producer.flush(DEADLINE_SECONDS)
                producer.abort_transaction(DEADLINE_SECONDS)

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


async def test_a_topic_that_goes_away_is_an_error(
    topic: Topic, kafka: KafkaBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A topic deleted while it is read ends the reading with a sentence."""
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
