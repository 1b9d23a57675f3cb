"""The reader on brokers, topics and clients that go away, on a real Kafka."""

from __future__ import annotations

import asyncio  # noqa: TID251 - the reader's thread runs it
import threading
import uuid
from functools import partial
from typing import Any

import aiokafka.errors as aiokafka_errors  # noqa: TID251 - the reader's library
import pytest
import trio
from aiokafka import (  # noqa: TID251 - as above
    AIOKafkaConsumer,
    TopicPartition,
)
from confluent_kafka import TopicPartition as ConfluentPartition

from bridge.errors import KafkaError, KafkaRefusedError, KafkaUnreachableError
from bridge.kafka.client import loop_thread
from bridge.kafka.client.ending import ClosingLoop
from bridge.kafka.reading import fetching
from bridge.kafka.reading.reader import Edge, TopicReader
from bridge.settings import KafkaSettings
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


pytestmark = pytest.mark.usefixtures("no_thread_is_left")


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
        with trio.fail_after(DEADLINE_SECONDS):
            while source.silent_since_seconds is None:
                assert await source.receive_run() == []
        await trio.sleep(2.0)  # past the renewal, where that is early
        await trio.to_thread.run_sync(own_kafka.start)
        await trio.to_thread.run_sync(lambda: produce(topic, 3, first=10))
        assert numbers(await read(source, 3)) == [10, 11, 12]
        assert source.silent_since_seconds is None


async def test_silence_is_told_while_a_client_is_replaced(
    topic: Topic, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the old client was given up before anybody could call it silent."""

    async def fail(_: fetching.Fetching) -> AIOKafkaConsumer:
        raise KafkaUnreachableError("no broker answers")

    monkeypatch.setattr(fetching, "_SILENT_SECONDS", 1.0)
    async with TopicReader(settings_of(topic), [topic.name]) as source:
        monkeypatch.setattr(fetching.Fetching, "_connect", fail)
        monkeypatch.setattr(fetching.Fetching, "_is_dead", lambda *_: True)
        with trio.fail_after(DEADLINE_SECONDS):
            while source.silent_since_seconds is None:
                assert await source.receive_run() == []


async def test_a_header_that_is_no_text_is_an_error(
    topic: Topic, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The names of headers are bytes to Kafka, and aiokafka reads them as UTF-8."""

    async def getmany(*_: Any, **__: Any) -> str:
        return b"\xff".decode()

    monkeypatch.setattr(AIOKafkaConsumer, "getmany", getmany)
    async with TopicReader(settings_of(topic), [topic.name]) as source:
        with trio.fail_after(DEADLINE_SECONDS), pytest.raises(KafkaError, match="UTF"):
            await read(source, 1)


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
        admin = admin_of(topic.bootstrap_servers)
        places = [
            ConfluentPartition(topic.name, partition, 2)
            for partition in range(topic.partitions)
        ]
        for future in admin.delete_records(places).values():
            future.result(DEADLINE_SECONDS)

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
            trio.fail_after(DEADLINE_SECONDS),
            pytest.raises(KafkaRefusedError, match=name),
        ):
            await read(source, 1)


async def test_a_thread_that_is_stuck_is_abandoned(
    topic: Topic, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Leaving the reader takes no longer than its deadline."""
    released = threading.Event()
    monkeypatch.setattr(loop_thread, "_STOP_SECONDS", 0.3)

    close = fetching._close

    async def stuck(consumer: AIOKafkaConsumer) -> None:
        released.wait(DEADLINE_SECONDS)
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
            await trio.to_thread.run_sync(partial(thread.join, DEADLINE_SECONDS))


def test_tasks_that_a_client_left_behind_are_ended(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What nearly ends by itself may do so, and the rest is cancelled."""
    monkeypatch.setattr(loop_thread, "_LEFT_OVER_SECONDS", 0.05)
    loop = ClosingLoop()
    ending = loop.create_task(asyncio.sleep(0.01))
    stuck = loop.create_task(asyncio.sleep(3_600))
    loop_thread._end_left_over(loop)
    loop.close()
    assert ending.done()
    assert not ending.cancelled()
    assert stuck.cancelled()
