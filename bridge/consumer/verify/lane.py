"""
One outbox's records in one partition: which sequences came, and in which order.

Every record takes an offset, so sequences that are missing where as many offsets
hold nothing were trimmed or compacted; where they don't, there is a hole.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from bridge.consumer.verify.missing import Gap, MissingSequences, without
from bridge.consumer.verify.report import Finding, Kind, LaneReport


__all__ = ["Lane"]

# Sequences that are missing may still come, late or sent again. Beyond so many
# gaps of a lane (1.5 MB) the oldest counts as a hole at once.
_MAX_GAPS = 10_000


class Lane:
    """
    What was seen of one lane.

    Args:
        outbox: The outbox's UUID.
        partition: The partition.
        origin: `bridge_origin` of its first record.
        refused: Sequences that dead letters account for, ascending.
        report: Takes findings.

    Attributes:
        high: The highest sequence seen.
        last_offset: Where the record stands that had it; -1 if there is none.
        absent: How many offsets below that one were not read or hold nothing.
        records: How many were counted in.
        waiting: As in `LaneReport`.
        end: As in `LaneReport`.
    """

    __slots__ = (
        "_compacted",
        "_first",
        "_gaps",
        "_is_whole",
        "_origin",
        "_refused",
        "_refused_count",
        "_report",
        "_resent",
        "_trimmed",
        "_unread",
        "absent",
        "end",
        "high",
        "last_offset",
        "outbox",
        "partition",
        "records",
        "waiting",
    )

    def __init__(
        self,
        outbox: str,
        partition: int,
        origin: str,
        refused: Sequence[int],
        report: Callable[[Finding], None],
    ) -> None:
        self.outbox = outbox
        self.partition = partition
        self._origin = origin
        self._refused = refused
        self._report = report
        self.high = 0
        self.last_offset = -1
        self.absent = 0
        self.records = 0
        self.waiting: int | None = None
        self.end = "unknown"
        self._first = 0
        self._is_whole = True
        self._gaps = MissingSequences()
        self._unread = self._trimmed = self._compacted = 0
        self._refused_count = self._resent = 0

    def pass_over(  # noqa: PLR0913 - what is known of the place
        self,
        last: int,
        *,
        offset: int,
        absent: int,
        start: int,
        log_start: int,
        gone_before: int,
    ) -> None:
        """
        Note that the sequences above the highest one, up to `last`, didn't come.

        Args:
            last: The last of them.
            offset: The record at which that shows.
            absent: How many offsets below it were not read or hold nothing.
            start: The offset at which reading began.
            log_start: The offset at which the log began then.
            gone_before: Records below this offset were deleted.
        """
        parts = without(self.high + 1, last, self._refused)
        missing = sum(stop - first + 1 for first, stop in parts)
        self._refused_count += last - self.high - missing
        explained = min(missing, absent - self.absent)
        if self.last_offset < 0 and start > log_start:
            self._unread += explained
        elif max(self.last_offset, 0) < gone_before:
            self._trimmed += explained
        else:
            self._compacted += explained
        if explained == missing:
            return
        for first, stop in parts:
            excused = min(explained, stop - first + 1)
            explained -= excused
            if len(self._gaps) >= _MAX_GAPS:
                self._tell(self._gaps.pop_oldest())
                self._is_whole = False
            self._gaps.append(Gap(first, stop, self.last_offset, offset, excused))

    def reach(self, sequence: int, offset: int, absent: int) -> None:
        """Note the record that is the highest now."""
        if not self._first:
            self._first = sequence
        self.high = sequence
        self.last_offset = offset
        self.absent = absent

    def step_back(
        self, sequence: int, offset: int, ce_id: bytes, *, is_new: bool | None
    ) -> None:
        """
        Judge an unmarked record that has no higher sequence than one before it.

        Args:
            sequence: Its sequence.
            offset: Where it stands.
            ce_id: Its identity.
            is_new: Whether no record before it had that; None if unknown.
        """
        is_late = self._gaps.fill(sequence)
        if is_late:
            kind = Kind.REORDERED
        elif not is_new:
            kind = Kind.DUPLICATE
        elif self._is_dense:
            # Every sequence up to the highest came, or it was refused.
            kind = Kind.CONFLICT
        else:
            kind = Kind.REORDERED
        self._report(
            Finding(
                kind=kind,
                partition=self.partition,
                offset=offset,
                outbox=self.outbox,
                first_sequence=sequence,
                last_sequence=sequence,
                ce_id=ce_id.decode(errors="replace"),
            )
        )

    @property
    def has_gaps(self) -> bool:
        """Whether sequences are missing that no place in the log explains."""
        return len(self._gaps) > 0

    @property
    def _is_dense(self) -> bool:
        """Whether every sequence up to the highest is known to have come, or not."""
        explained = self._unread or self._trimmed or self._compacted
        return self._is_whole and not explained

    def resend(self, sequence: int) -> None:
        """Note a record that says of itself that it was sent again."""
        self._resent += 1
        if sequence <= self.high:
            self._gaps.fill(sequence)

    def conclude(self, refused: Sequence[int]) -> None:
        """
        Say what is missing, now that nothing more comes.

        Args:
            refused: Sequences that dead letters account for by now, ascending.
        """
        for gap in self._gaps:
            excused = gap.excused
            parts = without(gap.first, gap.last, refused)
            missing = sum(last - first + 1 for first, last in parts)
            self._refused_count += gap.last - gap.first + 1 - missing
            for first, last in parts:
                share = min(excused, last - first + 1)
                excused -= share
                self._tell(Gap(first, last, gap.after_offset, gap.offset, share))
        self._gaps = MissingSequences()

    def _tell(self, gap: Gap, kind: Kind = Kind.HOLE) -> None:
        if gap.count:
            self._report(
                Finding(
                    kind=kind,
                    partition=self.partition,
                    offset=gap.offset,
                    outbox=self.outbox,
                    first_sequence=gap.first,
                    last_sequence=gap.last,
                    count=gap.count,
                    after_offset=gap.after_offset if gap.after_offset >= 0 else None,
                )
            )

    def conclude_end(self) -> None:
        """
        Say what the outbox holds for delivered, but the topic hasn't.

        `pass_over` was told of the sequences that it holds for delivered.
        """
        self.end = "proven"
        kept = MissingSequences()
        for gap in self._gaps:
            if gap.last > self.high:
                self._tell(gap, Kind.MISSING_END)
                self.end = "missing"
            else:
                kept.append(gap)
        self._gaps = kept

    def report(self) -> LaneReport:
        """Give what was counted."""
        return LaneReport(
            outbox=self.outbox,
            partition=self.partition,
            origin=self._origin,
            records=self.records,
            first_sequence=self._first,
            last_sequence=self.high,
            unread=self._unread,
            trimmed=self._trimmed,
            compacted=self._compacted,
            refused=self._refused_count,
            resent=self._resent,
            waiting=self.waiting,
            end=self.end,
        )
