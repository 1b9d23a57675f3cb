"""
One lane: the rows of a partition on their way from the outbox into the log.

A lane sends at once when it is idle and batches while it is busy, with one
batch on its way. Rows come from memory while it keeps up and from the outbox
when it doesn't. After a failure it asks the log what it has, and goes on there.
"""

from __future__ import annotations

import asyncio  # noqa: TID251 - this room runs asyncio
import time
from collections import deque
from collections.abc import Collection, Sequence
from itertools import islice

import structlog

from bridge.errors import KafkaError, KafkaUnreachableError
from bridge.kafka.log import ScanFrom, scan
from bridge.kafka.ports import OutboxPort
from bridge.kafka.producer import ClientError
from bridge.kafka.producers import Producers
from bridge.kafka.statistics import RelayStatistics
from bridge.kafka.topics import TopicFacts
from bridge.record import StoredRecord
from bridge.settings import KafkaSettings


__all__ = ["Lane", "Memory"]

_log = structlog.get_logger("bridge.kafka")

# One read of the outbox while a lane catches up: about 10 ms of SQLite.
_ROWS_A_READ = 2000

# A StoredRecord with its ce_id and tuples beside its value's own bytes.
_ROW_BYTES = 500

# Rows that all lanes together keep in memory; a lane that finds no room reads
# its rows from the outbox later.
_MEMORY_BYTES = 32 * 2**20

# A record batch's own header and each record's framing and headers don't count
# into `max_batch_bytes`, but into what the broker takes: leave them room.
_BATCH_ROOM = 0.75

# aiokafka itself gives a batch up after the request timeout; a batch that is
# still on its way so much later never comes back (aiokafka issue 1018).
_GRACE_SECONDS = 30.0


class Memory:
    """What the lanes keep in memory together, in bytes."""

    def __init__(self, max_bytes: int = _MEMORY_BYTES) -> None:
        self._max_bytes = max_bytes
        self._used_bytes = 0

    def take(self, rows: Sequence[StoredRecord]) -> bool:
        """Take room for rows; False if there is none."""
        size = _weigh(rows)
        if self._used_bytes + size > self._max_bytes:
            return False
        self._used_bytes += size
        return True

    def force(self, rows: Sequence[StoredRecord]) -> None:
        """Take room for rows that are needed now, whether there is any or not."""
        self._used_bytes += _weigh(rows)

    def release(self, rows: Collection[StoredRecord]) -> None:
        """Give back the room of rows that were taken."""
        self._used_bytes -= _weigh(rows)


def _weigh(rows: Collection[StoredRecord]) -> int:
    return sum([len(row.value) for row in rows]) + _ROW_BYTES * len(rows)


class Lane:
    """
    The sender of one partition.

    Args:
        topic: Facts of the topic.
        partition: Which partition.
        acknowledged_sequence: The last row that is known to be in the log.
        last_sequence: The last row that the outbox has for this lane.
        resume_offset: From where on the log may hold rows of this lane.
        found: Offset by ce_id of rows after the acknowledged ones that the log
            holds already.
        outbox: Where rows are read and acknowledged.
        producers: Who lends producers.
        settings: Sizes and times.
        memory: The room that all lanes share.
        statistics: The relay's figures.
    """

    def __init__(  # noqa: PLR0913 - the relay wires it once
        self,
        topic: TopicFacts,
        partition: int,
        *,
        acknowledged_sequence: int,
        last_sequence: int,
        resume_offset: int,
        found: dict[str, int],
        outbox: OutboxPort,
        producers: Producers,
        settings: KafkaSettings,
        memory: Memory,
        statistics: RelayStatistics,
    ) -> None:
        self._topic = topic
        self._partition = partition
        self._cursor = acknowledged_sequence
        self._last = last_sequence
        self._resume_offset = resume_offset
        self._found = found
        self._outbox = outbox
        self._producers = producers
        self._settings = settings
        self._memory = memory
        self._statistics = statistics
        self._batch_bytes = int(
            min(settings.max_batch_bytes, topic.max_message_bytes * _BATCH_ROOM)
        )
        self._rows: deque[StoredRecord] = deque()
        self._wake = asyncio.Event()
        self._draining = False

    # -- What the outbox tells ------------------------------------------------

    def committed(self, rows: list[StoredRecord]) -> None:
        """Take rows that were just committed, in order."""
        if rows[0].sequence == self._tail + 1 and self._memory.take(rows):
            self._rows += rows
        self._last = rows[-1].sequence
        self._wake.set()

    def claimed(self, last_sequence: int) -> None:
        """Learn that older rows were given to this lane; they are in the outbox."""
        self._last = last_sequence
        self._wake.set()

    def drain(self) -> None:
        """Let `run` return once every row that was committed is in the log."""
        self._draining = True
        self._wake.set()

    @property
    def waiting(self) -> int:
        """Rows that are not known to be in the log."""
        return self._last - self._cursor

    # -- The work -------------------------------------------------------------

    async def run(self) -> None:
        """Send rows as they come, until `drain`."""
        while await self._gather():
            try:
                if self._rows[0].ce_id in self._found:
                    self._skip_found()
                else:
                    await self._send()
            except (ClientError, KafkaError, TimeoutError) as error:
                self._note_failure(error)
                await self._resume()

    @property
    def _tail(self) -> int:
        return self._rows[-1].sequence if self._rows else self._cursor

    async def _gather(self) -> bool:
        """Have rows at hand; False if there are none left and none will come."""
        while not self._rows:
            if self._cursor < self._last:
                rows = await asyncio.wrap_future(
                    self._outbox.read(
                        self._topic.name,
                        self._partition,
                        self._cursor,
                        _ROWS_A_READ,
                        2 * self._batch_bytes,
                    )
                )
                self._rows += rows
                self._memory.force(rows)
            elif self._draining:
                return False
            else:
                # No deadline: a lane without rows has nothing to do.
                await self._wake.wait()
            self._wake.clear()
        return True

    async def _send(self) -> None:
        offered = list(islice(self._rows, _ROWS_A_READ))
        if self._found:
            offered = _before_found(offered, self._found)
        started = time.monotonic()
        async with self._producers.lend() as producer:
            try:
                sent = await producer.send(
                    self._topic.name, self._partition, offered, self._batch_bytes
                )
                patience = self._settings.request_timeout_seconds + _GRACE_SECONDS
                async with asyncio.timeout(patience):
                    metadata = await sent.future
            except (ClientError, TimeoutError):
                self._producers.give_up(producer)
                raise
        self._statistics.worked()
        self._statistics.publish_duration.observe(time.monotonic() - started)
        published = self._statistics.published
        published[self._topic.name] = published.get(self._topic.name, 0) + sent.count
        self._advance(sent.count, metadata.offset, sent.size_bytes)

    def _skip_found(self) -> None:
        """Acknowledge the rows ahead that the log holds already, one by one."""
        while self._rows and (ce_id := self._rows[0].ce_id) in self._found:
            resumed = self._statistics.resumed
            resumed[self._topic.name] = resumed.get(self._topic.name, 0) + 1
            self._advance(1, self._found.pop(ce_id), len(self._rows[0].value))

    def _advance(self, count: int, base_offset: int, size_bytes: int) -> None:
        rows = [self._rows.popleft() for _ in range(count)]
        self._memory.release(rows)
        self._cursor = rows[-1].sequence
        self._resume_offset = base_offset + count - 1
        self._outbox.acknowledge(
            self._topic.name,
            self._partition,
            rows[0].sequence,
            self._cursor,
            base_offset,
            size_bytes,
        )

    # -- After a failure ------------------------------------------------------

    def _note_failure(self, error: BaseException) -> None:
        self._statistics.failed(error)
        _log.warning(
            "lane.failed",
            topic=self._topic.name,
            partition=self._partition,
            error=f"{type(error).__name__}: {error}",
            next_sequence=self._cursor + 1,
        )

    async def _resume(self) -> None:
        """Wait until nothing late can land, then learn what the log holds."""
        self._memory.release(self._rows)
        self._rows.clear()
        start = ScanFrom(self._resume_offset, self._cursor)
        while True:
            await asyncio.sleep(self._settings.resume_quiet_seconds)
            try:
                tails = await scan(
                    self._settings,
                    self._outbox.id,
                    self._topic.name,
                    {self._partition: start},
                )
            except KafkaUnreachableError as error:
                self._statistics.failed(error)
                _log.warning("lane.waits", topic=self._topic.name, error=str(error))
            else:
                break
        self._found = tails[self._partition].offsets
        _log.info(
            "lane.resumed",
            topic=self._topic.name,
            partition=self._partition,
            next_sequence=self._cursor + 1,
            found_in_log=len(self._found),
        )


def _before_found(
    rows: list[StoredRecord], found: dict[str, int]
) -> list[StoredRecord]:
    """Give the rows before the first one that the log holds already."""
    for index, row in enumerate(rows):
        if row.ce_id in found:
            return rows[:index]
    return rows
