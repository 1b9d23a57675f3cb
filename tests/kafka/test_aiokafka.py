"""What aiokafka does otherwise than the bridge needs it, looked at without the bridge.

A test that fails here after an update says which entry of the list in
`bridge.kafka.requests` has to be looked at: its workaround may not be needed any more.
"""

from __future__ import annotations

import asyncio  # noqa: TID251 - what is tested runs on asyncio
import inspect
import re
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, get_args

import aiokafka  # noqa: TID251 - what is looked at
import pytest
from aiokafka import TopicPartition, admin, errors  # noqa: TID251 - likewise
from aiokafka.abc import AbstractTokenProvider  # noqa: TID251 - likewise
from aiokafka.conn import OAuthAuthenticator  # noqa: TID251 - likewise
from aiokafka.producer import sender  # noqa: TID251 - likewise
from aiokafka.protocol import metadata  # noqa: TID251 - likewise
from aiokafka.protocol.transaction import (  # noqa: TID251 - likewise
    AddPartitionsToTxnRequest,
    EndTxnRequest,
)

from bridge import kafka as owner
from bridge.kafka import loop, requests
from tests.conftest import Topic
from tests.kafka.reading.readers import DEADLINE_SECONDS, Nothing, produce
from tests.kafka.relay.faults import Forgery, forge_answers, intercept
from tests.kit.kafka import KafkaServer


_CORRUPT_MESSAGE = 2
_DUPLICATE_SEQUENCE = 46
_INVALID_RECORD = 87

# Longer than anything takes that doesn't wait for a broker that is away.
_MOMENT_SECONDS = 1.5


def run(work: Coroutine[Any, Any, None]) -> None:
    """Run for a limited time, in a loop that ends what aiokafka leaves open."""
    loop.run(partial(asyncio.wait_for, work, DEADLINE_SECONDS))


@asynccontextmanager
async def consuming(topic: Topic) -> AsyncIterator[Any]:
    """Start a consumer of aiokafka without partitions; it is stopped with care."""
    consumer = aiokafka.AIOKafkaConsumer(
        bootstrap_servers=topic.bootstrap_servers, auto_offset_reset="none"
    )
    await consumer.start()
    try:
        yield consumer
    finally:
        consumer.unsubscribe()
        await asyncio.sleep(0.01)
        await consumer.stop()


def producing(topic: Topic, **options: Any) -> Any:
    """Make a producer of aiokafka."""
    return aiokafka.AIOKafkaProducer(
        bootstrap_servers=topic.bootstrap_servers, enable_idempotence=True, **options
    )


# -- What it doesn't offer ------------------------------------------------------


def test_metadata_has_no_topic_ids() -> None:
    """They came with version 10, permissions with 8."""
    versions = {kind.API_VERSION for kind in get_args(metadata.MetadataRequestStruct)}
    assert max(versions) < 8


@pytest.mark.parametrize(
    ("asked", "word", "found"),
    [
        # Neither the leader's end nor the end for other readers.
        (aiokafka.AIOKafkaConsumer.end_offsets, "", {"self", "partitions"}),
        # Always a connection of its own.
        (admin.AIOKafkaAdminClient, "client", {"client_id"}),
        # A password and a TLS context are given once.
        (aiokafka.AIOKafkaClient, "provider", {"sasl_oauth_token_provider"}),
        (aiokafka.AIOKafkaClient, "password", {"sasl_plain_password"}),
        (aiokafka.AIOKafkaClient, "ssl", {"ssl_context"}),
    ],
)
def test_no_argument_asks_for_more(
    asked: Callable[..., object], word: str, found: set[str]
) -> None:
    """What the bridge asks or follows by itself, aiokafka has no argument for."""
    names = inspect.signature(asked).parameters
    assert {name for name in names if word in name} == found


def test_an_empty_transaction_asks_no_broker(
    topic: Topic, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So it can't end what an earlier one left open in a partition."""
    sent: list[str] = []

    async def note(send: Callable[[], Any]) -> object:
        sent.append("a request")
        return await send()

    async def transact() -> None:
        producer = producing(topic, transactional_id=topic.name)
        await producer.start()
        await producer.begin_transaction()
        await producer.commit_transaction()
        assert sent == []
        await producer.begin_transaction()
        await producer.send_and_wait(topic.name, b"value", partition=0)
        await producer.commit_transaction()
        assert len(sent) == 2
        await producer.stop()

    for kind in (AddPartitionsToTxnRequest, EndTxnRequest):
        intercept(monkeypatch, kind, note)
    run(transact())
    words = ("partition", "offset", "transaction")
    offered = [one for one in vars(aiokafka.AIOKafkaProducer) if one[0] != "_"]
    assert {one for one in offered if any(word in one for word in words)} == {
        *("begin_transaction", "commit_transaction", "abort_transaction"),
        *("transaction", "partitions_for", "send_offsets_to_transaction"),
    }


def test_invalid_record_has_no_class() -> None:
    """It can't be distinguished from a broker's own bug."""
    assert errors.for_code(_INVALID_RECORD) is errors.UnknownError


def test_an_id_that_has_just_committed_waits() -> None:
    """Why two transactional ids take turns."""
    assert sender.BACKOFF_OVERRIDE == 0.02


# -- Producers --------------------------------------------------------------------


def test_a_failed_batch_spoils_an_idempotent_producer(
    topic: Topic, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its sequence number isn't taken back: every later batch leaves a hole."""
    forgery = Forgery(topic.name, 0, _CORRUPT_MESSAGE, times=1, appended=False)

    async def send() -> None:
        producer = producing(topic)
        await producer.start()
        try:
            await producer.send_and_wait(topic.name, b"1", partition=0)
            forge_answers(monkeypatch, forgery)
            with pytest.raises(errors.CorruptRecordException):
                await producer.send_and_wait(topic.name, b"2", partition=0)
            for _ in range(2):
                with pytest.raises(errors.OutOfOrderSequenceNumber):
                    await producer.send_and_wait(topic.name, b"3", partition=0)
        finally:
            await producer.stop()

    run(send())


def test_a_batch_that_the_broker_has_comes_without_its_offset(
    topic: Topic, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where it is, only the log says."""
    forgery = Forgery(topic.name, 0, _DUPLICATE_SEQUENCE, times=1, appended=True)

    async def send() -> None:
        producer = producing(topic)
        await producer.start()
        forge_answers(monkeypatch, forgery)
        sent = await producer.send_and_wait(topic.name, b"1", partition=0)
        assert sent.offset == -1
        await producer.stop()

    run(send())


def test_stopping_a_producer_waits_for_brokers_that_are_away(
    topic: Topic, own_kafka: KafkaServer
) -> None:
    """No timeout and nothing public ends it (issue 1101)."""

    async def stop() -> None:
        others = asyncio.all_tasks()
        producer = producing(topic)
        await producer.start()
        await producer.send_and_wait(topic.name, b"1", partition=0)
        own_kafka.kill()
        await producer.send(topic.name, b"2", partition=0)
        stopping = asyncio.create_task(producer.stop())
        await asyncio.wait([stopping], timeout=_MOMENT_SECONDS)
        assert not stopping.done()
        # What the bridge does by a task factory: end all that its client has made.
        for task in asyncio.all_tasks() - others:
            task.cancel()
        await asyncio.wait([stopping])
        await producer.client.close()

    run(stop())


# -- Consumers --------------------------------------------------------------------


async def _until_it_fails(consumer: Any) -> None:
    while True:
        await consumer.getmany(timeout_ms=100)


def test_a_partition_without_position_fails_all_and_records_give_no_turn(
    topic: Topic,
) -> None:
    """Why partitions are sought as they are assigned, and why readers sleep(0)."""
    produce(topic, 300)
    sought, other = (TopicPartition(topic.name, number) for number in (0, 1))

    async def read() -> None:
        async with consuming(topic) as consumer:
            consumer.assign([sought, other])
            consumer.seek(sought, 0)
            consumer.pause(other)
            with pytest.raises(errors.NoOffsetForPartitionError):
                await _until_it_fails(consumer)
            consumer.assign([sought])
            consumer.seek(sought, 0)
            while not await consumer.getmany(timeout_ms=100, max_records=1):
                pass
            turns: list[None] = []
            asyncio.get_running_loop().call_soon(turns.append, None)
            assert await consumer.getmany(timeout_ms=100, max_records=1)
            assert not turns

    run(read())


def test_a_consumer_stops_with_a_cancellation_of_its_own(
    topic: Topic, own_kafka: KafkaServer
) -> None:
    """A fetch that waits for its retry is cancelled, and that ends `stop` early."""

    async def stop() -> None:
        consumer = aiokafka.AIOKafkaConsumer(
            bootstrap_servers=topic.bootstrap_servers, retry_backoff_ms=20_000
        )
        await consumer.start()
        partition = TopicPartition(topic.name, 0)
        consumer.assign([partition])
        consumer.seek(partition, 0)
        while not consumer.last_poll_timestamp(partition):
            await consumer.getmany(timeout_ms=100)
        own_kafka.kill()
        await asyncio.sleep(0.5)
        with pytest.raises(asyncio.CancelledError):
            await consumer.stop()

    run(stop())


def test_a_position_stays_before_offsets_that_hold_nothing(
    topic: Topic, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Answers come and the end is known, but nothing passes the emptied offsets."""
    produce(topic, 9)
    partition = TopicPartition(topic.name, 0)
    monkeypatch.setattr("aiokafka.consumer.fetcher.MemoryRecords", Nothing)

    async def read() -> None:
        async with consuming(topic) as consumer:
            consumer.assign([partition])
            consumer.seek(partition, 0)
            answers: set[float | None] = set()
            while len(answers) < 3:
                assert await consumer.getmany(timeout_ms=100) == {}
                answers.add(consumer.last_poll_timestamp(partition))
            assert consumer.highwater(partition) == 3
            assert await consumer.position(partition) == 0

    run(read())


def test_a_client_whose_task_died_is_silent(
    topic: Topic, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No error reaches who reads, only silence; what died is raised by `stop`."""
    partition = TopicPartition(topic.name, 0)

    async def read() -> None:
        async with consuming(topic) as consumer:
            consumer.assign([partition])
            consumer.seek(partition, 0)
            while not consumer.last_poll_timestamp(partition):
                await consumer.getmany(timeout_ms=100)
            with monkeypatch.context() as patches:
                patches.setattr(
                    "aiokafka.consumer.fetcher.Fetcher._get_actions_per_node", None
                )
                assert await consumer.getmany(timeout_ms=1_000) == {}
            produce(topic, 3)
            assert await consumer.getmany(timeout_ms=1_000) == {}

    with pytest.raises(errors.KafkaError, match="Unexpected error"):
        run(read())


# -- Connections ------------------------------------------------------------------


def test_a_start_that_is_cancelled_forgets_its_connection() -> None:
    """Neither its end nor `close` ends what was looking for brokers."""
    connections: asyncio.Queue[Any] = asyncio.Queue()

    async def accept(*connection: Any) -> None:
        connections.put_nowait(connection)

    async def start() -> None:
        server = await asyncio.start_server(accept, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        client = aiokafka.AIOKafkaClient(bootstrap_servers=f"127.0.0.1:{port}")
        starting = asyncio.create_task(client.bootstrap())
        reader, writer = await connections.get()
        await asyncio.sleep(0.1)
        starting.cancel()
        await asyncio.wait([starting])
        await client.close()
        await asyncio.sleep(0.1)
        assert not reader.at_eof()
        writer.close()
        await writer.wait_closed()
        server.close()

    run(start())


class Provider(AbstractTokenProvider):  # type: ignore[misc] # aiokafka is untyped
    """Gives a token."""

    async def token(self) -> str:
        """Give it."""
        return "token"


def test_what_a_broker_answers_to_a_token_is_not_looked_at() -> None:
    """A refusal comes as an answer that isn't empty (RFC 7628), taken for a yes."""

    async def show() -> None:
        signing_in = OAuthAuthenticator(sasl_oauth_token_provider=Provider())
        assert await signing_in.step(None) is not None
        assert await signing_in.step(b'{"status":"invalid_token"}') is None

    run(show())


def test_nothing_private_of_it_is_used() -> None:
    """Ruff finds private attributes of others (SLF001): no line is excepted."""
    for path in Path(owner.__path__[0]).rglob("*.py"):
        text = path.read_text()
        assert "noqa: SLF001" not in text, path
        assert "aiokafka._" not in text, path


def test_each_entry_of_the_list_has_its_test() -> None:
    """Each that the list names is there, and it names each of this file but two."""
    text, folder = requests.__doc__ or "", Path(__file__).parent
    listed = re.findall(r"`(?:([\w/]+\.py)::)?(test_\w+)`", text)
    for file, test in listed:
        assert f"def {test}(" in (folder / (file or __file__)).read_text(), test
    own = {name for name in globals() if name.startswith("test_")}
    assert own - {test for _, test in listed} == {
        "test_each_entry_of_the_list_has_its_test",
        "test_nothing_private_of_it_is_used",
    }
