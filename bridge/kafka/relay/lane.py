"""
One lane: the rows of a partition on their way from the outbox into the log.

Rows come from memory while the lane keeps up and from the outbox when it doesn't.
How they are sent depends on the delivery: see `idempotent` and `transactional`.
"""

from __future__ import annotations

import asyncio  # noqa: TID251 - this room runs asyncio
from collections import deque
from collections.abc import Callable
from functools import partial
from itertools import islice
from weakref import WeakSet

from bridge.events.record import StoredRecord
from bridge.kafka.asking import answer
from bridge.kafka.relay.group import Group
from bridge.kafka.relay.statistics import add
from bridge.kafka.relay.tails import ScanFrom
from bridge.kafka.topics import TopicFacts
from bridge.outbox.records import LaneState, by_envelope


__all__ = ["Lane"]

# One read of the outbox while a lane catches up: about 10 ms of SQLite.
_ROWS_A_READ = 2000

# A record batch's own header and each record's framing and headers don't count
# into `max_batch_bytes`, but into what the broker takes: leave them room.
_BATCH_ROOM = 0.75

# How long a lane waits for rows that the outbox counts and doesn't have.
_MISSING_PAUSE_SECONDS = 10.0


class Lane:
    """
    The rows of one partition that wait, and how far the partition has come.

    Args:
        group: What it shares with other lanes.
        topic: Facts of the topic.
        partition: Which partition.
        known: What the outbox knows of it; None for a new lane.
        start: What is known to be in the log, and from where on it may hold more.
        end_offset: Where the log ended when it was looked at.
        wake: Set whenever there is something to do; None for one of its own.

    Attributes:
        found: Offset by ce_id of rows after the acknowledged ones that the log
            holds already.
        trimmed: Rows up to this sequence have been in the log, which doesn't go
            back to them; the last offset that they may have had.
        offered_sequence: The last row that was offered to a producer; 0 once it has
            been answered.
        batch_bytes: Keys and values of one batch.
        resent_sequence: Rows up to it stood in the log once, which lost them.
    """

    def __init__(  # noqa: PLR0913 - what the outbox and the log know of it
        self,
        group: Group,
        topic: TopicFacts,
        partition: int,
        *,
        known: LaneState | None,
        start: ScanFrom,
        end_offset: int,
        wake: asyncio.Event | None,
    ) -> None:
        self._group = group
        self.facts = topic
        self._topic = topic.name
        self._partition = partition
        self._cursor = start.acknowledged_sequence
        self._last = 0 if known is None else known.last_sequence
        # Rows without a lane may get theirs after the log was looked at again.
        self._highest = start.last_sequence or 0
        self._resume_offset = end_offset if start.offset is None else start.offset
        self._resume_ce_id = start.ce_id
        self._verified = (self._resume_offset, self._resume_ce_id)
        # Over these the leader has acknowledged since the log was looked at.
        self._connections: WeakSet[object] = WeakSet()
        # Tells the outbox what is acknowledged and not yet verified.
        self._withheld: Callable[[], None] | None = None
        self.resent_sequence = 0 if known is None else known.resent_sequence
        self.found: dict[str, int] = {}
        self.trimmed = (0, 0)
        self.offered_sequence = 0
        self.batch_bytes = int(
            min(group.settings.max_batch_bytes, topic.max_message_bytes * _BATCH_ROOM)
        )
        self._rows: deque[StoredRecord] = deque()
        self._wake = wake or asyncio.Event()
        self.draining = False

    @property
    def key(self) -> tuple[str, int]:
        """Topic and partition."""
        return self._topic, self._partition

    @property
    def waiting(self) -> int:
        """Rows that are not known to be in the log."""
        return self._last - self._cursor

    @property
    def has_rows(self) -> bool:
        """Whether rows are at hand."""
        return bool(self._rows)

    @property
    def last(self) -> int:
        """The last row that the outbox has for this lane."""
        return self._last

    @property
    def next_sequence(self) -> int:
        """The row after the last one that is known to be in the log."""
        return self._cursor + 1

    @property
    def start(self) -> ScanFrom:
        """From where on the log has to be read to know what it holds."""
        offset, ce_id = self._verified
        return ScanFrom(offset, self._cursor, ce_id, max(self._last, self._highest))

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
        """Let the lane end once every row that was committed is in the log."""
        self.draining = True
        self._wake.set()

    # -- Rows to send ---------------------------------------------------------

    @property
    def _tail(self) -> int:
        return self._rows[-1].sequence if self._rows else self._cursor

    async def gather(self) -> bool:
        """Have rows at hand; False if there are none left and none will come."""
        while not self._rows:
            if self.waiting:
                await self.read()
            elif self.draining:
                return False
            else:
                # No deadline: a lane without rows has nothing to do.
                await self._wake.wait()
            self._wake.clear()
        return True

    async def read(self) -> None:
        """Have the next rows at hand, from the outbox if they aren't in memory."""
        if self._rows or not self.waiting:
            return
        rows = await answer(
            self._group.outbox.read(
                self._topic,
                self._partition,
                self._cursor,
                _ROWS_A_READ,
                2 * self.batch_bytes,
            )
        )
        if not rows:
            # Rows that the outbox counts and doesn't have: somebody else was at
            # the file. They are shown as waiting, by health too.
            await asyncio.sleep(_MISSING_PAUSE_SECONDS)
        # Those that were committed while this was asked may have come by themselves.
        rows = [row for row in rows if row.sequence > self._tail]
        self._rows += rows
        self._group.memory.force(rows)

    async def is_next(self, row: StoredRecord) -> bool:
        """
        Whether a row is the next one to be sent.

        It isn't once it was found in the log, or the log was cut before it.
        """
        await self.read()
        return (
            bool(self._rows)
            and self._rows[0].ce_id == row.ce_id
            and row.ce_id not in self.found
        )

    def offered(self, max_rows: int) -> list[StoredRecord]:
        """Give the next rows, up to the first one that the log holds already."""
        offered = list(islice(self._rows, max_rows))
        if self.found:
            for index, row in enumerate(offered):
                if row.ce_id in self.found:
                    offered = offered[:index]
                    break
        self.offered_sequence = offered[-1].sequence
        return offered

    def forget(self) -> None:
        """Leave the rows at hand to the outbox, which has them all."""
        self._group.memory.release(self._rows)
        self._rows.clear()

    # -- How far it has come --------------------------------------------------

    def advance(
        self,
        count: int,
        base_offset: int,
        size_bytes: int,
        connection: object | None = None,
    ) -> ScanFrom | None:
        """
        Note that the next rows stand in the log side by side.

        Args:
            count: How many rows.
            base_offset: The offset of the first.
            size_bytes: Bytes of their keys and values.
            connection: Over which the leader said so.

        Returns:
            From where on it must be verified that this is still the log that it was;
            None if there is no doubt: a log that only grows can't go back, and while
            a connection lasts its broker hasn't started again with an older copy of
            its files. The outbox hears of the rows when that is done: with them the
            next process would begin behind what the log has lost.
        """
        doubtful = self._resume_ce_id is not None and (
            base_offset <= self._resume_offset
            or (connection is not None and connection not in self._connections)
        )
        start = self.start if doubtful else None
        self._withheld = self._passed(count, base_offset, size_bytes)
        if not doubtful:
            self.verified(connection)
        return start

    def _passed(
        self, count: int, base_offset: int, size_bytes: int
    ) -> Callable[[], None]:
        """Go on behind the next rows; gives what tells the outbox."""
        rows = [self._rows.popleft() for _ in range(count)]
        self._group.memory.release(rows)
        self._cursor = rows[-1].sequence
        self._resume_offset = base_offset + count - 1
        self._resume_ce_id = rows[-1].ce_id
        self.offered_sequence = 0
        return partial(
            self._group.outbox.acknowledge,
            self._topic,
            self._partition,
            rows[0].sequence,
            self._cursor,
            base_offset,
            size_bytes,
            by_envelope(rows),
        )

    def verified(self, connection: object | None = None) -> None:
        """Note that the log still has what it acknowledged."""
        self._verified = (self._resume_offset, self._resume_ce_id)
        if self._withheld is not None:
            self._withheld()
            self._withheld = None
        if connection is not None:
            self._connections.add(connection)

    def skip_found(self) -> bool:
        """Acknowledge the rows ahead that the log holds already; tell if any were."""
        if not self.found:
            return False
        skipped = 0
        until, last_offset = self.trimmed
        while self._rows:
            row = self._rows[0]
            offset = self.found.pop(row.ce_id, None)
            if offset is None and row.sequence <= until:
                offset = last_offset
            if offset is None:
                break
            self._passed(1, offset, len(row.value))()
            self.verified()
            skipped += 1
        add(self._group.statistics.resumed, self._topic, skipped)
        return bool(skipped)

    def pass_over(self, sequence: int) -> None:
        """Note that the next row went elsewhere: it will never be in the log."""
        if self._rows:
            self._group.memory.release([self._rows.popleft()])
        self._cursor = sequence

    def rewind(self, sequence: int, resume_offset: int, resent: int) -> None:
        """Note that the log lost all rows after a sequence."""
        self.forget()
        self.found = {}
        self.trimmed, self.offered_sequence = (0, 0), 0
        self._withheld = None
        self.resent_sequence = max(self.resent_sequence, resent)
        self._cursor = sequence
        self._resume_offset = resume_offset
        self._resume_ce_id = None
        self.verified()
