"""
One partition: what the end of its log shows, and the rows that are sent to it.

Only the log shows what was written. An unclean election, or a broker restored from an
older copy, removes acknowledged records. Retention, DeleteRecords and compaction remove
records that were delivered.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Collection, Mapping, Sequence
from itertools import islice

import msgspec
import structlog

from bridge.events.record import StoredRecord
from bridge.kafka.headers import own_identity
from bridge.kafka.log import Bounds, Log
from bridge.outbox import Outbox
from bridge.outbox.values import PartitionState


__all__ = [
    "EpochEndedError",
    "Memory",
    "PartitionQueue",
    "Tail",
    "read_tails",
    "rewind",
]

_log = structlog.get_logger("bridge.kafka")

# Acknowledged rows are read from the outbox in portions of about 1 MB of memory.
_DELIVERED_A_READ = 5000

# One read of the outbox while a partition catches up: about 10 ms of SQLite.
_ROWS_A_READ = 2000

# A StoredRecord with its ce_id and tuples beside its value's own bytes.
_ROW_BYTES = 500

# Rows that all partitions together keep in memory; those beyond that are read from
# the outbox later.
_MEMORY_BYTES = 32 * 2**20


class EpochEndedError(Exception):
    """The log has to be looked at again, though nothing has failed."""


class Tail(msgspec.Struct):
    """What a partition's log shows from the last acknowledged record on."""

    bounds: Bounds
    # Whose record is at the offset from which was read: "" for a foreign one, None for
    # none.
    first_ce_id: str | None = None
    # The highest sequence of this outbox.
    last_sequence: int = 0
    # Offset by `ce_id` of this outbox's records that weren't known to be there.
    found: dict[str, int] = msgspec.field(default_factory=dict)

    def confirms(self, state: PartitionState, *, is_compacted: bool) -> bool:
        """
        Whether the log still has the record that was acknowledged last.

        Retention may have taken it, and compaction where later records are behind it.
        """
        offset = state.resume_offset
        if offset is None or offset < self.bounds.begin_offset:
            return True
        if state.resume_ce_id is None:
            # That row was deleted, or the log is new: it must reach so far.
            return offset <= self.bounds.end_offset
        if self.first_ce_id is None and is_compacted:
            return offset + 1 < self.bounds.end_offset
        return self.first_ce_id == state.resume_ce_id


async def read_tails(
    log: Log, outbox_id: str, states: Mapping[int, PartitionState]
) -> dict[int, Tail]:
    """Read partitions from their last acknowledged record to their present ends."""
    bounds = await log.bounds(states)
    tails = {number: Tail(found) for number, found in bounds.items()}
    own = outbox_id.encode()
    firsts = {
        number: state.resume_offset
        for number, state in states.items()
        if state.resume_offset is not None
    }
    async for number, records in log.records(firsts, bounds):
        tail, state = tails[number], states[number]
        for record in records:
            identity = own_identity(record.headers, own)
            if record.offset == state.resume_offset:
                tail.first_ce_id = "" if identity is None else identity[0]
            if identity is None:
                continue
            ce_id, sequence = identity
            tail.last_sequence = max(tail.last_sequence, sequence)
            # Of an outbox that was put back to an old copy the log may have millions
            # more.
            if state.acknowledged_sequence < sequence <= state.last_sequence:
                tail.found[ce_id] = record.offset
    return tails


async def rewind(log: Log, outbox: Outbox, state: PartitionState, tail: Tail) -> Tail:
    """Have rows sent again that a truncated log lost; gives what counts as there."""
    topic, number, end = state.topic, state.partition, tail.bounds.end_offset
    confirmed, highest = await _last_confirmed(log, outbox, state, tail.bounds)
    if confirmed is None or confirmed >= state.acknowledged_sequence:
        # What was lost is no longer kept. What the log has is not sent again, nor is it
        # skipped by the next epoch. Of a log that was truncated twice, it may have
        # rows that the tail doesn't show: they come again, marked.
        confirmed, last, left = state.acknowledged_sequence, highest, tail
        resume = min(tail.found.values(), default=end)
    else:
        # Rows that were written where lost ones were, before that was noticed, are sent
        # again as well, in order and marked.
        last = max(state.acknowledged_sequence, tail.last_sequence, highest)
        left, resume = Tail(tail.bounds), end
    waiting = outbox.rewind(topic, number, confirmed, resume, last)
    _log.error(
        "partition.log_truncated",
        topic=topic,
        partition=number,
        log_end=end,
        acknowledged_offset=state.resume_offset,
        sent_again=waiting,
        first_sequence=confirmed + 1,
        last_sequence=max(state.acknowledged_sequence, last),
    )
    return left


async def _last_confirmed(
    log: Log, outbox: Outbox, state: PartitionState, bounds: Bounds
) -> tuple[int | None, int]:
    """
    Compare the acknowledged rows that are kept with the log.

    Gives the last that the log has in its place or retention took, the one before the
    first if it has none, None if none is kept; and the highest sequence found.
    """
    key = state.topic, state.partition
    kept = outbox.delivered(*key, 0, 1)
    if not kept:
        return None, 0
    confirmed, highest = kept[0].sequence - 1, 0
    shown: dict[int, str] = {}
    own = outbox.id.encode()
    firsts, ends = {key[1]: kept[0].offset}, {key[1]: bounds}
    # As a consumer of committed records: of an aborted transaction nothing counts.
    async for _, records in log.records(firsts, ends):
        for record in records:
            identity = own_identity(record.headers, own)
            if identity is not None:
                shown[record.offset] = identity[0]
                highest = max(highest, identity[1])
    after = confirmed
    while rows := outbox.delivered(*key, after, _DELIVERED_A_READ):
        after = rows[-1].sequence
        for row in rows:
            is_gone = row.offset < bounds.begin_offset
            if is_gone or shown.get(row.offset) == row.ce_id:
                confirmed = row.sequence
    return confirmed, highest


class Memory:
    """What all partitions keep in memory together, in bytes."""

    def __init__(self) -> None:
        self._used = 0

    @property
    def is_full(self) -> bool:
        """Whether rows have to stay on disk for now."""
        return self._used > _MEMORY_BYTES

    def change(self, rows: Collection[StoredRecord], sign: int) -> None:
        """Count rows that come (1) or go (-1)."""
        size = sum([len(row.value) for row in rows]) + _ROW_BYTES * len(rows)
        self._used += sign * size


class PartitionQueue:
    """What waits for one partition, during one epoch."""

    def __init__(  # noqa: PLR0913, PLR0917 - what the outbox and the log know of it
        self,
        outbox: Outbox,
        state: PartitionState,
        found: dict[str, int],
        batch_bytes: int,
        memory: Memory,
        resumed: Counter[str],
        leader: int,
    ) -> None:
        self._outbox = outbox
        # Offset by ce_id of rows that the log has already; and counts those, by topic.
        self._found = found
        self._resumed = resumed
        self._memory = memory
        self._rows: deque[StoredRecord] = deque()
        # Whether the outbox has rows behind those in memory.
        self._is_behind = state.waiting > 0
        # The node of whose log this is known.
        self._leader = leader
        self.key = state.topic, state.partition
        self.batch_bytes = batch_bytes
        # Set when there are rows.
        self.wake = asyncio.Event()
        # The last row that is in the log, or skipped.
        self.cursor = state.acknowledged_sequence
        # Where the last acknowledged row is in the log. Where none is known to be
        # there, it is before where the next one may be.
        at = 0 if state.resume_offset is None else state.resume_offset
        self._last_offset = at if state.resume_ce_id is not None else at - 1
        # Rows up to it were in the log once, which lost them.
        self.resent_until = state.resent_sequence

    def committed(self, rows: Sequence[StoredRecord]) -> None:
        """Take rows that were just committed, in order."""
        if self._is_behind or self._memory.is_full:
            self._is_behind = True
        else:
            self._rows += rows
            self._memory.change(rows, 1)
        self.wake.set()

    def next_rows(self, max_rows: int) -> list[StoredRecord]:
        """Return the next rows to send; acknowledges those found in the log."""
        while True:
            if not self._rows and self._is_behind:
                self._read()
            if not self._rows:
                return []
            row = self._rows[0]
            offset = self._found.pop(row.ce_id, None)
            if offset is None:
                # None behind it was found either: see `Rows.open_partition`.
                return list(islice(self._rows, max_rows))
            self.acknowledge([row], offset, len(row.value))
            self._resumed[self.key[0]] += 1

    def _read(self) -> None:
        rows = self._outbox.read(
            *self.key, self.cursor, _ROWS_A_READ, 2 * self.batch_bytes
        )
        self._rows += rows
        self._memory.change(rows, 1)
        # The one after the last may come by itself from now on.
        self._is_behind = bool(rows)

    def acknowledge(
        self, rows: Sequence[StoredRecord], base_offset: int, size_bytes: int
    ) -> None:
        """Note that the next rows are in the log side by side."""
        for _ in rows:
            self._rows.popleft()
        self._memory.change(rows, -1)
        self.cursor = rows[-1].sequence
        self._last_offset = base_offset + len(rows) - 1
        self._outbox.acknowledge(
            *self.key, rows[0].sequence, self.cursor, base_offset, size_bytes
        )

    def check(self, base_offset: int, leader: int | None) -> None:
        """Raise if an acknowledgement, from that offset on, isn't of the log read."""
        if base_offset <= self._last_offset:
            raise EpochEndedError("a partition's log was truncated")
        if leader not in {None, self._leader}:
            # The new one may lack what the one before acknowledged. These rows are
            # found in its log.
            raise EpochEndedError("a partition's leader has changed")

    def close(self) -> None:
        """Leave the rows to the outbox, which has them all."""
        self._memory.change(self._rows, -1)
        self._rows.clear()
