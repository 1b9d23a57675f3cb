"""One producer: why it doesn't start, what it sends, how it ends."""

from __future__ import annotations

import asyncio  # noqa: TID251 - what is tested runs on asyncio
from collections.abc import Sequence

import pytest
from aiokafka import AIOKafkaProducer, errors  # noqa: TID251 - what is made to fail
from bridge.kafka.producer.producer import Producer
from bridge.kafka.relay.producers import Producers

from bridge.errors import KafkaRefusedError, KafkaUnreachableError
from bridge.events.record import StoredRecord
from bridge.kafka.answers import ClientError
from bridge.kafka.headers import HeaderWriter
from bridge.kafka.relay.statistics import RelayStatistics
from bridge.settings import KafkaSettings
from tests.conftest import Topic
from tests.kafka.relay.relaying import ENVELOPE, settings_for
from tests.kit.process import free_ports


def rows(count: int, size_bytes: int = 10) -> list[StoredRecord]:
    """Rows of one lane."""
    value = b"x" * size_bytes
    return [
        StoredRecord(number, f"id-{number}", b"key", value, 0, ENVELOPE)
        for number in range(1, count + 1)
    ]


def make(settings: KafkaSettings) -> Producer:
    """A producer that hasn't been started."""
    return Producer(settings, HeaderWriter("outbox"))


def is_broken(producer: Producer) -> bool:
    """Whether it can't be used, or not any more; it changes behind mypy's back."""
    return producer.broken


def fail_start(monkeypatch: pytest.MonkeyPatch, failures: Sequence[Exception]) -> None:
    """Let aiokafka's producers fail to start, one error after the other."""
    left = iter(failures)

    async def start(_: AIOKafkaProducer) -> None:
        raise next(left)

    monkeypatch.setattr(AIOKafkaProducer, "start", start)


async def start_here(settings: KafkaSettings) -> None:
    """Make and start a producer in the loop that runs."""
    await make(settings).start()


def test_an_absent_broker_is_unreachable() -> None:
    """The error names the address, and nothing is left open."""
    address = f"127.0.0.1:{free_ports(1)[0]}"
    settings = KafkaSettings(bootstrap_servers=address)
    with pytest.raises(KafkaUnreachableError, match=address):
        asyncio.run(start_here(settings))


def test_a_user_who_may_not_write_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error says which right is missing."""
    fail_start(monkeypatch, [errors.ClusterAuthorizationFailedError()])
    with pytest.raises(KafkaRefusedError, match="IdempotentWrite"):
        asyncio.run(start_here(KafkaSettings()))


def test_a_broker_that_is_not_ready_is_asked_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What may go away by itself is no refusal."""
    fail_start(monkeypatch, [errors.RequestTimedOutError()])
    with pytest.raises(KafkaUnreachableError, match="asks again"):
        asyncio.run(start_here(KafkaSettings()))


def test_a_start_without_answer_ends_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """The start timeout bounds what aiokafka would wait for for ever."""

    async def start(_: AIOKafkaProducer) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(AIOKafkaProducer, "start", start)
    settings = KafkaSettings(
        bootstrap_servers=f"127.0.0.1:{free_ports(1)[0]}", start_timeout_seconds=0.1
    )
    with pytest.raises(KafkaUnreachableError):
        asyncio.run(start_here(settings))


def test_sends_what_fits_one_batch(topic: Topic) -> None:
    """The limit ends a batch; a first record goes whatever its size."""

    async def send() -> None:
        producer = make(settings_for(topic))
        assert is_broken(producer)
        await producer.start()
        try:
            assert not is_broken(producer)
            sent = await producer.send(topic.name, 0, rows(10, 100), 350)
            assert (sent.count, sent.size_bytes) == (3, 3 * 103)
            assert await sent.base_offset() == 0
            sent = await producer.send(topic.name, 0, rows(2, 1_000), 350)
            assert sent.count == 1
            assert await sent.base_offset() == 3
        finally:
            await producer.close()
        assert is_broken(producer)
        await producer.close()

    asyncio.run(send())


def test_a_prefix_counts_into_the_batch_and_not_into_the_rows(topic: Topic) -> None:
    """It ends a batch sooner; what the outbox keeps of the rows is without it."""

    async def send() -> None:
        producer = make(settings_for(topic))
        await producer.start()
        try:
            limit = 3 * 103 + 2 * 5
            sent = await producer.send(
                topic.name, 0, rows(10, 100), limit, prefix=b"12345"
            )
            assert (sent.count, sent.size_bytes) == (2, 2 * 103)
            await sent.base_offset()
        finally:
            await producer.close()

    asyncio.run(send())


def test_a_partition_that_is_not_there_takes_nothing(topic: Topic) -> None:
    """It is an error like others, where aiokafka would fail an assertion."""

    async def send() -> None:
        producer = make(settings_for(topic))
        await producer.start()
        try:
            with pytest.raises(ClientError, match=f"{topic.name}-7"):
                await producer.send(topic.name, 7, rows(1), 1_000)
        finally:
            await producer.close()

    asyncio.run(send())


def test_a_producer_that_is_given_up_ends_with_its_last_user(topic: Topic) -> None:
    """Others finish what they have on its way, and get a new one afterwards."""

    async def lend() -> None:
        statistics = RelayStatistics()
        producers = Producers(settings_for(topic), HeaderWriter("outbox"), statistics)
        async with producers.lend() as first:
            async with producers.lend() as same:
                assert same is first
                producers.give_up(same)
                producers.give_up(same)
            assert not is_broken(first)
            async with producers.lend() as second:
                assert second is not first
        assert is_broken(first)
        assert statistics.producer_recycles == 1
        await producers.close()
        assert is_broken(second)

    asyncio.run(lend())
