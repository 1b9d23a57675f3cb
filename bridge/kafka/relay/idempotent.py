"""
Idempotent delivery: every partition sends for itself, one batch on its way.

A partition sends at once when it is idle and batches while it is busy. There is no
duplicate unless a producer that was abandoned writes late: then with the same `ce_id`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

from bridge.events.record import StoredRecord
from bridge.kafka.answers import BatchRefusedError, ClientError
from bridge.kafka.log import Log
from bridge.kafka.producer import Producer
from bridge.kafka.relay.epoch import Epoch, Group
from bridge.kafka.relay.partition import EpochEndedError, PartitionQueue


__all__ = ["IdempotentDelivery"]


class IdempotentDelivery:
    """Sends a topic's rows, each partition for itself: see `epoch.Delivery`."""

    def __init__(self, group: Group) -> None:
        self._group = group
        self._producer: Producer | None = None
        # Partitions for which every answer has come: nothing can land late there.
        self._settled: set[int] = set()

    async def open(self) -> None:
        """Have a producer."""
        self._producer = Producer(self._group.settings, self._group.writer)
        await self._producer.start()

    async def settle(self, log: Log, numbers: Sequence[int]) -> None:
        """Wait until a late write has landed."""
        numbers = [number for number in numbers if number not in self._settled]
        if numbers:
            # Counted from when the leaders answer: what was in their queues before
            # this question is appended within that time.
            await log.bounds(numbers)
            await asyncio.sleep(self._group.settings.resume_quiet_seconds)
            await log.replicated(numbers)

    async def send(self, epoch: Epoch) -> None:
        """Send until draining is done, or the epoch ends."""
        self._settled |= {queue.key[1] for queue in epoch.queues}
        tasks = [
            asyncio.create_task(self._send_partition(epoch, queue))
            for queue in epoch.queues
        ]
        try:
            await asyncio.gather(*tasks)
        except BaseException:
            # The answers on their way are lost.
            self._settled.clear()
            raise
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
        if epoch.ended_by is not None:
            raise epoch.ended_by

    async def close(self) -> None:
        """End the producer."""
        producer, self._producer = self._producer, None
        if producer is not None:
            await producer.close()

    async def _send_partition(self, epoch: Epoch, queue: PartitionQueue) -> None:
        """Send a partition's rows until the epoch ends, or draining is done."""
        group = epoch.group
        while epoch.ended_by is None:
            rows = group.next_rows(queue)
            if rows:
                await self._send_batch(epoch, queue, rows)
                continue
            group.outage.recovered(queue.key)
            if group.is_draining.is_set():
                return
            queue.wake.clear()
            # No deadline: rows, the end of the epoch and draining wake it.
            await queue.wake.wait()

    async def _send_batch(
        self, epoch: Epoch, queue: PartitionQueue, rows: Sequence[StoredRecord]
    ) -> None:
        """Send one batch; what fails ends the epoch for all partitions."""
        group, producer = epoch.group, self._producer
        assert producer is not None
        group.outage.sending(queue.key)
        started = time.monotonic()
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
            queue.check(base_offset, producer.leader(*queue.key))
        except EpochEndedError as error:
            epoch.end(error)
            return
        except (ClientError, TimeoutError) as error:
            # A refusal is an answer: nothing lands late.
            if not isinstance(error, BatchRefusedError):
                self._settled.discard(queue.key[1])
            group.failed(queue, rows, error)
            epoch.end(error)
            return
        group.statistics.publish_duration.observe(time.monotonic() - started)
        group.acknowledged(queue, producer, sent, base_offset)
