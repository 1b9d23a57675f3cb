"""
One producer of aiokafka, from its start to its end.

Any failed batch spoils an idempotent producer for that partition, since aiokafka never
takes a sequence number back. So an epoch of the relay makes producers, uses them, and
throws them away at its first failure.
"""

from __future__ import annotations

import asyncio
import contextvars
import math
import time
import weakref
from collections.abc import Coroutine, Generator, Sequence
from typing import Any, Final

import msgspec
from aiokafka import AIOKafkaProducer, TopicPartition, errors

from bridge.events.record import StoredRecord
from bridge.kafka.answers import REFUSALS, BatchRefusedError, ClientError, no_producer
from bridge.kafka.connection import (
    RETRY_BACKOFF_SECONDS,
    client_arguments,
    ended,
    started,
)
from bridge.kafka.headers import HeaderWriter
from bridge.kafka.probe import failed_start
from bridge.settings import KafkaSettings


__all__ = ["MAX_BATCH_BYTES", "Producer", "Sent", "keep_track_of_tasks"]

# Half of the broker's default message.max.bytes (1 MiB).
MAX_BATCH_BYTES: Final = 512 * 1024

# aiokafka drops a batch after the request timeout; one without an answer so much later
# never gets one (aiokafka issues 1018, 1101).
_GRACE_SECONDS: Final = 10.0

# While it knows no leader for a batch, aiokafka asks for one again and again without a
# pause: 1,000 connects a second where brokers refuse them. So that is looked for.
_LEADER_SECONDS: Final = 0.2

# Whose tasks the running code makes: see `keep_track_of_tasks`.
_OWNER: contextvars.ContextVar[weakref.WeakSet[asyncio.Task[Any]] | None]
_OWNER = contextvars.ContextVar("_OWNER", default=None)


def keep_track_of_tasks(loop: asyncio.AbstractEventLoop) -> None:
    """
    Have a loop note which tasks each producer's own code makes.

    aiokafka's `stop` waits for brokers that don't answer, and nothing public ends its
    background tasks; a task factory finds them, since tasks inherit their context.
    """

    def make_task(
        loop: asyncio.AbstractEventLoop,
        work: Coroutine[Any, Any, Any] | Generator[Any, None, Any],
        **options: Any,
    ) -> asyncio.Task[Any]:
        task: asyncio.Task[Any] = asyncio.Task(work, loop=loop, **options)
        owner = _OWNER.get()
        if owner is not None:
            owner.add(task)
        return task

    def report(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        # The first failure ends an epoch. Nothing asks for the other answers, nor for
        # what aiokafka sets beside them: a failed transaction's end.
        if "task" in context or not isinstance(
            context.get("exception"), errors.KafkaError
        ):
            loop.default_exception_handler(context)

    loop.set_task_factory(make_task)
    loop.set_exception_handler(report)


class Sent(msgspec.Struct):
    """A batch on its way, and the bytes of its keys and values."""

    rows: Sequence[StoredRecord]
    size_bytes: int
    answer: asyncio.Future[Any]
    # When it was handed over, nanoseconds since the epoch.
    began_ns: int


class Producer:
    """
    A producer with `acks=all`: idempotent, or transactional if it has such an id.

    How all such ids of this outbox begin is for the error that says what to grant.
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
        self._writer = writer
        self._id_prefix = id_prefix
        # Whatever the client does is done in this context.
        self._tasks: weakref.WeakSet[asyncio.Task[Any]] = weakref.WeakSet()
        self._context = contextvars.copy_context()
        self._context.run(_OWNER.set, self._tasks)
        # Where batches without an answer go to: at most one for each partition.
        self._unanswered: set[tuple[str, int]] = set()
        codec = settings.compression
        self._client = AIOKafkaProducer(
            **client_arguments(settings),
            enable_idempotence=True,
            acks="all",
            # A broker that hangs is left after it: the request goes to the partition's
            # next leader, which knows the batch if it was appended.
            request_timeout_ms=int(settings.request_timeout_seconds * 1000),
            retry_backoff_ms=int(RETRY_BACKOFF_SECONDS * 1000),
            # Before compression: what a batch takes in memory, here and in readers, is
            # bounded, whatever the codec makes of it.
            max_batch_size=MAX_BATCH_BYTES,
            compression_type=None if codec == "none" else codec,
            linger_ms=0,
            transactional_id=transactional_id,
            transaction_timeout_ms=int(settings.transaction_timeout_seconds * 1000),
        )

    async def start(self) -> None:
        """Connect and get a producer id; a transactional id fences older producers."""
        try:
            async with asyncio.timeout(self._settings.start_timeout_seconds):
                await started(self._client.start(), self._context)
        except (errors.KafkaConnectionError, TimeoutError) as error:
            await self.close()
            raise await failed_start(self._settings) from error
        except ClientError as error:
            await self.close()
            raise no_producer(error, self._id_prefix) from error
        except BaseException:
            await self.close()
            raise

    def leader(self, topic: str, partition: int) -> int | None:
        """Return the node that leads a partition, as far as known."""
        place = TopicPartition(topic, partition)
        leader: int | None = self._client.client.cluster.leader_for_partition(place)
        return None if leader == -1 else leader

    def broker(self, topic: str, partition: int) -> tuple[str, int] | None:
        """Return host and port of the node that leads a partition, as far as known."""
        leader = self.leader(topic, partition)
        node = self._client.client.cluster.broker_metadata(leader)
        return None if node is None else (node.host, node.port)

    async def send(  # noqa: PLR0913 - what a batch is made of, no object
        self,
        topic: str,
        partition: int,
        rows: Sequence[StoredRecord],
        max_bytes: int,
        *,
        resent_until: int = 0,
        prefix: bytes = b"",
    ) -> Sent:
        """
        Send as many rows as fit one batch, in order; the first is always sent.

        The bytes are those of keys, values and the prefix before each value. Rows up
        to `resent_until` are marked as resent.
        """
        batch = self._client.create_batch()
        append, headers = batch.append, self._writer.headers
        is_framed = bool(prefix)
        count = size = 0
        for row in rows:
            value = prefix + row.value if is_framed else row.value
            own = len(value) + (len(row.key) if row.key else 0)
            if count and size + own > max_bytes:
                break
            taken = append(
                timestamp=row.received_at_us // 1000,
                key=row.key,
                value=value,
                headers=headers(
                    row, is_resent=row.sequence <= resent_until, is_framed=is_framed
                ),
            )
            if taken is None:
                break
            count += 1
            size += own
        began_ns = time.time_ns()
        try:
            answer = await self._client.send_batch(batch, topic, partition=partition)
        except AssertionError as error:
            # It asserts that the partition is there.
            raise ClientError(f"{topic}-{partition} can't be written to") from error
        place = topic, partition
        self._unanswered.add(place)
        answer.add_done_callback(lambda _: self._unanswered.discard(place))
        return Sent(rows[:count], size, answer, began_ns)

    async def base_offset(self, sent: Sent) -> int:
        """
        Wait until a batch is acknowledged; gives the offset of its first record.

        Where that fails, the batch may be in the log all the same.
        """
        patience = self._settings.request_timeout_seconds + _GRACE_SECONDS
        for _ in range(math.ceil(patience / _LEADER_SECONDS)):
            await asyncio.wait([sent.answer], timeout=_LEADER_SECONDS)
            if sent.answer.done():
                break
            if any(self.leader(*place) is None for place in self._unanswered):
                raise errors.LeaderNotAvailableError(f"after {_LEADER_SECONDS:g} s")
        else:
            raise TimeoutError(f"no answer for {patience:g} s")
        try:
            metadata = sent.answer.result()
        except REFUSALS as error:
            raise BatchRefusedError(error) from error
        offset: int = metadata.offset
        if offset < 0:
            # DUPLICATE_SEQUENCE_NUMBER (46) acknowledges without an offset.
            raise ClientError("the batch is acknowledged at no offset")
        return offset

    async def begin(self) -> None:
        """Begin a transaction; `ClientError` if the producer can't be used any more."""
        await self._transact(self._client.begin_transaction())

    async def commit(self) -> None:
        """Commit the transaction; where it fails, it may be committed or not."""
        await self._transact(self._client.commit_transaction())

    async def close(self) -> None:
        """
        End it at once; what is on its way fails, or is in the log.

        aiokafka's own `stop` would wait until it is delivered (issue 1101).
        """
        self._cancel_tasks()
        await ended(self._stop(), self._context)
        self._cancel_tasks()

    def _cancel_tasks(self) -> None:
        for task in list(self._tasks):
            task.cancel()

    async def _stop(self) -> None:
        try:
            # Its sender is over, so this closes the connections.
            await self._client.stop()
        finally:
            # Where it was cut off it would do nothing the next time.
            await self._client.client.close()

    @staticmethod
    async def _transact(work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except AssertionError as error:
            # It asserts the state, which its own background task may have changed.
            raise ClientError("the transactional producer can't be used") from error
