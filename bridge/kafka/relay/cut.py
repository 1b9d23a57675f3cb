"""
A log that lost its tail: which acknowledged rows aren't in it any more.

An unclean election or a broker whose data directory was put back to an older copy
takes records away that were acknowledged. Retention, DeleteRecords and compaction
take records away too, and those were delivered: only what a log must still have,
and hasn't, counts as lost.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Mapping
from contextlib import aclosing

import msgspec

from bridge.kafka.asking import answer
from bridge.kafka.headers import own_identity
from bridge.kafka.relay.log import Bounds, Log
from bridge.kafka.relay.ports import OutboxPort
from bridge.outbox.records import Delivered


__all__ = ["Lost", "first_missing"]

# Acknowledged rows are read from the outbox in portions of about 1 MB of memory.
_ROWS_A_READ = 5000


class Lost(msgspec.Struct, frozen=True):
    """
    What a log that was cut doesn't have any more.

    Attributes:
        sequence: The first row that it lost; all after it are lost too.
        offset: From where on rows may stand that were written since: behind the
            last one that is confirmed. Where none of those kept is, where the first
            one stood: the log may have been cut even before that.
    """

    sequence: int
    offset: int


async def first_missing(
    log: Log, outbox: OutboxPort, topic: str, partition: int, bounds: Bounds
) -> Lost | None:
    """
    Compare a lane's acknowledged rows with the log, in order.

    Args:
        log: The topic's log.
        outbox: Where acknowledged rows are kept, for a while.
        topic: The lane's topic.
        partition: The lane's partition.
        bounds: Where the log begins and ends.

    Returns:
        What the log lost; None if it has lost none of the rows that are kept.

    Raises:
        BridgeError: As `open_log` says.
    """
    rows = _Rows(outbox, topic, partition, bounds.begin_offset)
    await rows.advance()
    if rows.current is None:
        return None
    own = outbox.id.encode()
    first = {partition: rows.current.offset}
    shown = await _shown(log, first, {partition: bounds})
    # What others wrote over lost records overwrote them, aborted or not.
    reading = log.records(first, {partition: bounds}, aborted=True)
    async with aclosing(reading) as portions:
        async for _, records in portions:
            for record in records:
                row = await rows.pass_before(record.offset)
                if row is None:
                    continue
                identity = own_identity(record.headers, own)
                if row.offset != record.offset:
                    rows.note(0 if identity is None else identity[1])
                    continue
                is_row = identity is not None and identity[0] == row.ce_id
                # A transaction that hung may be aborted after its acknowledgement.
                if not is_row or record.offset not in shown:
                    return rows.lost(row)
                rows.confirm()
                await rows.advance()
    row = await rows.pass_before(bounds.end_offset) or rows.overtaken
    return None if row is None else rows.lost(row)


async def _shown(
    log: Log, firsts: Mapping[int, int], ends: Mapping[int, Bounds]
) -> _Offsets:
    """Read a partition as a consumer of committed records does."""
    offsets = _Offsets()
    async with aclosing(log.records(firsts, ends)) as portions:
        async for _, records in portions:
            for record in records:
                offsets.add(record.offset)
    return offsets


class _Offsets:
    """Offsets, added in order: runs of them, since there may be millions."""

    def __init__(self) -> None:
        self._begins: list[int] = []
        self._behinds: list[int] = []

    def add(self, offset: int) -> None:
        """Add one behind those that are there."""
        if self._behinds and self._behinds[-1] == offset:
            self._behinds[-1] += 1
        else:
            self._begins.append(offset)
            self._behinds.append(offset + 1)

    def __contains__(self, offset: int) -> bool:
        index = bisect_right(self._begins, offset) - 1
        return index >= 0 and offset < self._behinds[index]


class _Rows:
    """
    A lane's acknowledged rows, one after the other.

    Attributes:
        current: The row that is looked at; None after the last.
    """

    def __init__(
        self, outbox: OutboxPort, topic: str, partition: int, begin_offset: int
    ) -> None:
        self._outbox = outbox
        self._lane = (topic, partition)
        self._begin_offset = begin_offset
        self._rows: deque[Delivered] = deque()
        self._after = 0
        self._ended = False
        # The first of the rows just before at whose offsets nothing is: compacted
        # away, or lost where something that readers don't see (the marker of a
        # transaction's end) stands now. What comes after them tells.
        self._doubtful: Delivered | None = None
        self._confirmed_offset: int | None = None
        # The highest sequence that stands before the place of a row behind the last
        # one that is confirmed.
        self._highest = 0
        self.current: Delivered | None = None

    async def advance(self) -> None:
        """Go to the next row."""
        if not self._rows and not self._ended:
            read = await answer(
                self._outbox.delivered(*self._lane, self._after, _ROWS_A_READ)
            )
            self._rows.extend(read)
            if read:
                self._after = read[-1].sequence
            self._ended = len(read) < _ROWS_A_READ
        self.current = self._rows.popleft() if self._rows else None

    async def pass_before(self, offset: int) -> Delivered | None:
        """Go to the first row at an offset or after it; nothing is at the others'."""
        while self.current is not None and self.current.offset < offset:
            # What retention took was delivered.
            if self.current.offset >= self._begin_offset and self._doubtful is None:
                self._doubtful = self.current
            await self.advance()
        return self.current

    def note(self, sequence: int) -> None:
        """Note a record of this outbox before the current row's place."""
        self._highest = max(self._highest, sequence)

    @property
    def overtaken(self) -> Delivered | None:
        """
        Give the first row that is lost though nothing tells by its place; at the end.

        Rows are written in order: a later one that stands before it was written when
        it was gone. What was compacted away leaves later ones behind it.
        """
        return self._doubtful if self._highest > self._after else None

    def confirm(self) -> None:
        """Note that the log has the current row, so that it lost none before."""
        assert self.current is not None
        self._confirmed_offset = self.current.offset
        self._doubtful = None
        self._highest = 0

    def lost(self, row: Delivered) -> Lost:
        """Tell what is lost with a row that is."""
        first = row if self._doubtful is None else self._doubtful
        before = self._confirmed_offset
        return Lost(first.sequence, first.offset if before is None else before + 1)
