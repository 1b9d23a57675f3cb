"""
Transactional delivery: one transaction at a time carries rows of all lanes.

A `read_committed` consumer sees each row once, whatever fails. Two transactional
ids take turns, since aiokafka waits 20 ms before an id that has just committed may
add partitions again (CONCURRENT_TRANSACTIONS). One id begins only after the other's
commit was acknowledged. After any failure both are initialised again: that aborts
what was open and fences whoever else writes with them; only then the logs are read.
"""

from __future__ import annotations

import asyncio  # noqa: TID251 - this room runs asyncio
import time
from collections import deque
from collections.abc import Sequence
from weakref import WeakSet

import msgspec
import structlog

from bridge.errors import ConfigError, KafkaError, KafkaFencedError
from bridge.events.record import StoredRecord
from bridge.kafka.headers import HeaderWriter
from bridge.kafka.producer.answers import BatchRefusedError, ClientError, is_fenced
from bridge.kafka.producer.ending import end_all
from bridge.kafka.producer.producer import Producer
from bridge.kafka.producer.sent import Sent
from bridge.kafka.relay.group import Group
from bridge.kafka.relay.hanging import HangingTransactions
from bridge.kafka.relay.lane import Lane
from bridge.kafka.relay.log import open_log
from bridge.kafka.relay.publications import error_type
from bridge.kafka.relay.refusal import Refusals
from bridge.kafka.relay.resuming import Backoff, settle, verify
from bridge.kafka.relay.statistics import delivered
from bridge.kafka.relay.tails import scan


__all__ = ["TransactionalDelivery"]

_log = structlog.get_logger("bridge.kafka")

_IDS = 2

# Fenced twice within so long: somebody else initialises the ids again and again.
# Once can be the last breath of a process that has been replaced.
_DUEL_SECONDS = 600.0

# Who is fenced lets the other one initialise both ids first, which takes some 50 ms:
# begun at the same time, each would fence one id of the other, and both would end.
_FENCED_PAUSE_SECONDS = 1.0

# A commit's markers are written within milliseconds, and within a second or two where
# the coordinator has just begun. What holds a log for longer may hang.
_HELD_SECONDS = 5.0


class _Part(msgspec.Struct):
    """
    What a transaction carries of one lane.

    Attributes:
        lane: The lane.
        rows: Its rows in the transaction.
        sent: The batch on its way.
    """

    lane: Lane
    rows: list[StoredRecord]
    sent: Sent


class TransactionalDelivery:
    """
    Carries a group's lanes together.

    Args:
        group: What the lanes share.
        writer: Writes the headers.

    Attributes:
        wake: Set when one of the lanes has something to do.
    """

    def __init__(self, group: Group, writer: HeaderWriter) -> None:
        self._group = group
        self._writer = writer
        self.wake: asyncio.Event | None = asyncio.Event()
        self._producers: deque[Producer] = deque()
        # Made before the logs were read.
        self._connections: WeakSet[object] = WeakSet()
        self._hanging = HangingTransactions(group)
        self._backoff = Backoff(group.settings.retry_backoff_seconds)
        self._refusals: dict[tuple[str, int], Refusals] = {}
        self._busy: Sequence[Lane] = ()
        self._parts: list[_Part] = []
        # Whose acknowledgement is waited for.
        self._asked: Lane | None = None
        self._begun_at = 0.0
        self._begun_ns = 0
        self._fenced_at = float("-inf")

    async def prepare(self) -> None:
        """Initialise both ids: see `Delivery.prepare`."""
        await self.close()
        settings, group = self._group.settings, self._group
        prefix = f"{settings.client_id}.{group.outbox.id}."
        for number in range(_IDS):
            producer = Producer(
                settings,
                self._writer,
                f"{prefix}{group.topics[0]}.{number}",
                id_prefix=prefix,
            )
            await producer.start()
            self._producers.append(producer)
            connections = await producer.connect(group.topics)
            self._connections.update(one for one in connections if one is not None)
        await self._hanging.end(self._producers)

    async def carry(self, lanes: Sequence[Lane]) -> None:
        """Send until all lanes are drained: see `Delivery.carry`."""
        self._refusals = {lane.key: Refusals(self._group, lane) for lane in lanes}
        self._trust(lanes)
        while (busy := await self._gather(lanes)) is not None:
            self._busy, self._parts, self._asked = busy, [], None
            try:
                await self._hanging.look(self._producers[0])
                if busy:
                    await self._transaction(busy)
            except BatchRefusedError as error:
                self._failed(error)
                await self._recover(lanes, error)
            except (ClientError, ConfigError, KafkaError, TimeoutError) as error:
                self._failed(error)
                if self._is_fenced(error):
                    await asyncio.sleep(_FENCED_PAUSE_SECONDS)
                await self._recover(lanes)

    async def close(self) -> None:
        """End the producers: see `Delivery.close`."""
        producers = list(self._producers)
        self._producers.clear()
        await end_all(producer.close() for producer in producers)

    def _trust(self, lanes: Sequence[Lane]) -> None:
        """
        Tell lanes whose logs were just read over which connections that holds.

        What is acknowledged over those that were there before comes from the same
        run of the broker. Otherwise each lane would look again at its first batch
        of either producer, and all would wait for it.
        """
        for lane in lanes:
            for producer in self._producers:
                connection = producer.connection(*lane.key)
                if connection is not None and connection in self._connections:
                    lane.verified(connection)

    async def _gather(self, lanes: Sequence[Lane]) -> list[Lane] | None:
        """
        Have rows at hand.

        Returns:
            The lanes that have some; an empty list where none has, and it is time to
            look for what hangs; None if no rows are left and none will come.
        """
        wake = self.wake
        assert wake is not None
        while True:
            wake.clear()
            for lane in lanes:
                await lane.read()
                while lane.skip_found():
                    self._group.outage.worked(lane.key)
                    await lane.read()
            busy = [lane for lane in lanes if lane.has_rows]
            if busy:
                return busy
            if all(lane.draining for lane in lanes):
                return None
            try:
                async with asyncio.timeout(self._hanging.due_seconds):
                    await wake.wait()
            except TimeoutError:
                return []

    async def _transaction(self, busy: Sequence[Lane]) -> None:
        group, settings = self._group, self._group.settings
        producer = self._producers[0]
        self._producers.rotate(-1)
        started = self._begun_at = time.monotonic()
        self._begun_ns = time.time_ns()
        for lane in busy:
            group.outage.sending(lane.key)
        offsets = []
        # aiokafka tries a transaction's requests again for ever.
        async with asyncio.timeout(settings.transaction_timeout_seconds):
            await producer.begin()
            for lane in busy:
                self._parts.append(await self._send(producer, lane))
            for part in self._parts:
                self._asked = part.lane
                offsets.append(await part.sent.base_offset())
            self._asked = None
            await producer.commit()
        self._backoff.reset()
        group.statistics.publish_duration.observe(time.monotonic() - started)
        doubtful = []
        for part, base_offset in zip(self._parts, offsets, strict=True):
            lane, sent = part.lane, part.sent
            group.outage.worked(lane.key)
            delivered(group.statistics, lane.key[0], part.rows, lane.resent_sequence)
            self._trace(part, base_offset=base_offset)
            connection = sent.connection
            start = lane.advance(sent.count, base_offset, sent.size_bytes, connection)
            if start is not None:
                doubtful.append((lane, start, connection))
            self._refusals[lane.key].passed()
        for lane, start, connection in doubtful:
            await verify(group, lane, start, connection, held_seconds=_HELD_SECONDS)

    async def _send(self, producer: Producer, lane: Lane) -> _Part:
        topic, partition = lane.key
        rows = lane.offered(self._refusals[lane.key].max_rows)
        sent = await producer.send(
            topic,
            partition,
            rows,
            lane.batch_bytes,
            marked_until=lane.resent_sequence,
            prefix=self._group.prefixes.get(topic, b""),
        )
        return _Part(lane, rows[: sent.count], sent)

    def _failed(self, error: Exception) -> None:
        """Note that all lanes of the transaction failed, by the one that was first."""
        group, asked = self._group, self._asked
        group.statistics.producer_recycles += 1
        for part in self._parts:
            self._trace(part, error=error)
        if isinstance(error, TimeoutError) and not error.args:
            seconds = group.settings.transaction_timeout_seconds
            error = TimeoutError(f"a transaction took longer than {seconds:g} s")
        if asked is None:
            group.outage.failed("transaction.failed", error)
        for lane in sorted(self._busy, key=lambda lane: lane is not asked):
            event = "transaction.failed" if asked is None else "lane.failed"
            group.outage.failed(
                event, error, lane.key, next_sequence=lane.next_sequence
            )

    def _trace(
        self,
        part: _Part,
        *,
        base_offset: int | None = None,
        error: Exception | None = None,
    ) -> None:
        """Tell of a lane's part; it took as long as its transaction."""
        if self._group.trace is not None:
            self._group.trace(
                *part.lane.key,
                part.rows,
                self._begun_ns,
                base_offset=base_offset,
                broker=part.sent.broker if error is None else None,
                error_type=None if error is None else error_type(error),
            )

    def _is_fenced(self, error: Exception) -> bool:
        """
        Tell a stall of our own from another bridge with the same ids.

        The coordinator fences a transaction that has become too old, too.

        Raises:
            KafkaFencedError: Another bridge initialises the ids again and again.
        """
        now = time.monotonic()
        is_late = (
            now - self._begun_at >= self._group.settings.transaction_timeout_seconds
        )
        if is_late or not is_fenced(error):
            return False
        if now - self._fenced_at < _DUEL_SECONDS:
            raise KafkaFencedError(
                "another bridge writes with the transactional ids of this outbox"
                f" ({self._group.outbox.id}): two processes use copies of one outbox."
                " Stop one of them, and give each bridge a directory of its own"
                " (BRIDGE_OUTBOX_DIR, --outbox-dir)"
            )
        self._fenced_at = now
        _log.warning("transaction.fenced", topics=list(self._group.topics))
        return True

    async def _recover(
        self, lanes: Sequence[Lane], refusal: BatchRefusedError | None = None
    ) -> None:
        """Initialise both ids, read what the logs hold; tried until it works."""
        refused = await self._refused_part() if refusal is not None else None
        for lane in lanes:
            lane.forget()
        if refusal is not None:
            # The broker has answered, and waiting helps nobody.
            self._backoff.reset()
        pause_seconds = self._backoff.next()
        while True:
            await asyncio.sleep(pause_seconds)
            try:
                await self.prepare()
                await self._read_logs(lanes)
                self._trust(lanes)
            except (ConfigError, KafkaError) as error:
                self._group.outage.failed("kafka.waits", error)
                pause_seconds = self._backoff.next()
            else:
                break
        if (
            refused is not None
            and refusal is not None
            and await refused.lane.is_next(refused.rows[0])
        ):
            refusals = self._refusals[refused.lane.key]
            await refusals.refused(refused.rows, refusal)

    async def _refused_part(self) -> _Part | None:
        """Find whose batch was refused: others failed with the transaction."""
        for part in self._parts:
            try:
                async with asyncio.timeout(0):
                    await part.sent.base_offset()
            except BatchRefusedError:
                return part
            except (ClientError, TimeoutError):
                continue
        return None

    async def _read_logs(self, lanes: Sequence[Lane]) -> None:
        group = self._group
        for topic in group.topics:
            own = {lane.key[1]: lane for lane in lanes if lane.key[0] == topic}
            if not own:
                continue
            starts = {number: lane.start for number, lane in own.items()}
            async with open_log(group.settings, topic) as log:
                tails = await scan(log, group.outbox.id, starts)
                for number, lane in own.items():
                    await settle(group, lane, log, starts[number], tails[number])
        group.outage.worked()
