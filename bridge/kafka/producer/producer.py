"""
One producer from its start to its end.

Any failed batch poisons an idempotent producer of aiokafka for that partition,
so producers are made, used and thrown away; who uses them decides when.
"""

from __future__ import annotations

import asyncio  # noqa: TID251 - this room runs asyncio
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

from aiokafka import (  # noqa: TID251 - this room speaks to aiokafka
    AIOKafkaProducer,
    TopicPartition,
    errors,
)
from aiokafka.client import ConnectionGroup  # noqa: TID251 - as above

from bridge.events.record import StoredRecord
from bridge.kafka.connection import client_arguments, start_client
from bridge.kafka.headers import HeaderWriter
from bridge.kafka.probe import failed_start
from bridge.kafka.producer.answers import ClientError, no_producer
from bridge.kafka.producer.batch import BatchWriter
from bridge.kafka.producer.credentials import Credentials
from bridge.kafka.producer.ending import end_client
from bridge.kafka.producer.one_piece import in_one_piece
from bridge.kafka.producer.queue import fail_all, queued
from bridge.kafka.producer.sender_tasks import SenderTasks
from bridge.kafka.producer.sent import Sent
from bridge.kafka.reading.offsets import held_offsets
from bridge.settings import KafkaSettings


__all__ = ["Producer"]

# How often a producer looks whether it still lives.
_WATCH_SECONDS = 1.0

# aiokafka itself gives a batch up after the delivery timeout; a batch that is still
# on its way so much later never comes back (aiokafka issue 1018).
GRACE_SECONDS = 10.0

# A batch that waits for so much longer than a request may take, while no broker
# answers anything, is held by a client that knows none of today's brokers.
LOST_GRACE_SECONDS = 10.0


class Producer:
    """
    A producer with `acks=all`, idempotent or transactional.

    Args:
        settings: How to reach Kafka, and the sizes and times.
        writer: Writes the headers.
        transactional_id: Its transactional id; None for an idempotent one.
        id_prefix: How all such ids of this outbox begin, for whoever grants rights.
    """

    def __init__(
        self,
        settings: KafkaSettings,
        writer: HeaderWriter,
        transactional_id: str | None = None,
        *,
        id_prefix: str | None = None,
    ) -> None:
        self._settings = settings
        self._batches = BatchWriter(
            writer,
            settings.compression,
            settings.max_batch_bytes,
            is_transactional=transactional_id is not None,
        )
        self._transactional_id = transactional_id
        self._id_prefix = id_prefix
        self._client: AIOKafkaProducer | None = None
        self._tasks: SenderTasks | None = None
        self._watch: asyncio.Task[None] | None = None
        self._credentials: Credentials | None = None
        self._is_lost = False
        self._answered_at = 0.0
        # Batches without an answer, by when they were sent.
        self._on_way: dict[asyncio.Future[Any], float] = {}

    async def start(self) -> None:
        """
        Connect and get a producer id.

        With a transactional id this fences every older producer that has it, and
        aborts its transaction.

        Raises:
            KafkaUnreachableError: No broker answered in time.
            KafkaRefusedError: A broker refused the credentials or the right to
                write idempotently.
        """
        settings = self._settings
        codec = settings.compression
        self._credentials = Credentials(settings)
        client = AIOKafkaProducer(
            **client_arguments(settings),
            enable_idempotence=True,
            acks="all",
            # A broker that hangs is left after it: the request goes to the
            # partition's next leader, which knows the batch if it was appended.
            request_timeout_ms=int(settings.request_timeout_seconds * 1000),
            retry_backoff_ms=int(settings.retry_backoff_seconds * 1000),
            # Before compression: what a batch takes in memory, here and in readers,
            # is bounded, whatever the codec makes of it.
            max_batch_size=settings.max_batch_bytes,
            compression_type=None if codec == "none" else codec,
            linger_ms=0,
            transactional_id=self._transactional_id,
            transaction_timeout_ms=int(settings.transaction_timeout_seconds * 1000),
        )
        # aiokafka knows one timeout for both: how long a partition may be without
        # leader before it gives a batch up is another matter than a request.
        client._message_accumulator._batch_ttl = (  # noqa: SLF001
            settings.delivery_timeout_seconds
        )
        # Its own way to tell that its sender died breaks without a transactional
        # id (AttributeError); the watch below tells.
        if self._transactional_id is None:
            client._sender._fail_all = _leave  # noqa: SLF001
        client.client.send = partial(self._ask, client.client)
        self._client = client
        self._tasks = SenderTasks(client._sender)  # noqa: SLF001
        try:
            async with asyncio.timeout(settings.start_timeout_seconds):
                await start_client(client.start)
        except (errors.KafkaConnectionError, TimeoutError) as error:
            await self.close()
            raise await failed_start(settings) from error
        except ClientError as error:
            await self.close()
            raise no_producer(error, self._id_prefix) from error
        except BaseException:
            await self.close()
            raise
        self._watch = asyncio.create_task(self._watching(client))

    @property
    def broken(self) -> bool:
        """
        Whether nothing revives it: make another one.

        One of aiokafka's own tasks has died (0.14 names them
        `_sender.sender_task` and `client._sync_task`), or it knows none of
        today's brokers.
        """
        client = self._client
        if client is None or self._is_lost:
            return True
        sender = client._sender.sender_task  # noqa: SLF001 - has no public name
        metadata = client.client._sync_task  # noqa: SLF001 - has no public name
        return sender is None or sender.done() or metadata is None or metadata.done()

    async def send(  # noqa: PLR0913 - what a batch is made of, no object
        self,
        topic: str,
        partition: int,
        records: Sequence[StoredRecord],
        max_bytes: int,
        *,
        marked_until: int = 0,
        prefix: bytes = b"",
    ) -> Sent:
        """
        Send as many records as fit one batch, in order.

        Args:
            topic: Where to.
            partition: Where to.
            records: At least one; the first always goes.
            max_bytes: Add no record that makes keys and values larger.
            marked_until: Records up to this sequence are marked as resent.
            prefix: Stands before each value, and counts into the batch's bytes.

        Raises:
            ClientError: aiokafka didn't take the batch.
        """
        client = self._client
        assert client is not None
        # What is known already takes no coroutine; for each batch that counts.
        known = client.client.cluster.partitions_for_topic(topic)
        if partition not in (known or await client.partitions_for(topic)):
            raise errors.UnknownTopicOrPartitionError(f"{topic}-{partition}")
        batch = self._batches.write(
            records, max_bytes, marked_until=marked_until, prefix=prefix
        )
        place = TopicPartition(topic, partition)
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        future = queued(client, batch, place) or await client.send_batch(
            batch, topic, partition=partition
        )
        future.add_done_callback(partial(self._arrived, answer))
        self._on_way[answer] = time.monotonic()
        connection = partial(self.connection, topic, partition)
        return Sent(batch.count, batch.size_bytes, answer, connection)

    async def connect(self, topics: Iterable[str]) -> list[object | None]:
        """Connect to the leaders of topics' partitions, as far as they answer."""
        client = self._client
        assert client is not None
        connections: list[object | None] = []
        # What fails here fails again where it is needed.
        with suppress(ClientError, TimeoutError):
            async with asyncio.timeout(self._settings.start_timeout_seconds):
                for topic in topics:
                    for partition in await client.partitions_for(topic):
                        leader = self._leader(client, topic, partition)
                        if leader is not None and await client.client.ready(leader):
                            connections.append(self.connection(topic, partition))
        return connections

    def connection(self, topic: str, partition: int) -> object | None:
        """Give the connection to a partition's leader, if there is one."""
        client = self._client
        if client is None:
            return None
        key = (self._leader(client, topic, partition), ConnectionGroup.DEFAULT)
        found: object | None = client.client._conns.get(key)  # noqa: SLF001
        return found

    @staticmethod
    def _leader(client: AIOKafkaProducer, topic: str, partition: int) -> int | None:
        place = TopicPartition(topic, partition)
        leader: int | None = client.client.cluster.leader_for_partition(place)
        return None if leader == -1 else leader

    async def begin(self) -> None:
        """
        Begin a transaction.

        Raises:
            ClientError: The producer can't be used any more.
        """
        client = self._client
        assert client is not None
        with _state_checked():
            await client.begin_transaction()

    async def commit(self) -> None:
        """
        Commit the transaction; unless it returns, nobody knows whether it did.

        Raises:
            ClientError: The producer can't be used any more, or was fenced.
        """
        client = self._client
        assert client is not None
        with _state_checked():
            await client.commit_transaction()

    async def held(self, topic: str) -> dict[int, int]:
        """
        Ask where open transactions begin, by partition that has one.

        Raises:
            ClientError: A broker refuses.
        """
        client = self._client
        assert client is not None
        return await held_offsets(client.client, topic)

    async def commit_empty(self, topic: str, partitions: Iterable[int]) -> None:
        """
        Commit a transaction that names partitions and holds nothing in them.

        Each gets a marker, which ends whatever an earlier transaction with this id
        has left open there.

        Args:
            topic: Their topic.
            partitions: Their numbers.

        Raises:
            ClientError: As for `begin` and `commit`.
        """
        client = self._client
        assert client is not None
        await self.begin()
        for partition in partitions:
            place = TopicPartition(topic, partition)
            client._txn_manager.maybe_add_partition_to_txn(place)  # noqa: SLF001
        await self.commit()

    def _arrived(
        self, answer: asyncio.Future[Any], future: asyncio.Future[Any]
    ) -> None:
        """Pass on what became of a batch; whoever waited may have been cancelled."""
        self._on_way.pop(answer, None)
        if answer.done():
            if not future.cancelled():
                future.exception()
        elif future.cancelled():
            answer.cancel()
        elif (error := future.exception()) is not None:
            answer.set_exception(error)
            # Who waits for another batch of the transaction looks no more.
            answer.exception()
        else:
            answer.set_result(future.result())

    async def _ask(self, client: Any, node: Any, request: Any, **options: Any) -> Any:
        """Send a request as the client would, and note that a broker answered."""
        request = in_one_piece(request)
        answer = await type(client).send(client, node, request, **options)
        self._answered_at = time.monotonic()
        return answer

    async def _watching(self, client: AIOKafkaProducer) -> None:
        """
        Keep it signing in, fail what is on its way once it can't deliver any more.

        It keeps the list of brokers that it got at first and refreshes it from
        those alone (aiokafka issues 456 and 624): when all have moved, only a new
        client asks the bootstrap servers again.
        """
        patience = self._settings.request_timeout_seconds + LOST_GRACE_SECONDS
        while not self.broken:
            await asyncio.sleep(_WATCH_SECONDS)
            if self._credentials is not None:
                self._credentials.follow(client.client)
            if not self._on_way:
                continue
            now = time.monotonic()
            self._fail_overdue(now)
            waited = now - max(
                self._answered_at, min(self._on_way.values(), default=now)
            )
            refreshed_ms = client.client.cluster._last_successful_refresh_ms  # noqa: SLF001
            silent = time.time() - refreshed_ms / 1000
            self._is_lost = min(waited, silent) > patience
        fail_all(client)

    def _fail_overdue(self, now: float) -> None:
        """Fail batches that can't come back: a timer for each would cost more."""
        patience = self._settings.delivery_timeout_seconds + GRACE_SECONDS
        for answer, sent_at in list(self._on_way.items()):
            if now - sent_at > patience:
                del self._on_way[answer]
                if not answer.done():
                    answer.set_exception(ClientError(f"no answer for {patience:g} s"))
                    # As for one that has arrived.
                    answer.exception()

    async def close(self) -> None:
        """
        End it at once: batches that are still on their way fail.

        Whoever has sent one must resume from the log, since it may yet land.
        aiokafka's own `stop` would wait until they are delivered (issue 1101).
        """
        client, sender = self._client, self._tasks
        if client is None or sender is None:
            return
        self._client = self._tasks = None
        if self._watch is not None:
            self._watch.cancel()
        # `stop` would set it; without it the collector warns.
        client._closed = True  # noqa: SLF001
        _look_at_end(client)
        fail_all(client)
        tasks = sender.cancel()

        async def stop() -> None:
            await asyncio.gather(*tasks, return_exceptions=True)
            await client.client.close()

        await end_client(client.client, stop)


@contextmanager
def _state_checked() -> Iterator[None]:
    """Translate what aiokafka 0.14 says where a transaction's state is wrong."""
    try:
        yield
    except AssertionError as error:
        # It asserts the state, which its own background task may have changed.
        raise ClientError(
            "the transactional producer can't be used any more"
        ) from error


def _leave(_: asyncio.Task[None]) -> None:
    """Do nothing where aiokafka would fail at telling of a sender's death."""


def _look_at_end(client: AIOKafkaProducer) -> None:
    """See how a transaction ended, or asyncio logs that nobody did."""
    ended = client._txn_manager._transaction_waiter  # noqa: SLF001 - has no name
    if ended is not None and ended.done() and not ended.cancelled():
        ended.exception()
