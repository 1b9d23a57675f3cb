"""
Idempotent delivery: to every broker for itself, one batch of a partition on its way.

What comes while a broker is busy goes with the next request. There is no duplicate
unless a producer that was abandoned writes late: then with the same `ce_id`.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Sequence

from bridge.events.record import StoredRecord
from bridge.kafka.answers import BatchRefusedError, ClientError
from bridge.kafka.log import Log
from bridge.kafka.producer import Producer, Sent
from bridge.kafka.relay.epoch import Epoch, Group
from bridge.kafka.relay.partition import EpochEndedError, PartitionQueue


__all__ = ["IdempotentDelivery"]


class IdempotentDelivery:
    """Sends a topic's rows, to each leader for itself: see `epoch.Delivery`."""

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
        by_leader: defaultdict[int, list[PartitionQueue]] = defaultdict(list)
        for queue in epoch.queues:
            by_leader[queue.leader].append(queue)
        tasks = [
            asyncio.create_task(self._send_to_leader(epoch, queues))
            for queues in by_leader.values()
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

    async def _send_to_leader(
        self, epoch: Epoch, queues: Sequence[PartitionQueue]
    ) -> None:
        """Send the rows of partitions with one leader until the epoch ends."""
        group, producer = epoch.group, self._producer
        assert producer is not None
        wake = asyncio.Event()
        for queue in queues:
            queue.wake = wake
        on_way: dict[PartitionQueue, Sent] = {}
        while True:
            wake.clear()
            for queue in queues:
                if queue not in on_way and epoch.ended_by is None:
                    sent = await self._send_batch(epoch, queue)
                    if sent is not None:
                        on_way[queue] = sent
            if on_way:
                # All of them: aiokafka has one request on its way to a broker. What is
                # handed over meanwhile would wait, and not for one request but two.
                await producer.wait(on_way.values())
                for queue, sent in list(on_way.items()):
                    if self._is_answered(epoch, queue, sent):
                        del on_way[queue]
            elif epoch.ended_by is not None or group.is_draining.is_set():
                return
            else:
                # No deadline: rows, the end of the epoch and draining wake it.
                await wake.wait()

    async def _send_batch(self, epoch: Epoch, queue: PartitionQueue) -> Sent | None:
        """Send a partition's next rows, if there are any."""
        group, producer = epoch.group, self._producer
        assert producer is not None
        rows = group.next_rows(queue)
        if not rows:
            group.outage.recovered(queue.key)
            return None
        group.outage.sending(queue.key)
        try:
            return await producer.send(
                *queue.key,
                rows,
                queue.batch_bytes,
                resent_until=queue.resent_until,
                prefix=epoch.prefix,
            )
        except ClientError as error:
            self._fail(epoch, queue, rows, error)
            return None

    def _is_answered(self, epoch: Epoch, queue: PartitionQueue, sent: Sent) -> bool:
        """Take a batch's answer, if it has come; what failed ends the epoch."""
        group, producer = epoch.group, self._producer
        assert producer is not None
        try:
            base_offset = producer.base_offset(sent)
            if base_offset is None:
                return False
            queue.check(base_offset, producer.leader(*queue.key))
        except EpochEndedError as error:
            epoch.end(error)
        except (ClientError, TimeoutError) as error:
            self._fail(epoch, queue, sent.rows, error)
        else:
            group.statistics.publish_duration.observe(time.monotonic() - sent.began)
            group.acknowledged(queue, producer, sent, base_offset)
        return True

    def _fail(
        self,
        epoch: Epoch,
        queue: PartitionQueue,
        rows: Sequence[StoredRecord],
        error: Exception,
    ) -> None:
        """Report a batch that failed, and end the epoch for all partitions."""
        # A refusal is an answer: nothing lands late.
        if not isinstance(error, BatchRefusedError):
            self._settled.discard(queue.key[1])
        epoch.group.failed(queue, rows, error)
        epoch.end(error)
