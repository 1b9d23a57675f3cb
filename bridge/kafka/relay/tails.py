"""
What the end of a partition's log shows, and what a log that was truncated lost.

The log is the truth about what was written. Only identities are looked at. An unclean
election, or a broker whose files were put back to an older copy, takes acknowledged
records away; retention, DeleteRecords and compaction take some away that were
delivered.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
from aiokafka import ConsumerRecord  # noqa: TID251 - the Kafka thread reads

from bridge.kafka.headers import own_identity
from bridge.kafka.log import Bounds, Log
from bridge.outbox import Outbox
from bridge.outbox.values import PartitionState


__all__ = ["Tail", "last_confirmed", "scan"]

# Acknowledged rows are read from the outbox in portions of about 1 MB of memory.
_ROWS_A_READ = 5000


class Tail(msgspec.Struct):
    """
    What a partition's end shows, from the last acknowledged record on.

    Attributes:
        bounds: Where the log begins and ends.
        first_ce_id: Whose record is at the offset from which was read: "" for a foreign
            one, None for none.
        last_sequence: The highest sequence of this outbox.
        found: Offset by `ce_id` of this outbox's records that weren't known to be
            there.
    """

    bounds: Bounds
    first_ce_id: str | None = None
    last_sequence: int = 0
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


async def scan(
    log: Log, outbox_id: str, states: Mapping[int, PartitionState]
) -> dict[int, Tail]:
    """
    Read partitions from their last acknowledged record to their present ends.

    Args:
        log: The topic's log.
        outbox_id: Whose records are looked for.
        states: What the outbox knows of each partition.

    Raises:
        BridgeError: As `open_log` says.
    """
    bounds = await log.bounds(states)
    tails = {number: Tail(found) for number, found in bounds.items()}
    own = outbox_id.encode()
    firsts = {
        number: state.resume_offset
        for number, state in states.items()
        if state.resume_offset is not None
    }
    async for number, records in log.records(firsts, bounds):
        for record in records:
            _note(tails[number], states[number], record, own)
    return tails


def _note(
    tail: Tail, state: PartitionState, record: ConsumerRecord, own: bytes
) -> None:
    identity = own_identity(record.headers, own)
    if record.offset == state.resume_offset:
        tail.first_ce_id = "" if identity is None else identity[0]
    if identity is None:
        return
    ce_id, sequence = identity
    tail.last_sequence = max(tail.last_sequence, sequence)
    # Of an outbox that was put back to an old copy the log may have millions more.
    if state.acknowledged_sequence < sequence <= state.last_sequence:
        tail.found[ce_id] = record.offset


async def last_confirmed(
    log: Log, outbox: Outbox, topic: str, number: int, bounds: Bounds
) -> tuple[int | None, int]:
    """
    Compare the acknowledged rows that are kept with the log.

    Args:
        log: The topic's log.
        outbox: Where they are kept.
        topic: The topic.
        number: The partition.
        bounds: Where the log begins and ends.

    Returns:
        The last of them that the log has where it was acknowledged, or that retention
        took; the one before the first if it has none; None if none is kept. And the
        highest sequence of this outbox that was found.

    Raises:
        BridgeError: As `open_log` says.
    """
    kept = outbox.delivered(topic, number, 0, 1)
    if not kept:
        return None, 0
    confirmed, highest = kept[0].sequence - 1, 0
    shown: dict[int, str] = {}
    own = outbox.id.encode()
    # As a consumer of committed records: of an aborted transaction nothing counts.
    async for _, records in log.records({number: kept[0].offset}, {number: bounds}):
        for record in records:
            identity = own_identity(record.headers, own)
            if identity is not None:
                shown[record.offset] = identity[0]
                highest = max(highest, identity[1])
    after = confirmed
    while rows := outbox.delivered(topic, number, after, _ROWS_A_READ):
        after = rows[-1].sequence
        for row in rows:
            is_gone = row.offset < bounds.begin_offset
            if is_gone or shown.get(row.offset) == row.ce_id:
                confirmed = row.sequence
    return confirmed, highest
