"""
What the end of a partition's log shows to a lane that resumes.

The log is the truth about what was written. Only identities are looked at; values
are left alone.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
from aiokafka import (  # noqa: TID251 - this room speaks to aiokafka
    ConsumerRecord,
)

from bridge.kafka.headers import own_identity
from bridge.kafka.log import Log


__all__ = ["LogTail", "ScanFrom", "scan"]


class ScanFrom(msgspec.Struct, frozen=True):
    """
    Where to read a partition from.

    Attributes:
        offset: The first offset that may hold a record of this outbox that
            isn't known to be there; None reads the end offset alone.
        acknowledged_sequence: Records up to it are known to be there.
        ce_id: Whose record was acknowledged at that offset; None if that isn't
            known any more.
        last_sequence: The last record that is looked for; None for no end. Of an
            outbox that was put back to an old copy the log may hold millions more.
        placed_sequence: The last sequence that a row of the outbox has: records
            after it are told with theirs. None where nobody asks for that.
    """

    offset: int | None
    acknowledged_sequence: int
    ce_id: str | None = None
    last_sequence: int | None = None
    placed_sequence: int | None = None


class LogTail(msgspec.Struct):
    """
    What a partition's end shows.

    Attributes:
        begin_offset: The first offset that retention has left.
        end_offset: The offset that the next record will get.
        last_sequence: The highest sequence of this outbox that was seen.
        offsets: Offset by `ce_id` of this outbox's records that weren't known
            to be there.
        first_ce_id: Whose record stands at the offset from which was read: ""
            for somebody else's, None for none at all.
        first_sequence: The first sequence of those in `offsets`; 0 if there are none.
        highest_sequence: The highest sequence of those.
        unplaced: Sequence by `ce_id` of those in `offsets` that can only belong to
            rows without a lane, in a copy made before they got one.
    """

    begin_offset: int
    end_offset: int
    last_sequence: int = 0
    offsets: dict[str, int] = msgspec.field(default_factory=dict)
    first_ce_id: str | None = None
    first_sequence: int = 0
    highest_sequence: int = 0
    unplaced: dict[str, int] = msgspec.field(default_factory=dict)

    def confirms(self, start: ScanFrom) -> bool:
        """
        Whether the log shows the record that was acknowledged last.

        Retention may have taken it. Where nothing is at its offset it may have been
        compacted away; only a look at more records can tell.
        """
        if start.offset is None or start.offset < self.begin_offset:
            return True
        return start.ce_id is not None and self.first_ce_id == start.ce_id

    def contradicts(self, start: ScanFrom) -> bool:
        """
        Whether the log has lost its tail for certain.

        It ends too early, or another record stands where the acknowledged one did.
        """
        if self.confirms(start) or start.offset is None:
            return False
        if start.ce_id is None:
            return self.end_offset < start.offset
        return self.end_offset <= start.offset or self.first_ce_id is not None


async def scan(
    log: Log, outbox_id: str, starts: Mapping[int, ScanFrom]
) -> dict[int, LogTail]:
    """
    Read partitions from given offsets to their present ends.

    Args:
        log: The topic's log.
        outbox_id: Whose records are looked for.
        starts: Where to begin, by partition.

    Raises:
        BridgeError: As `open_log` says.
    """
    bounds = await log.bounds(starts)
    tails = {
        number: LogTail(found.begin_offset, found.end_offset)
        for number, found in bounds.items()
    }
    firsts = {
        number: start.offset
        for number, start in starts.items()
        if start.offset is not None
    }
    own = outbox_id.encode()
    async for partition, records in log.records(firsts, bounds):
        _note(tails[partition], starts[partition], own, records)
    return tails


def _note(
    tail: LogTail, start: ScanFrom, own: bytes, records: list[ConsumerRecord]
) -> None:
    for record in records:
        identity = own_identity(record.headers, own)
        if record.offset == start.offset:
            tail.first_ce_id = "" if identity is None else identity[0]
        if identity is None:
            continue
        ce_id, sequence = identity
        tail.last_sequence = max(tail.last_sequence, sequence)
        until = start.last_sequence
        if sequence > start.acknowledged_sequence and (
            until is None or sequence <= until
        ):
            tail.offsets[ce_id] = record.offset
            tail.first_sequence = tail.first_sequence or sequence
            tail.highest_sequence = max(tail.highest_sequence, sequence)
            placed = start.placed_sequence
            if placed is not None and sequence > placed:
                tail.unplaced[ce_id] = sequence
