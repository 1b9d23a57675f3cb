"""
Transactional delivery: one transaction at a time holds rows of all partitions.

A `read_committed` consumer sees each row once, whatever fails. Two transactional ids
take turns, since aiokafka waits 20 ms before an id that has just committed may add
partitions again (CONCURRENT_TRANSACTIONS). One id begins only after the other's commit
was acknowledged. Every epoch initializes both: that aborts open transactions and fences
other producers with these ids. Only then the log is read.

A coordinator may regard a transaction as ended before its markers are written. Kafka
4.1 and later do so when the leaders of its partitions are unavailable at that moment,
as when all brokers restart (KAFKA-20734). With 4.3.1 that is up to one in eight kills
of a single broker under load. No timeout ends such a transaction, and no
`read_committed` consumer gets past it. The marker of a later transaction with the same
transactional id ends it, so the bridge commits an empty one. It commits, whatever was
decided of the other: while that is open, the log can't be read to its end. So none of
its rows were sent again, and some may be acknowledged.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from contextlib import suppress

import structlog

from bridge.errors import ConfigError, KafkaError, KafkaFencedError
from bridge.events.record import StoredRecord
from bridge.kafka.answers import ClientError, is_fenced
from bridge.kafka.headers import own_identity
from bridge.kafka.log import Bounds, Log, open_log
from bridge.kafka.producer import Producer, Sent
from bridge.kafka.relay.epoch import Epoch, Group
from bridge.kafka.relay.partition import EpochEndedError, PartitionQueue
from bridge.kafka.requests import commit_empty


__all__ = ["TransactionalDelivery"]

_log = structlog.get_logger("bridge.kafka")

_IDS = 2

# Fenced twice within so long: another bridge initializes the ids again and again. Once
# can be the last breath of a process that was replaced.
_DUEL_SECONDS = 600.0

# A fenced bridge lets the other one initialize both ids first, which takes some 50 ms:
# begun at the same time, each would fence one id of the other, and both would end.
_FENCED_PAUSE_SECONDS = 1.0

# How often open transactions are looked for; a reader of committed records waits for up
# to two looks.
LOOK_SECONDS = 10.0

# A transaction that stays after as many tries is foreign: the ids were others when it
# was written (`kafka.client_id`), or the broker has forgotten them after a week
# without use.
_TRIES = 5


class TransactionalDelivery:
    """Sends a topic's rows, all partitions together: see `epoch.Delivery`."""

    def __init__(self, group: Group) -> None:
        self._group = group
        client_id, outbox_id = group.settings.client_id, group.outbox.id
        self._prefix = f"{client_id}.{outbox_id}."
        self._ids = [f"{self._prefix}{group.topic}.{one}" for one in range(_IDS)]
        self._producers: deque[Producer] = deque()
        self._fenced_at = float("-inf")
        # Partition and offset where any writer's transactions began at the last
        # look, and how often those that hang were ended.
        self._held: set[tuple[int, int]] = set()
        self._tries: Counter[tuple[int, int]] = Counter()
        self._look_at = 0.0

    async def open(self) -> None:
        """Initialize both ids."""
        await self._initialize()
        if await self._end_hanging():
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
        """Send until draining is done, or the epoch ends."""
        group = epoch.group
        wake = asyncio.Event()
        for queue in epoch.queues:
            queue.wake = wake
        while epoch.ended_by is None:
            wake.clear()
            parts = []
            for queue in epoch.queues:
                if rows := group.next_rows(queue):
                    parts.append((queue, rows))
                else:
                    group.outage.recovered(queue.key)
            if parts:
                await self._transaction(epoch, parts)
            elif group.is_draining.is_set():
                return
            else:
                with suppress(TimeoutError):
                    async with asyncio.timeout(self._look_at - self._now()):
                        await wake.wait()
            await self._look_for_hanging()
        raise epoch.ended_by

    async def close(self) -> None:
        """End the producers."""
        producers, self._producers = self._producers, deque()
        # Tasks of their own: each begins, and goes on, even if the caller is cancelled.
        if ending := [
            asyncio.ensure_future(producer.close()) for producer in producers
        ]:
            await asyncio.wait(ending)

    # -- A transaction --------------------------------------------------------

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

    # -- Transactions that hang -----------------------------------------------

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()

    async def _look_for_hanging(self) -> None:
        """Look now and then; one that hangs ends the epoch: the next ends it."""
        if self._now() < self._look_at:
            return
        self._look_at = self._now() + LOOK_SECONDS
        before, self._held = self._held, set()
        try:
            async with open_log(self._group.settings, self._group.topic) as log:
                held = await log.held()
                self._held = set(held.items())
                # A marker is written within milliseconds of its commit.
                hangs = self._held & before and await self._hanging(log, held)
        except (ConfigError, KafkaError) as error:
            # Whether that ends the epoch, sending finds out.
            _log.debug("transactions.not_seen", error=repr(error))
            return
        if hangs:
            raise EpochEndedError("a transaction of this bridge hangs")

    async def _end_hanging(self) -> bool:
        """
        End what hangs, if anything does: then the ids have to be initialized again.

        The ids were just initialized: no transaction of theirs is open rightly.
        """
        self._look_at = self._now() + LOOK_SECONDS
        self._held = set()
        topic, settings = self._group.topic, self._group.settings
        seconds = settings.transaction_timeout_seconds
        async with open_log(settings, topic) as log:
            offsets = await self._hanging(log, await log.held())
            if not offsets:
                return False
            _log.warning("transaction.hangs", topic=topic, offsets=offsets)
            async with asyncio.timeout(seconds):
                for name in self._ids:
                    await commit_empty(
                        log.client, name, int(seconds * 1000), topic, offsets
                    )
        self._tries.update(offsets.items())
        return True

    async def _hanging(self, log: Log, held: Mapping[int, int]) -> dict[int, int]:
        """Return where transactions begin that hold the topic and may be ours."""
        own = self._group.outbox.id.encode()
        held = {
            partition: offset
            for partition, offset in held.items()
            if self._tries[partition, offset] < _TRIES
        }
        ends = {one: Bounds(offset, offset + 1) for one, offset in held.items()}
        async for partition, records in log.records(dict(held), ends, aborted=True):
            for record in records:
                is_first = record.offset == held.get(partition)
                if is_first and own_identity(record.headers, own) is None:
                    del held[partition]
        return held
