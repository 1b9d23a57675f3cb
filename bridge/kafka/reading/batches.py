"""
From the bytes of a fetch to a partition's records, for readers of every offset.

A proof must know of each offset whether a record stood there, so compaction's
holes, transaction markers and aborted records are told apart here. It speaks to
aiokafka's parsers alone: no connection, no clock.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, TypeAlias

from aiokafka.record.control_record import (  # noqa: TID251 - this room's library
    ABORT_MARKER,
    ControlRecord,
)
from aiokafka.record.memory_records import (  # noqa: TID251 - as above
    MemoryRecords,
)


__all__ = ["CorruptBatchError", "PartitionDecoder", "ScannedRecord"]

# (offset, absent, key, headers): absent is how many of the offsets below this one
# were not read or hold nothing. A tuple: a struct of a record takes four times as
# long to make.
ScannedRecord: TypeAlias = tuple[int, int, bytes | None, dict[str, bytes | None]]

# (producer id, first offset of its transaction)
Aborted: TypeAlias = tuple[int, int]

# (first offset, offset behind, the batch or None where nobody gets its records)
_Stretch: TypeAlias = tuple[int, int, Any]


class CorruptBatchError(Exception):
    """
    A batch's checksum is wrong: what it holds can't be known.

    Attributes:
        offset: Its first offset.
    """

    def __init__(self, offset: int) -> None:
        super().__init__(f"the record batch at offset {offset} has a wrong checksum")
        self.offset = offset


class PartitionDecoder:
    """
    One partition on its way from its start to its end.

    What a fetch brought is looked through at once, so that the next one can begin,
    and its records are made one by one when they are taken: thousands at a time
    would double what each costs. They are taken whole, and in the fetches' order.

    Args:
        start: The first offset to read.
        end: The offset behind the last one.
        committed_only: Whether records of aborted transactions are passed over.

    Attributes:
        position: The next offset to ask for.
        absent: How many offsets below what was taken were not read or hold nothing.
        end: As given.
    """

    def __init__(self, start: int, end: int, *, committed_only: bool) -> None:
        self.position = start
        self.absent = start
        self.end = end
        self._taken = start
        self._committed_only = committed_only
        self._aborted_producers: set[int] = set()

    @property
    def is_done(self) -> bool:
        """Whether everything up to the end was fetched."""
        return self.position >= self.end

    def skip_to(self, offset: int) -> Iterator[ScannedRecord]:
        """Go on at a later offset: what lies before it is gone."""
        self.position = min(offset, self.end)
        return self._records([(self.position, self.position, None)])

    def decode(
        self, data: bytes, aborted: Iterable[Aborted]
    ) -> Iterator[ScannedRecord]:
        """
        Look through what a fetch from `position` brought.

        Args:
            data: Record batches; the last one may be cut off.
            aborted: Transactions that were aborted, from the same answer.

        Returns:
            The records before the end, in order.

        Raises:
            CorruptBatchError: A checksum is wrong.
        """
        stretches: list[_Stretch] = []
        upcoming = sorted(aborted, key=lambda one: one[1], reverse=True)
        batches = MemoryRecords(data)
        while batches.has_next() and self.position < self.end:
            batch = batches.next_batch()
            if not batch.validate_crc():
                raise CorruptBatchError(batch.base_offset)
            behind = batch.next_offset
            if behind <= self.position:
                continue
            # A batch may hold a single record: what few batches need comes last.
            special = batch.is_transactional or batch.is_control_batch
            holds = not special or self._holds_records(batch, upcoming)
            first = max(batch.base_offset, self.position)
            self.position = min(behind, self.end)
            stretches.append(
                (min(first, self.end), self.position, batch if holds else None)
            )
        return self._records(stretches)

    def _holds_records(self, batch: Any, upcoming: list[Aborted]) -> bool:
        """Tell whether a batch has records that a reader gets."""
        producer = batch.producer_id
        if self._committed_only and producer is not None:
            while upcoming and upcoming[-1][1] <= batch.base_offset:
                self._aborted_producers.add(upcoming.pop()[0])
            if batch.is_control_batch:
                if _is_abort(batch):
                    self._aborted_producers.discard(producer)
                return False
            if batch.is_transactional and producer in self._aborted_producers:
                return False
        return not batch.is_control_batch

    def _records(self, stretches: Iterable[_Stretch]) -> Iterator[ScannedRecord]:
        """Make the records, and count the offsets that hold nothing."""
        end = self.end
        for first, behind, batch in stretches:
            absent = self.absent + first - self._taken
            position = first
            for record in batch or ():
                offset = record.offset
                if offset != position:
                    if offset < position:
                        continue
                    absent += min(offset, end) - position
                    position = min(offset, end)
                if offset >= end:
                    break
                yield offset, absent, record.key, dict(record.headers)
                position = offset + 1
            # Aborted records and markers are there, though nobody gets them.
            self.absent = absent if batch is None else absent + behind - position
            self._taken = behind


def _is_abort(batch: Any) -> bool:
    """Tell whether a transaction's marker says that it was aborted."""
    for record in batch:
        return bool(ControlRecord.parse(record.key) == ABORT_MARKER)
    return False
