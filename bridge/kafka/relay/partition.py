"""The rows of one partition on their way from the outbox into the log."""

from __future__ import annotations

import asyncio  # noqa: TID251 - the Kafka thread runs asyncio
from collections import deque
from collections.abc import Collection, Sequence
from itertools import islice

from bridge.events.record import StoredRecord
from bridge.kafka.relay.statistics import add
from bridge.outbox import Outbox
from bridge.outbox.values import PartitionState


__all__ = ["EpochEndedError", "Memory", "PartitionQueue"]

# One read of the outbox while a partition catches up: about 10 ms of SQLite.
_ROWS_A_READ = 2000

# A record batch's own header and each record's headers don't count into
# `max_batch_bytes`, but into what the broker takes: leave them room.
_BATCH_SHARE = 0.75

# A StoredRecord with its ce_id and tuples beside its value's own bytes.
_ROW_BYTES = 500

# Rows that all partitions together keep in memory; those without room are read from
# the outbox later.
_MEMORY_BYTES = 32 * 2**20


class EpochEndedError(Exception):
    """The log has to be looked at again, though nothing has failed."""


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
    """
    What waits for one partition, during one epoch.

    Args:
        outbox: Where the rows are.
        state: What it knows of the partition.
        found: Offset by ce_id of rows that the log has already.
        max_message_bytes: What the broker takes as one batch.
        max_batch_bytes: What the settings allow.
        memory: What all partitions share.
        wake: Set when there are rows.
        resumed: Counts rows that were found in the log, by topic.
        leader: The node of whose log this is known.

    Attributes:
        key: Topic and partition.
        cursor: The last row that is in the log, or passed over.
        last_offset: Where the last acknowledged row is in the log.
        resent_until: Rows up to it were in the log once, which lost them.
        batch_bytes: Keys and values of one batch.
    """

    def __init__(  # noqa: PLR0913, PLR0917 - what the outbox and the log know of it
        self,
        outbox: Outbox,
        state: PartitionState,
        found: dict[str, int],
        max_message_bytes: int,
        max_batch_bytes: int,
        memory: Memory,
        wake: asyncio.Event,
        resumed: dict[str, int],
        leader: int,
    ) -> None:
        self._outbox = outbox
        self._found = found
        self._memory = memory
        self._rows: deque[StoredRecord] = deque()
        # Whether the outbox has rows behind those in memory.
        self._is_behind = state.waiting > 0
        self._resumed = resumed
        self.wake = wake
        self.key = state.topic, state.partition
        self.cursor = state.acknowledged_sequence
        # Where no row is known to be there, it is where the next one may be.
        at = 0 if state.resume_offset is None else state.resume_offset
        self.last_offset = at if state.resume_ce_id is not None else at - 1
        self.resent_until = state.resent_sequence
        self.leader = leader
        share = int(max_message_bytes * _BATCH_SHARE)
        self.batch_bytes = min(max_batch_bytes, share)

    @property
    def is_empty(self) -> bool:
        """Whether no row waits."""
        return not (self._rows or self._is_behind)

    def committed(self, rows: Sequence[StoredRecord]) -> None:
        """Take rows that were just committed, in order."""
        if self._is_behind or self._memory.is_full:
            self._is_behind = True
        else:
            self._rows += rows
            self._memory.change(rows, 1)
        self.wake.set()

    def next_rows(self, max_rows: int) -> list[StoredRecord]:
        """
        Return the next rows to send; acknowledges those that the log has on the way.

        Raises:
            OutboxError: They can't be read.
        """
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
            add(self._resumed, self.key[0], 1)

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
        self.last_offset = base_offset + len(rows) - 1
        self._outbox.acknowledge(
            *self.key, rows[0].sequence, self.cursor, base_offset, size_bytes
        )

    def check(self, base_offset: int, leader: int | None) -> None:
        """
        Check that an acknowledgement comes from the log that was read.

        Args:
            base_offset: Where it says that the next rows are.
            leader: The node that leads the partition now; None if that isn't known.

        Raises:
            EpochEndedError: That log was truncated, or may have been.
        """
        if base_offset <= self.last_offset:
            raise EpochEndedError("a partition's log was truncated")
        if leader not in {None, self.leader}:
            # The new one may lack what the one before acknowledged. These rows are
            # found in its log.
            raise EpochEndedError("a partition's leader has changed")

    def close(self) -> None:
        """Leave the rows to the outbox, which has them all."""
        self._memory.change(self._rows, -1)
        self._rows.clear()
