"""
One idempotent producer from its start to its end.

Any failed batch poisons an idempotent producer of aiokafka for that partition,
so producers are made, used and thrown away; `relay` decides when.
"""

from __future__ import annotations

import asyncio  # noqa: TID251 - this room runs asyncio
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any, TypeAlias

from aiokafka import (  # noqa: TID251 - this room speaks to aiokafka
    AIOKafkaProducer,
    errors,
)
from aiokafka.producer.message_accumulator import (  # noqa: TID251 - as above
    MessageAccumulator,
)

from bridge.errors import KafkaError, KafkaRefusedError, KafkaUnreachableError
from bridge.kafka.connection import client_arguments, failed_start
from bridge.kafka.ending import end_client
from bridge.kafka.headers import HeaderWriter
from bridge.record import StoredRecord
from bridge.settings import KafkaSettings


ClientError: TypeAlias = errors.KafkaError

__all__ = ["BatchRefusedError", "ClientError", "Producer", "Sent"]

# How long one address may take to say why it doesn't let a client in.
_KNOCK_SECONDS = 5.0

# What a broker answers because of what is in the batch; aiokafka 0.14 has no
# class for INVALID_RECORD (87), which comes out as UnknownError.
_REFUSALS = (
    errors.CorruptRecordException,
    errors.InvalidTimestampError,
    errors.MessageSizeTooLargeError,
    errors.PolicyViolationError,
    errors.RecordListTooLargeError,
    errors.UnknownError,
)


class BatchRefusedError(ClientError):  # type: ignore[misc] # aiokafka is untyped
    """The broker refuses a batch for what is in it: send less, find the record."""


class Sent:
    """
    A batch on its way.

    Args:
        count: How many of the offered records it holds.
        size_bytes: Bytes of their keys and values.
        future: What aiokafka gives the batch's metadata to.
    """

    __slots__ = ("_future", "count", "size_bytes")

    def __init__(
        self, count: int, size_bytes: int, future: asyncio.Future[Any]
    ) -> None:
        self.count = count
        self.size_bytes = size_bytes
        self._future = future

    async def base_offset(self) -> int:
        """
        Wait for the acknowledgement.

        Returns:
            The offset of the first record.

        Raises:
            BatchRefusedError: The broker refuses what is in the batch.
            ClientError: It failed otherwise, and may be in the log all the same.
        """
        try:
            metadata = await self._future
        except _REFUSALS as error:
            raise BatchRefusedError(str(error)) from error
        if metadata.offset < 0:
            # DUPLICATE_SEQUENCE_NUMBER, which aiokafka takes for a success.
            raise ClientError("the batch is in the log, the broker doesn't say where")
        return int(metadata.offset)


class _Requests:
    """
    The produce requests on their way, so that they can be cancelled.

    aiokafka 0.14 keeps their tasks in a local variable of its sender, and one
    that is left over puts its batch back and fails noisily.

    Args:
        sender: The sender of a producer that has not been started.
    """

    def __init__(self, sender: Any) -> None:
        self._send = sender._send_produce_req  # noqa: SLF001 - has no public name
        sender._send_produce_req = self  # noqa: SLF001
        self.tasks: set[asyncio.Task[Any]] = set()

    async def __call__(self, node_id: int, batches: Mapping[Any, Any]) -> None:
        """Send as the sender would."""
        task = asyncio.current_task()
        assert task is not None
        self.tasks.add(task)
        try:
            await self._send(node_id, batches)
        finally:
            self.tasks.discard(task)


class Producer:
    """
    An idempotent producer with `acks=all`.

    Args:
        settings: How to reach Kafka, and the sizes and times.
        writer: Writes the headers.
    """

    def __init__(self, settings: KafkaSettings, writer: HeaderWriter) -> None:
        self._settings = settings
        self._writer = writer
        self._client: AIOKafkaProducer | None = None
        self._requests: _Requests | None = None

    async def start(self) -> None:
        """
        Connect and get a producer id.

        Raises:
            KafkaUnreachableError: No broker answered in time.
            KafkaRefusedError: A broker refused the credentials or the right to
                write idempotently.
        """
        settings = self._settings
        client = AIOKafkaProducer(
            **client_arguments(settings),
            enable_idempotence=True,
            acks="all",
            # kafka.request_timeout_seconds is also how long a partition may be
            # without a leader before aiokafka gives up a batch.
            request_timeout_ms=int(settings.request_timeout_seconds * 1000),
            retry_backoff_ms=int(settings.retry_backoff_seconds * 1000),
            max_batch_size=settings.max_batch_bytes,
            linger_ms=0,
        )
        self._client = client
        self._requests = _Requests(client._sender)  # noqa: SLF001
        try:
            async with asyncio.timeout(settings.start_timeout_seconds):
                await client.start()
        except (errors.KafkaConnectionError, TimeoutError) as error:
            await self.close()
            raise await failed_start(settings, _KNOCK_SECONDS) from error
        except ClientError as error:
            await self.close()
            raise _no_producer(error) from error
        except BaseException:
            await self.close()
            raise

    @property
    def broken(self) -> bool:
        """
        Whether one of aiokafka's own tasks has died, which nothing revives.

        aiokafka 0.14 names them `_sender.sender_task` and `client._sync_task`.
        """
        client = self._client
        if client is None:
            return True
        sender = client._sender.sender_task  # noqa: SLF001 - has no public name
        metadata = client.client._sync_task  # noqa: SLF001 - has no public name
        return sender is None or sender.done() or metadata is None or metadata.done()

    async def send(
        self,
        topic: str,
        partition: int,
        records: Sequence[StoredRecord],
        max_bytes: int,
    ) -> Sent:
        """
        Send as many records as fit one batch, in order.

        Args:
            topic: Where to.
            partition: Where to.
            records: At least one; the first always goes.
            max_bytes: Add no record that makes keys and values larger.

        Raises:
            ClientError: aiokafka didn't take the batch.
        """
        client = self._client
        assert client is not None
        partitions = await client.partitions_for(topic)
        if partition not in partitions:
            raise errors.UnknownTopicOrPartitionError(f"{topic}-{partition}")
        batch = client.create_batch()
        headers = self._writer.headers
        size = count = 0
        for record in records:
            key, value = record.key, record.value
            weight = len(value) + (len(key) if key else 0)
            if count and size + weight > max_bytes:
                break
            if (
                batch.append(
                    timestamp=record.received_at_us // 1000,
                    key=key,
                    value=value,
                    headers=headers(record),
                )
                is None
            ):
                break
            size += weight
            count += 1
        batch.close()
        future = await client.send_batch(batch, topic, partition=partition)
        return Sent(count, size, future)

    async def close(self) -> None:
        """
        End it at once: batches that are still on their way fail.

        Whoever has sent one must resume from the log, since it may yet land.
        aiokafka's own `stop` would wait until they are delivered (issue 1101).
        """
        client, requests = self._client, self._requests
        if client is None or requests is None:
            return
        self._client = self._requests = None
        # `stop` would set it; without it the collector warns.
        client._closed = True  # noqa: SLF001
        _fail_all(client._message_accumulator)  # noqa: SLF001
        sender = client._sender.sender_task  # noqa: SLF001
        tasks = requests.tasks if sender is None else {*requests.tasks, sender}
        for task in tasks:
            task.cancel()

        async def stop() -> None:
            await asyncio.gather(*tasks, return_exceptions=True)
            await client.client.close()

        await end_client(client.client, stop)


def _no_producer(error: ClientError) -> KafkaError:
    if error.retriable:
        return KafkaUnreachableError(
            f"Kafka gives no producer id now: {error}; the bridge asks again"
        )
    return KafkaRefusedError(
        f"Kafka refuses an idempotent producer: {error}. Grant the user Write on the"
        " topics (or IdempotentWrite on the cluster)."
    )


def _fail_all(queue: MessageAccumulator) -> None:
    """Fail every batch; who waits for one hears of it, and nobody else."""
    batches = [*queue._pending_batches, *chain(*queue._batches.values())]  # noqa: SLF001
    queue.fail_all(ClientError("the producer was given up"))
    for batch in batches:
        for future in (batch.future, batch._drain_waiter):  # noqa: SLF001
            # Otherwise asyncio logs it where a cancelled lane waits no more.
            if future.done() and not future.cancelled():
                future.exception()
