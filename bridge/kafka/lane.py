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
from itertools import islice

import structlog

from bridge.errors import ConfigError, KafkaError
from bridge.kafka.asking import answer
from bridge.kafka.group import Group
from bridge.kafka.log import ScanFrom, scan
from bridge.kafka.producer import BatchRefusedError, ClientError
from bridge.kafka.topics import TopicFacts
from bridge.record import StoredRecord


__all__ = ["Lane"]

_log = structlog.get_logger("bridge.kafka")

# One read of the outbox while a lane catches up: about 10 ms of SQLite.
_ROWS_A_READ = 2000

# A record batch's own header and each record's framing and headers don't count
# into `max_batch_bytes`, but into what the broker takes: leave them room.
_BATCH_ROOM = 0.75

# aiokafka itself gives a batch up after the request timeout; a batch that is
# still on its way so much later never comes back (aiokafka issue 1018).
_GRACE_SECONDS = 30.0

# The longest wait between two tries while Kafka can't be used: what a lane may
# lose of the time after an outage.
_LONGEST_PAUSE_SECONDS = 10.0

# A record that the broker refuses stays refused until somebody changes the
# topic; each try costs its group a new producer.
_REFUSED_PAUSE_SECONDS = 30.0


class Lane:
    """
    The sender of one partition.

    Args:
        group: What it shares with other lanes.
        topic: Facts of the topic.
        partition: Which partition.
        acknowledged_sequence: The last row that is known to be in the log.
        last_sequence: The last row that the outbox has for this lane.
        resume_offset: From where on the log may hold rows of this lane.
        found: Offset by ce_id of rows after the acknowledged ones that the log
            holds already.
    """

    def __init__(  # noqa: PLR0913 - what the outbox and the log know of it
        self,
        group: Group,
        topic: TopicFacts,
        partition: int,
        *,
        acknowledged_sequence: int,
        last_sequence: int,
        resume_offset: int,
        found: dict[str, int],
    ) -> None:
        self._group = group
        self._topic = topic.name
        self._partition = partition
        self._cursor = acknowledged_sequence
        self._last = last_sequence
        self._resume_offset = resume_offset
        self._found = found
        self._batch_bytes = int(
            min(group.settings.max_batch_bytes, topic.max_message_bytes * _BATCH_ROOM)
        )
        self._batch_rows = _ROWS_A_READ
        self._on_way = 0
        self._narrow_until = 0
        self._failures = 0
        self._rows: deque[StoredRecord] = deque()
        self._wake = asyncio.Event()
        self._draining = False

    @property
    def key(self) -> tuple[str, int]:
        """Topic and partition."""
        return self._topic, self._partition

    @property
    def waiting(self) -> int:
        """Rows that are not known to be in the log."""
        return self._last - self._cursor

    # -- What the outbox tells ------------------------------------------------

    def committed(self, rows: list[StoredRecord]) -> None:
        """Take rows that were just committed, in order."""
        if rows[0].sequence == self._tail + 1 and self._group.memory.take(rows):
            self._rows += rows
        self._last = rows[-1].sequence
        self._wake.set()

    def claimed(self, last_sequence: int) -> None:
        """Learn that older rows were given to this lane; they are in the outbox."""
        # Rows committed afterwards may have been told first.
        self._last = max(self._last, last_sequence)
        self._wake.set()

    def drain(self) -> None:
        """Let `run` return once every row that was committed is in the log."""
        self._draining = True
        self._wake.set()

    # -- The work -------------------------------------------------------------

    async def run(self) -> None:
        """Send rows as they come, until `drain`."""
        while await self._gather():
            try:
                if self._rows[0].ce_id in self._found:
                    self._skip_found()
                else:
                    await self._send()
            except (ClientError, ConfigError, KafkaError, TimeoutError) as error:
                self._failures += 1
                self._group.outage.failed(
                    "lane.failed", error, self.key, next_sequence=self._cursor + 1
                )
                pause = self._pause()
                if isinstance(error, BatchRefusedError):
                    pause = self._narrow(error)
                await self._resume(pause)

    @property
    def _tail(self) -> int:
        return self._rows[-1].sequence if self._rows else self._cursor

    async def _gather(self) -> bool:
        """Have rows at hand; False if there are none left and none will come."""
        while not self._rows:
            if self._cursor < self._last:
                rows = await answer(
                    self._group.outbox.read(
                        self._topic,
                        self._partition,
                        self._cursor,
                        _ROWS_A_READ,
                        2 * self._batch_bytes,
                    )
                )
                if not rows:
                    # Rows that the outbox counts and doesn't have: somebody else
                    # was at the file. They are shown as waiting, by health too.
                    await asyncio.sleep(_LONGEST_PAUSE_SECONDS)
                self._rows += rows
                self._group.memory.force(rows)
            elif self._draining:
                return False
            else:
                # No deadline: a lane without rows has nothing to do.
                await self._wake.wait()
            self._wake.clear()
        return True

    async def _send(self) -> None:
        offered = list(islice(self._rows, self._batch_rows))
        if self._found:
            offered = _before_found(offered, self._found)
        outage, settings = self._group.outage, self._group.settings
        started = time.monotonic()
        outage.sending(self.key)
        async with self._group.producers.lend() as producer:
            try:
                sent = await producer.send(
                    self._topic, self._partition, offered, self._batch_bytes
                )
                self._on_way = sent.count
                patience = settings.request_timeout_seconds + _GRACE_SECONDS
                async with asyncio.timeout(patience):
                    base_offset = await sent.base_offset()
            except (ClientError, TimeoutError):
                self._group.producers.give_up(producer)
                raise
        outage.worked(self.key)
        statistics = self._group.statistics
        statistics.publish_duration.observe(time.monotonic() - started)
        published = statistics.published
        published[self._topic] = published.get(self._topic, 0) + sent.count
        self._failures = 0
        self._advance(sent.count, base_offset, sent.size_bytes)

    def _skip_found(self) -> None:
        """Acknowledge the rows ahead that the log holds already, one by one."""
        resumed = self._group.statistics.resumed
        while self._rows and (ce_id := self._rows[0].ce_id) in self._found:
            resumed[self._topic] = resumed.get(self._topic, 0) + 1
            self._advance(1, self._found.pop(ce_id), len(self._rows[0].value))

    def _advance(self, count: int, base_offset: int, size_bytes: int) -> None:
        rows = [self._rows.popleft() for _ in range(count)]
        self._group.memory.release(rows)
        self._cursor = rows[-1].sequence
        self._resume_offset = base_offset + count - 1
        if self._cursor >= self._narrow_until:
            self._batch_rows = _ROWS_A_READ
        self._group.outbox.acknowledge(
            self._topic,
            self._partition,
            rows[0].sequence,
            self._cursor,
            base_offset,
            size_bytes,
        )

    # -- After a failure ------------------------------------------------------

    def _pause(self) -> float:
        """Give the seconds to wait: long enough for late writes, then longer."""
        settings = self._group.settings
        quiet = settings.resume_quiet_seconds
        if self._failures == 1:
            return quiet
        # 2**8 times any backoff is beyond the longest pause.
        backoff = settings.retry_backoff_seconds * (1 << min(self._failures, 8))
        return max(quiet, min(backoff, _LONGEST_PAUSE_SECONDS))

    def _narrow(self, error: BatchRefusedError) -> float:
        """
        Send half of a refused batch next, down to the record that is refused.

        Returns:
            How long to wait: the broker has answered, so nothing can land late.
        """
        if self._on_way > 1:
            last = self._rows[self._on_way - 1].sequence
            self._narrow_until = max(self._narrow_until, last)
            self._batch_rows = self._on_way // 2
            return 0.0
        row = self._rows[0]
        _log.error(
            "record.refused",
            topic=self._topic,
            partition=self._partition,
            sequence=row.sequence,
            ce_id=row.ce_id,
            size_bytes=len(row.value) + len(row.key or b""),
            reason=str(error),
            again_in_seconds=_REFUSED_PAUSE_SECONDS,
        )
        return _REFUSED_PAUSE_SECONDS

    async def _resume(self, pause_seconds: float) -> None:
        """Wait until nothing late can land, then learn what the log holds."""
        self._group.memory.release(self._rows)
        self._rows.clear()
        start = ScanFrom(self._resume_offset, self._cursor)
        while True:
            await asyncio.sleep(pause_seconds)
            try:
                tails = await scan(
                    self._group.settings,
                    self._group.outbox.id,
                    self._topic,
                    {self._partition: start},
                )
            except (ConfigError, KafkaError) as error:
                self._failures += 1
                self._group.outage.failed("lane.waits", error, self.key)
                pause_seconds = self._pause()
            else:
                break
        self._found = tails[self._partition].offsets
        _log.debug(
            "lane.resumes",
            topic=self._topic,
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
