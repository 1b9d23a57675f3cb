"""
Transactional delivery: one transaction at a time holds rows of all partitions.

A `read_committed` consumer sees each row once, whatever fails. Two transactional ids
take turns, since aiokafka waits 20 ms before an id that has just committed may add
partitions again (CONCURRENT_TRANSACTIONS). One id begins only after the other's commit
was acknowledged. Every epoch initializes both: that aborts what was open and fences all
that writes with them; only then the log is read.
"""

from __future__ import annotations

import asyncio  # noqa: TID251 - the Kafka thread runs asyncio
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress

import structlog

from bridge.errors import KafkaFencedError
from bridge.events.record import StoredRecord
from bridge.kafka.answers import ClientError, is_fenced
from bridge.kafka.log import Log
from bridge.kafka.producer import Producer, Sent
from bridge.kafka.relay.epoch import Epoch
from bridge.kafka.relay.group import Group
from bridge.kafka.relay.hanging import HangingTransactions
from bridge.kafka.relay.partition import PartitionQueue


__all__ = ["TransactionalDelivery"]

_log = structlog.get_logger("bridge.kafka")

_IDS = 2

# Fenced twice within so long: another bridge initializes the ids again and again. Once
# can be the last breath of a process that was replaced.
_DUEL_SECONDS = 600.0

# A fenced bridge lets the other one initialize both ids first, which takes some 50 ms:
# begun at the same time, each would fence one id of the other, and both would end.
_FENCED_PAUSE_SECONDS = 1.0


class TransactionalDelivery:
    """
    Sends a topic's rows, all partitions together.

    Args:
        group: The topic's delivery.
    """

    shares_wake = True

    def __init__(self, group: Group) -> None:
        self._group = group
        client_id, outbox_id = group.settings.client_id, group.outbox.id
        self._prefix = f"{client_id}.{outbox_id}."
        self._ids = [f"{self._prefix}{group.topic}.{one}" for one in range(_IDS)]
        self._producers: deque[Producer] = deque()
        self._hanging = HangingTransactions(group, self._ids)
        self._fenced_at = float("-inf")

    async def open(self) -> None:
        """Initialize both ids: see `Delivery.open`."""
        await self._initialize()
        if await self._hanging.end():
            await self.close()
            await self._initialize()

    async def _initialize(self) -> None:
        settings, writer = self._group.settings, self._group.writer
        for name in self._ids:
            producer = Producer(settings, writer, name, id_prefix=self._prefix)
            self._producers.append(producer)
            await producer.start()

    async def settle(self, log: Log, numbers: Sequence[int]) -> None:
        """Wait for nothing: older writers are fenced."""

    async def send(self, epoch: Epoch) -> None:
        """Send until draining is done: see `Delivery.send`."""
        group = epoch.group
        while epoch.ended_by is None:
            epoch.wake.clear()
            parts = []
            for queue in epoch.queues:
                if rows := queue.next_rows(group.max_rows(queue)):
                    parts.append((queue, rows))
                else:
                    group.outage.recovered(queue.key)
            if parts:
                await self._transaction(epoch, parts)
            elif group.is_draining.is_set():
                return
            else:
                with suppress(TimeoutError):
                    async with asyncio.timeout(self._hanging.due_seconds):
                        await epoch.wake.wait()
            await self._hanging.look()
        raise epoch.ended_by

    async def close(self) -> None:
        """End the producers: see `Delivery.close`."""
        producers, self._producers = self._producers, deque()
        # Tasks of their own: each begins, and goes on, even if the caller is cancelled.
        if ending := [
            asyncio.ensure_future(producer.close()) for producer in producers
        ]:
            await asyncio.wait(ending)

    async def _transaction(
        self,
        epoch: Epoch,
        parts: Sequence[tuple[PartitionQueue, Sequence[StoredRecord]]],
    ) -> None:
        group, settings = epoch.group, epoch.group.settings
        producer = self._producers[0]
        self._producers.rotate(-1)
        started = time.monotonic()
        for queue, _ in parts:
            group.outage.sending(queue.key)
        sent: list[Sent] = []
        offsets: list[int] = []
        try:
            # aiokafka repeats a transaction's requests for ever.
            async with asyncio.timeout(settings.transaction_timeout_seconds):
                await producer.begin()
                for queue, rows in parts:
                    sent.append(
                        await producer.send(
                            *queue.key,
                            rows,
                            queue.batch_bytes,
                            resent_until=queue.resent_until,
                            prefix=epoch.prefix,
                        )
                    )
                for one in sent:
                    offset = await producer.base_offset(one)
                    offsets.append(offset)
                await producer.commit()
        except (ClientError, TimeoutError) as error:
            # The partition that failed; none where the transaction as a whole did.
            first = len(offsets) if len(sent) == len(parts) else len(sent)
            await self._failed(parts, sent, first, error, started)
            raise
        group.statistics.publish_duration.observe(time.monotonic() - started)
        for (queue, _), offset in zip(parts, offsets, strict=True):
            queue.check(offset, producer.leader(*queue.key))
        for (queue, _), one, offset in zip(parts, sent, offsets, strict=True):
            group.acknowledged(queue, producer, one, offset)

    async def _failed(
        self,
        parts: Sequence[tuple[PartitionQueue, Sequence[StoredRecord]]],
        sent: Sequence[Sent],
        first: int,
        error: Exception,
        started: float,
    ) -> None:
        """Report a transaction that failed, by the partition that failed first."""
        group = self._group
        late = group.settings.transaction_timeout_seconds
        is_late = time.monotonic() - started >= late
        if isinstance(error, TimeoutError) and not error.args:
            error = TimeoutError(f"a transaction took longer than {late:g} s")
        for index, (queue, rows) in enumerate(parts):
            batch = sent[index].rows if index < len(sent) else rows
            if index == first:
                group.failed(queue, batch, error)
            else:
                group.given_up(queue, batch, error)
        if first == len(parts):
            group.outage.failed("transaction.failed", error)
        # The coordinator fences a transaction that has become too old, too.
        if is_late or not is_fenced(error):
            return
        now = time.monotonic()
        if now - self._fenced_at < _DUEL_SECONDS:
            raise KafkaFencedError(
                "another bridge writes with the transactional ids of this outbox"
                f" ({group.outbox.id}): two processes use copies of one outbox. Stop"
                " one of them, and give each bridge a directory of its own"
                " (BRIDGE_OUTBOX_DIR, --outbox-dir)"
            ) from error
        self._fenced_at = now
        _log.warning("transaction.fenced", topic=group.topic)
        await asyncio.sleep(_FENCED_PAUSE_SECONDS)
