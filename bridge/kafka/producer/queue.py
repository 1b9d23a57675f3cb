"""
aiokafka's queue of batches, where its own ways to it cost or break too much.

It stands on `MessageAccumulator` of 0.14, which has no public name in a producer.
"""

from __future__ import annotations

import asyncio  # noqa: TID251 - this room runs asyncio
from itertools import chain
from typing import Any

from aiokafka import (  # noqa: TID251 - this room speaks to aiokafka
    AIOKafkaProducer,
    TopicPartition,
)

from bridge.kafka.producer.answers import ClientError
from bridge.kafka.producer.batch import Batch


__all__ = ["fail_all", "queued"]


def queued(
    client: AIOKafkaProducer, batch: Batch, place: TopicPartition
) -> asyncio.Future[Any] | None:
    """
    Lay a batch where the sender takes it, as `send_batch` does at its end.

    On its way there that waits for metadata which is known by now, and shields the
    future from its waiter, who has one of his own here. In a trickle that is work for
    every record.

    Returns:
        What gets the batch's metadata; None where `send_batch` would wait or refuse.
    """
    queue = client._message_accumulator  # noqa: SLF001 - has no public name
    if queue._closed or queue._exception is not None or place in queue._batches:  # noqa: SLF001
        return None
    if client._txn_manager.transactional_id is not None:  # noqa: SLF001
        return None
    future: asyncio.Future[Any] = queue._append_batch(batch, place).future  # noqa: SLF001
    return future


def fail_all(client: AIOKafkaProducer) -> None:
    """Fail every batch; who waits for one hears of it, and nobody else."""
    queue = client._message_accumulator  # noqa: SLF001 - has no public name
    batches = [*queue._pending_batches, *chain(*queue._batches.values())]  # noqa: SLF001
    # aiokafka 0.14 takes a batch out of this set when its future is done, and fails
    # at that for one that waits to be sent again.
    queue._pending_batches.update(batches)  # noqa: SLF001
    queue.fail_all(ClientError("the producer was given up"))
    for batch in batches:
        for future in (batch.future, batch._drain_waiter):  # noqa: SLF001
            # Otherwise asyncio logs it where a cancelled lane waits no more.
            if future.done() and not future.cancelled():
                future.exception()
