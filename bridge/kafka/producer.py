"""
One idempotent producer from its start to its end.

Any failed batch poisons an idempotent producer of aiokafka for that partition,
so producers are made, used and thrown away; `relay` decides when.
"""

from __future__ import annotations

import asyncio  # noqa: TID251 - this room runs asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from aiokafka import (  # noqa: TID251 - this room speaks to aiokafka
    AIOKafkaProducer,
    errors,
)

from bridge.errors import KafkaRefusedError
from bridge.kafka.connection import client_arguments, failed_start
from bridge.kafka.headers import HeaderWriter
from bridge.record import StoredRecord
from bridge.settings import KafkaSettings


ClientError = errors.KafkaError

__all__ = ["ClientError", "Producer", "Sent"]

# How long a producer may take to close its connections before it is left to
# the garbage collector.
_CLOSE_SECONDS = 3.0

# How long one address may take to say why it doesn't let a client in.
_KNOCK_SECONDS = 5.0


class Sent:
    """
    A batch on its way.

    Attributes:
        count: How many of the offered records it holds.
        size_bytes: Bytes of their keys and values.
    """

    __slots__ = ("count", "future", "size_bytes")

    def __init__(
        self, count: int, size_bytes: int, future: asyncio.Future[Any]
    ) -> None:
        self.count = count
        self.size_bytes = size_bytes
        self.future = future


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
        try:
            async with asyncio.timeout(settings.start_timeout_seconds):
                await client.start()
        except (errors.KafkaConnectionError, TimeoutError) as error:
            await _close(client)
            raise await failed_start(settings, _KNOCK_SECONDS) from error
        except ClientError as error:
            await _close(client)
            raise KafkaRefusedError(
                f"Kafka refuses an idempotent producer: {error}. Grant the user"
                " Write on the topics (or IdempotentWrite on the cluster)."
            ) from error
        except BaseException:
            await _close(client)
            raise
        self._client = client

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
        """
        if self._client is not None:
            client, self._client = self._client, None
            await _close(client)


async def _close(client: AIOKafkaProducer) -> None:
    """
    End a producer of aiokafka 0.14 without its `stop`, which waits for ever
    while a batch can't be delivered (aiokafka issue 1101).
    """
    # `stop` is what would touch these; it can't be used.
    client._closed = True  # noqa: SLF001
    given_up = ClientError("the producer was given up")
    client._message_accumulator.fail_all(given_up)  # noqa: SLF001
    sender = client._sender.sender_task  # noqa: SLF001
    if sender is not None:
        sender.cancel()
    with suppress(TimeoutError):
        async with asyncio.timeout(_CLOSE_SECONDS):
            # Closed connections end the produce requests that the sender
            # waits for when it is cancelled.
            await client.client.close()
            if sender is not None:
                await asyncio.gather(sender, return_exceptions=True)
