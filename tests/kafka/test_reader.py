"""The reader against a real Kafka: where it starts, what it gives, how it ends."""

from __future__ import annotations

import asyncio  # noqa: TID251 - the reader's thread runs it
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from functools import partial
from typing import Any

import aiokafka.errors as aiokafka_errors  # noqa: TID251 - the reader's library
import psutil
import pytest
import trio
from aiokafka import (  # noqa: TID251 - as above
    AIOKafkaConsumer,
    TopicPartition,
)
from confluent_kafka import Producer
from confluent_kafka import TopicPartition as ConfluentPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewPartitions

from bridge.errors import KafkaError, KafkaRefusedError, KafkaUnreachableError
from bridge.kafka import fetching, reader
from bridge.kafka.reader import ConsumedRecord, Edge, TopicReader
from bridge.settings import KafkaSettings
from tests.conftest import Topic
from tests.servers.broker import KafkaBroker
from tests.servers.kafka import KafkaServer


# Far above what any of these waits takes on a busy machine, below the 60 s of
# a test.
_DEADLINE_SECONDS = 30.0


def settings_of(topic: Topic) -> KafkaSettings:
    """Settings for the topic's broker."""
    return KafkaSettings(bootstrap_servers=topic.bootstrap_servers)


def produce(
    topic: Topic,
    count: int,
    *,
    first: int = 0,
    name: str | None = None,
    size_bytes: int = 10,
    timestamp_ms: int = 0,
) -> None:
    """Write records `first`, `first + 1`, ... in turn to the partitions."""
    producer = Producer({"bootstrap.servers": topic.bootstrap_servers})
    for number in range(first, first + count):
        producer.produce(
            name or topic.name,
            key=f"key-{number}".encode(),
            value=str(number).encode().ljust(size_bytes),
            headers=[("ce_id", f"id-{number}".encode()), ("empty", None)],
            partition=number % topic.partitions if name is None else 0,
            timestamp=timestamp_ms,
        )
    assert producer.flush(_DEADLINE_SECONDS) == 0


async def read(source: TopicReader, count: int) -> list[ConsumedRecord]:
    """Read until so many records have come."""
    records: list[ConsumedRecord] = []
    with trio.fail_after(_DEADLINE_SECONDS):
        while len(records) < count:
            records += await source.receive_run()
    return records


def numbers(records: list[ConsumedRecord]) -> list[int]:
    """The numbers that `produce` wrote."""
    return sorted(int(record.value or b"") for record in records)


def reader_threads() -> list[threading.Thread]:
    """The readers' threads that are alive."""
    return [t for t in threading.enumerate() if t.name == "bridge-kafka-reader"]


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    """Every test ends without a reader's thread and without its sockets."""
    yield
    assert reader_threads() == []


async def test_gives_everything_from_the_beginning(topic: Topic) -> None:
    """Every record comes once, in order per partition, with all that it carries."""
    produce(topic, 30, timestamp_ms=1_700_000_000_123)
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
        timestamp_ms=1_700_000_000_123,
        key=b"key-7",
        value=b"7".ljust(10),
        headers={"ce_id": b"id-7", "empty": b""},
    )


async def test_from_the_end_gives_only_what_comes_later(topic: Topic) -> None:
    """A reader that starts at the end sees nothing of what stood there."""
    produce(topic, 9)
    async with TopicReader(settings_of(topic), [topic.name]) as source:
        assert source.is_at_end
        await trio.to_thread.run_sync(lambda: produce(topic, 6, first=100))
        assert numbers(await read(source, 6)) == list(range(100, 106))


async def test_from_a_time_gives_what_is_as_young(topic: Topic) -> None:
    """Records with that timestamp or a later one come, older ones don't."""
    now_ms = int(time.time() * 1000)
    produce(topic, 6, timestamp_ms=now_ms - 60_000)
    produce(topic, 3, first=50, timestamp_ms=now_ms - 10_000)
    async with TopicReader(
        settings_of(topic), [topic.name], start=now_ms - 10_000
    ) as source:
        assert numbers(await read(source, 3)) == [50, 51, 52]
        assert source.is_at_end


async def test_a_time_after_the_last_record_is_the_end(topic: Topic) -> None:
    """Where nothing is as young as asked for, reading starts at the end."""
    produce(topic, 3)
    start = int(time.time() * 1000) + 60_000
    async with TopicReader(settings_of(topic), [topic.name], start=start) as source:
        assert source.is_at_end


async def test_reads_several_topics(topic: Topic) -> None:
    """Records of all topics come, each with its topic's name."""
    produce(topic, 3)
    produce(topic, 2, first=10, name=topic.dead_letter)
    async with TopicReader(
        settings_of(topic), [topic.name, topic.dead_letter], start=Edge.BEGINNING
    ) as source:
        records = await read(source, 5)
    by_topic = {r.topic: 0 for r in records}
    for record in records:
        by_topic[record.topic] += 1
    assert by_topic == {topic.name: 3, topic.dead_letter: 2}


async def test_a_tombstone_has_no_value(topic: Topic) -> None:
    """A record without value or key comes as such."""
    producer = Producer({"bootstrap.servers": topic.bootstrap_servers})
    producer.produce(topic.name, value=None)
    producer.flush(_DEADLINE_SECONDS)
    async with TopicReader(
        settings_of(topic), [topic.name], start=Edge.BEGINNING
    ) as source:
        (record,) = await read(source, 1)
    assert (record.key, record.value, record.headers) == (None, None, {})


async def test_a_missing_topic_is_an_error_at_once(topic: Topic) -> None:
    """The message names the topic, what is there, and the setting."""
    with (
        trio.fail_after(10),
        pytest.raises(KafkaRefusedError, match="no topic not-there-1") as caught,
    ):
        async with TopicReader(settings_of(topic), [topic.name, "not-there-1"]):
            pytest.fail("the reader opened")
    assert "BRIDGE_TOPIC" in str(caught.value)
    assert "\n" not in str(caught.value)


async def test_an_unreachable_broker_is_an_error_that_names_the_setting() -> None:
    """A refused connection ends the start at once with where to set the brokers."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    settings = KafkaSettings(bootstrap_servers=f"127.0.0.1:{port}")
    with (
        trio.fail_after(10),
        pytest.raises(KafkaUnreachableError, match=str(port)) as caught,
    ):
        async with TopicReader(settings, ["jobs"]):
            pytest.fail("the reader opened")
    assert "kafka.bootstrap_servers" in str(caught.value)
    assert "BRIDGE_KAFKA_BOOTSTRAP_SERVERS" in str(caught.value)


async def test_a_silent_server_is_given_up_at_the_deadline() -> None:
    """A server that accepts and never answers ends the start at its timeout."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        settings = KafkaSettings(
            bootstrap_servers=f"127.0.0.1:{port}", start_timeout_seconds=0.5
        )
        with (
            trio.fail_after(10),
            pytest.raises(KafkaUnreachableError, match="start_timeout_seconds"),
        ):
            async with TopicReader(settings, ["jobs"]):
                pytest.fail("the reader opened")


async def test_cancelling_the_start_ends_the_thread() -> None:
    """A start that hangs is cancelled without waiting for its own deadline."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        settings = KafkaSettings(bootstrap_servers=f"127.0.0.1:{port}")
        began = trio.current_time()
        with trio.move_on_after(0.5) as scope:
            async with TopicReader(settings, ["jobs"]):
                pytest.fail("the reader opened")
        assert scope.cancelled_caught
        assert trio.current_time() - began < 4
        assert reader_threads() == []


async def test_cancelling_leaves_no_thread_and_no_connection(topic: Topic) -> None:
    """A reader cancelled while it waits is gone at once, sockets included."""
    process = psutil.Process()
    before = len(process.net_connections())
    with trio.CancelScope() as scope:
        async with TopicReader(settings_of(topic), [topic.name]) as source:
            assert len(process.net_connections()) > before
            began = trio.current_time()
            scope.deadline = began + 0.3
            async for run in source:
                assert run == []
    assert scope.cancelled_caught
    assert trio.current_time() - began < 3
    assert reader_threads() == []
    assert len(process.net_connections()) == before


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
        with trio.fail_after(_DEADLINE_SECONDS):
            while len(records) < 60:
                with trio.move_on_after(0.001):
                    records += await source.receive_run()
    assert numbers(records) == list(range(60))


async def test_a_reader_that_lags_holds_the_thread_back(
    topic: Topic, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What waits is bounded while nobody reads, and nothing is lost after."""
    limit_bytes = 200_000
    monkeypatch.setattr(fetching, "_RUN_RECORDS", 20)
    produce(topic, 900, size_bytes=10_000)
    async with TopicReader(
        settings_of(topic),
        [topic.name],
        start=Edge.BEGINNING,
        buffer_bytes=limit_bytes,
    ) as source:
        await trio.sleep(1.5)
        handover = source._handover
        assert handover is not None
        # Soft by one run of 20 records.
        assert limit_bytes <= handover._queued_bytes < limit_bytes + 20 * 13_000
        records = await read(source, 900)
    assert numbers(records) == list(range(900))


async def test_new_partitions_are_read_from_their_beginning(
    topic: Topic, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A partition added while reading is found, and all of it comes."""
    monkeypatch.setattr(fetching, "_METADATA_AGE_SECONDS", 0.3)
    produce(topic, 3)
    async with TopicReader(settings_of(topic), [topic.name]) as source:

        def grow() -> None:
            admin = AdminClient({"bootstrap.servers": topic.bootstrap_servers})
            futures = admin.create_partitions([NewPartitions(topic.name, 5)])
            futures[topic.name].result(_DEADLINE_SECONDS)
            producer = Producer({"bootstrap.servers": topic.bootstrap_servers})
            for partition in (0, 4):
                producer.produce(topic.name, value=b"77", partition=partition)
            producer.flush(_DEADLINE_SECONDS)

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
        producer.init_transactions(_DEADLINE_SECONDS)
        for number, ending in ((1, "commit"), (2, "abort"), (3, "commit")):
            producer.begin_transaction()
            producer.produce(topic.name, value=str(number).encode(), partition=0)
            if ending == "commit":
                producer.commit_transaction(_DEADLINE_SECONDS)
            else:
                producer.flush(_DEADLINE_SECONDS)
                producer.abort_transaction(_DEADLINE_SECONDS)

    await trio.to_thread.run_sync(transact)
    async with TopicReader(
        settings_of(topic), [topic.name], start=Edge.BEGINNING
    ) as source:
        ends = source.ends
        assert ends[topic.name, 0] == 6
        records: list[ConsumedRecord] = []
        with trio.fail_after(_DEADLINE_SECONDS):
            while not source.has_reached(ends):
                records += await source.receive_run()
        assert source.is_at_end
    assert numbers(records) == [1, 3]


@pytest.mark.parametrize("renew_after_seconds", [60.0, 1.5])
async def test_goes_on_after_a_broker_restart(
    topic: Topic,
    own_kafka: KafkaServer,
    monkeypatch: pytest.MonkeyPatch,
    renew_after_seconds: float,
) -> None:
    """The reader says that the broker is silent and reads on, with a new client too."""
    monkeypatch.setattr(fetching, "_RENEW_AFTER_SECONDS", renew_after_seconds)
    monkeypatch.setattr(fetching, "_SILENT_SECONDS", 1.0)
    async with TopicReader(settings_of(topic), [topic.name]) as source:
        await trio.to_thread.run_sync(lambda: produce(topic, 3))
        await read(source, 3)
        await trio.to_thread.run_sync(own_kafka.stop)
        with trio.fail_after(_DEADLINE_SECONDS):
            while source.silent_since_seconds is None:
                assert await source.receive_run() == []
        await trio.sleep(2.0)  # past the renewal, where that is early
        await trio.to_thread.run_sync(own_kafka.start)
        await trio.to_thread.run_sync(lambda: produce(topic, 3, first=10))
        assert numbers(await read(source, 3)) == [10, 11, 12]
        assert source.silent_since_seconds is None


async def test_a_client_that_died_is_replaced(
    topic: Topic, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the client's own task has ended, a new client goes on where it was."""
    made: list[AIOKafkaConsumer] = []
    connect = fetching.Fetching._connect

    async def spied(self: fetching.Fetching) -> AIOKafkaConsumer:
        made.append(await connect(self))
        return made[-1]

    monkeypatch.setattr(fetching.Fetching, "_connect", spied)
    produce(topic, 3)
    async with TopicReader(
        settings_of(topic), [topic.name], start=Edge.BEGINNING
    ) as source:
        assert numbers(await read(source, 3)) == [0, 1, 2]
        task = made[0]._fetcher._fetch_task
        task.get_loop().call_soon_threadsafe(task.cancel)
        await trio.to_thread.run_sync(lambda: produce(topic, 3, first=10))
        assert numbers(await read(source, 3)) == [10, 11, 12]
    assert len(made) == 2


@pytest.mark.parametrize(
    ("error", "passes"),
    [
        (aiokafka_errors.NodeNotReadyError("x"), True),
        (aiokafka_errors.KafkaTimeoutError("x"), True),
        (TimeoutError(), True),
        (aiokafka_errors.TopicAuthorizationFailedError("x"), False),
        (aiokafka_errors.UnsupportedVersionError("x"), False),
    ],
)
async def test_only_a_lasting_error_ends_the_reading(
    topic: Topic,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
    passes: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    """What may pass leads to a new client, what won't to the reader's error."""
    errors = [error]
    getmany = AIOKafkaConsumer.getmany

    async def failing(self: AIOKafkaConsumer, **options: Any) -> Any:
        if errors:
            raise errors.pop()
        return await getmany(self, **options)

    monkeypatch.setattr(AIOKafkaConsumer, "getmany", failing)
    produce(topic, 3)
    async with TopicReader(
        settings_of(topic), [topic.name], start=Edge.BEGINNING
    ) as source:
        if passes:
            assert numbers(await read(source, 3)) == [0, 1, 2]
        else:
            with pytest.raises(KafkaError):
                await read(source, 3)


async def test_a_reader_is_used_inside_its_block_alone() -> None:
    """Asking a reader that was never opened is a mistake that is told."""
    with pytest.raises(RuntimeError, match="async with"):
        await TopicReader(KafkaSettings(), ["jobs"]).receive_run()


async def test_offsets_that_retention_took_are_passed_over(
    topic: Topic, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reader behind the log's start goes on at the start."""
    monkeypatch.setattr(fetching, "_RUN_RECORDS", 1)
    produce(topic, 9)

    def trim() -> None:
        admin = AdminClient({"bootstrap.servers": topic.bootstrap_servers})
        places = [
            ConfluentPartition(topic.name, partition, 2)
            for partition in range(topic.partitions)
        ]
        for future in admin.delete_records(places).values():
            future.result(_DEADLINE_SECONDS)

    await trio.to_thread.run_sync(trim)
    # What a reader that stood at the old beginning would ask for.
    monkeypatch.setattr(fetching, "_start_offsets", _at_zero)
    async with TopicReader(
        settings_of(topic), [topic.name], start=Edge.BEGINNING
    ) as source:
        records = await read(source, 3)
        assert source.is_at_end
    assert {r.offset for r in records} == {2}


async def _at_zero(*arguments: object) -> dict[TopicPartition, int]:
    lanes = arguments[1]
    assert isinstance(lanes, list)
    return dict.fromkeys(lanes, 0)


async def test_a_topic_that_goes_away_is_an_error(
    topic: Topic, kafka: KafkaBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A topic deleted while it is read ends the reading with a sentence."""
    monkeypatch.setattr(fetching, "_METADATA_AGE_SECONDS", 0.3)
    monkeypatch.setattr(fetching, "_TOPIC_GONE_SECONDS", 1.0)
    name = f"gone-{uuid.uuid4().hex[:8]}"
    kafka.create_topic(name)
    async with TopicReader(settings_of(topic), [name]) as source:
        await trio.to_thread.run_sync(lambda: kafka.delete_topics(name))
        with (
            trio.fail_after(_DEADLINE_SECONDS),
            pytest.raises(KafkaRefusedError, match=name),
        ):
            await read(source, 1)


async def test_a_thread_that_is_stuck_is_abandoned(
    topic: Topic, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Leaving the reader takes no longer than its deadline."""
    released = threading.Event()
    monkeypatch.setattr(reader, "_STOP_SECONDS", 0.3)

    close = fetching._close

    async def stuck(consumer: AIOKafkaConsumer) -> None:
        released.wait(_DEADLINE_SECONDS)
        await close(consumer)

    monkeypatch.setattr(fetching, "_close", stuck)
    try:
        began = trio.current_time()
        async with TopicReader(settings_of(topic), [topic.name]):
            pass
        assert trio.current_time() - began < 5
        assert len(reader_threads()) == 1
    finally:
        released.set()
        for thread in reader_threads():
            await trio.to_thread.run_sync(partial(thread.join, _DEADLINE_SECONDS))


def test_tasks_that_a_client_left_behind_are_ended(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What nearly ends by itself may do so, and the rest is cancelled."""
    monkeypatch.setattr(reader, "_LEFT_OVER_SECONDS", 0.05)
    loop = asyncio.new_event_loop()
    ending = loop.create_task(asyncio.sleep(0.01))
    stuck = loop.create_task(asyncio.sleep(3_600))
    reader._end_left_over(loop)
    loop.close()
    assert ending.done()
    assert not ending.cancelled()
    assert stuck.cancelled()
