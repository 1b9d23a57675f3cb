"""
Idempotent delivery: every partition sends for itself, one batch on its way.

A partition sends at once when it is idle and batches while it is busy. There is no
duplicate unless a producer that was abandoned writes late: then with the same `ce_id`.
"""

from __future__ import annotations

import asyncio  # noqa: TID251 - the Kafka thread runs asyncio
import time
from collections.abc import Sequence
from typing import Any

from bridge.events.record import StoredRecord
from bridge.kafka.answers import BatchRefusedError, ClientError
from bridge.kafka.log import Log
from bridge.kafka.producer import Producer
from bridge.kafka.relay.epoch import Epoch, EpochEndedError, Group
from bridge.kafka.relay.partition import PartitionQueue


__all__ = ["IdempotentDelivery"]


class IdempotentDelivery:
    """
    Sends a topic's rows, each partition for itself.

    Args:
        group: The topic's delivery.
    """

    shares_wake = False

    def __init__(self, group: Group) -> None:
        self._group = group
        self._producer: Producer | None = None
        self._has_failed = True
        # What ends the epoch.
        self._ended: asyncio.Future[None] | None = None

    async def open(self, *, waits: bool) -> None:
        """Have a producer: see `Delivery.open`."""
        del waits
        self._producer = Producer(self._group.settings, self._group.writer)
        await self._producer.start()

    async def settle(self, log: Log, numbers: Sequence[int]) -> None:
        """Wait until a late write has landed: see `Delivery.settle`."""
        # Where every answer has come, nothing can land late.
        if numbers and self._has_failed:
            # Counted from when the leaders answer: what was in their queues before
            # this question is appended within that time.
            await log.bounds(numbers)
            await asyncio.sleep(self._group.settings.resume_quiet_seconds)
            await log.replicated(numbers)

    async def send(self, epoch: Epoch) -> None:
        """Send until draining is done: see `Delivery.send`."""
        self._has_failed = False
        self._ended = asyncio.get_running_loop().create_future()
        tasks = [
            asyncio.create_task(self._send_partition(epoch, queue))
            for queue in epoch.queues
        ]
        try:
            await asyncio.gather(*tasks)
        except asyncio.CancelledError:
            # The answers on their way are lost.
            self._has_failed = True
            raise
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
        if self._ended.done():
            await self._ended

    async def close(self) -> None:
        """End the producer: see `Delivery.close`."""
        producer, self._producer = self._producer, None
        if producer is not None:
            await producer.close()

    async def _send_partition(self, epoch: Epoch, queue: PartitionQueue) -> None:
        """Send a partition's rows until the epoch ends, or draining is done."""
        group, ended = epoch.group, self._ended
        assert ended is not None
        draining = asyncio.ensure_future(group.is_draining.wait())
        try:
            while not ended.done():
                rows = queue.next_rows(group.max_rows(queue))
                if rows:
                    await self._send_batch(epoch, queue, rows)
                    continue
                if group.is_draining.is_set():
                    return
                queue.wake.clear()
                woken = asyncio.ensure_future(queue.wake.wait())
                # No deadline: a partition without rows has nothing to do.
                waits: set[asyncio.Future[Any]] = {woken, ended, draining}
                await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
                woken.cancel()
        finally:
            draining.cancel()

    async def _send_batch(
        self, epoch: Epoch, queue: PartitionQueue, rows: Sequence[StoredRecord]
    ) -> None:
        """Send one batch; what fails ends the epoch for all partitions."""
        group, producer, ended = epoch.group, self._producer, self._ended
        assert producer is not None
        assert ended is not None
        group.outage.sending(queue.key)
        started = time.monotonic()
        leader = producer.leader(*queue.key)
        try:
            sent = await producer.send(
                *queue.key,
                rows,
                queue.batch_bytes,
                resent_until=queue.resent_until,
                prefix=epoch.prefix,
            )
            rows = sent.rows
            base_offset = await producer.base_offset(sent)
        except (ClientError, TimeoutError) as error:
            # A refusal is an answer: nothing lands late.
            self._has_failed |= not isinstance(error, BatchRefusedError)
            group.failed(queue, rows, error)
            if not ended.done():
                ended.set_exception(error)
            return
        if base_offset <= queue.last_offset or leader not in {
            None,
            producer.leader(*queue.key),
        }:
            # The new leader may lack what the one before acknowledged. This batch is
            # found in the log.
            if not ended.done():
                ended.set_exception(EpochEndedError("a partition's leader has changed"))
            return
        group.statistics.publish_duration.observe(time.monotonic() - started)
        group.acknowledged(queue, sent, base_offset)
