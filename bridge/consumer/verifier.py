"""
The core of `bridge verify`: reads headers in the order of the log, finds what is wrong.

It does no I/O, reads no clock, and its memory doesn't grow with the topic: of an outbox
it keeps the highest sequence and what is missing below it, of an event one bit.

Every record takes an offset. So where sequences are missing and as many offsets are
empty, they were trimmed or compacted; where they aren't empty, there is a hole.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from enum import StrEnum

import msgspec

from bridge.events import header_names as names
from bridge.kafka.scan import Extent, ScannedRecord
from bridge.outbox.partitioner import murmur2
from bridge.outbox.survey import SurveyedPartition


__all__ = [
    "Issue",
    "Kind",
    "OutboxReport",
    "PartitionReport",
    "RefusedSequences",
    "Verifier",
]

# Named issues of each kind, more than a screen holds; the others are counted.
_MAX_NAMED = 100
# A bridge has one outbox and a replay one. Beyond that headers are made up, and each
# outbox would take half a kilobyte.
_MAX_OUTBOXES = 100_000
# Sequences that are missing may still come, late or sent again. Beyond so many runs of
# them in an outbox (1.5 MB) the oldest counts as a hole at once.
_MAX_MISSING = 10_000
# A key comes back with each event of its job; these take 6 MB.
_MAX_KEYS = 65_536
# The outbox gives no higher one; a made-up one must not count as 10^30 holes.
_MAX_SEQUENCE = (1 << 40) - 1
_MAX_OUTBOX_BYTES = 64

# Names of this module's own: looking each up in another one costs a tenth of it all.
_OUTBOX, _SEQUENCE, _CE_ID = names.BRIDGE_OUTBOX, names.BRIDGE_SEQUENCE, names.CE_ID
_ANOMALY = names.BRIDGE_ANOMALY
_RESENT = b"resent"


class Kind(StrEnum):
    """What can be wrong with a topic."""

    HOLE = "hole"
    DUPLICATE = "duplicate"
    REORDERED = "reordered"
    CONFLICT = "conflict"
    REPEATED_ID = "repeated_id"
    UNREADABLE = "unreadable"
    MISSING_END = "missing_end"


class Issue(msgspec.Struct, frozen=True):
    """One thing that is wrong."""

    kind: Kind
    partition: int
    # The record that shows it; for a missing end, the log's end.
    offset: int
    outbox: str
    # The sequences concerned, None if they can't be read. They may be fewer than from
    # first to last where some may have been compacted away.
    first_sequence: int | None
    last_sequence: int | None
    count: int = 1
    # For a hole, the outbox's record before it; None if there is none.
    after_offset: int | None = None
    # The record's, None for a hole.
    ce_id: str | None = None


class OutboxReport(msgspec.Struct):
    """One outbox's records in one partition."""

    outbox: str
    partition: int
    origin: str  # of its first record
    records: int = 0
    first_sequence: int = 0  # that was read; 0 if none was
    last_sequence: int = 0  # the highest; the topic can't show what should follow it
    # Sequences without a record: before the chosen start, taken by retention or
    # DeleteRecords, taken by compaction, refused by the broker as a dead letter says.
    unread: int = 0
    trimmed: int = 0
    compacted: int = 0
    refused: int = 0
    resent: int = 0  # records marked as sent again after the log was truncated
    waiting: int | None = None  # rows that wait for Kafka; None if it wasn't asked
    # `unknown`, `proven`, `missing`, or `unstable` where an open transaction hides it.
    end: str = "unknown"


class PartitionReport(msgspec.Struct):
    """One partition, as far as it was read."""

    partition: int
    # As in `Extent`.
    log_start: int
    start: int
    end: int
    log_end: int
    records: int = 0
    foreign: int = 0  # no bridge wrote them
    wrong_partition: int = 0  # their key's is another one


class _Missing(msgspec.Struct, frozen=True):
    """Adjacent sequences that no record had so far."""

    first: int
    last: int
    after_offset: int  # of the outbox's record before them; -1 if there is none
    offset: int  # of the record at which they were missed
    excused: int = 0  # how many compaction or retention may have taken

    @property
    def size(self) -> int:
        """How many they are."""
        return self.last - self.first + 1

    def without(self, taken: Sequence[int]) -> list[_Missing]:
        """Leave out sequences, ascending; they may reach beyond."""
        first, excused, parts = self.first, self.excused, []
        within = taken[bisect_left(taken, first) : bisect_right(taken, self.last)]
        for sequence in (*within, self.last + 1):
            if first < sequence:
                share = min(excused, sequence - first)
                excused -= share
                parts.append(
                    msgspec.structs.replace(
                        self, first=first, last=sequence - 1, excused=share
                    )
                )
            first = sequence + 1
        return parts


class _Outbox(OutboxReport):
    """What is known of an outbox in a partition."""

    last_offset: int = -1  # of the record with the highest sequence; -1 if none
    absent: int = 0  # how many offsets below that one were not read or are empty
    missing: list[_Missing] = msgspec.field(default_factory=list)
    has_all: bool = True  # whether no missing sequence was forgotten

    def reach(self, sequence: int, offset: int, absent: int) -> None:
        """Note the record that is the highest now."""
        if not self.first_sequence:
            self.first_sequence = sequence
        self.last_sequence, self.last_offset, self.absent = sequence, offset, absent

    def fill(self, sequence: int) -> bool:
        """Take one sequence out of the missing ones; return whether it was one."""
        at = bisect_right(self.missing, sequence, key=lambda one: one.first) - 1
        if at < 0 or self.missing[at].last < sequence:
            return False
        self.missing[at : at + 1] = self.missing[at].without([sequence])
        return True


class _Partition(PartitionReport):
    """What is known of a partition."""

    next: int = 0  # the offset behind the last record
    absent: int = 0  # how many offsets below that one were not read or may be empty
    gone_before: int = 0  # records below this offset were deleted
    outboxes: dict[bytes, _Outbox] = msgspec.field(default_factory=dict)

    def __post_init__(self) -> None:
        self.next = self.absent = self.start
        self.gone_before = self.log_start

    def trim(self, log_start: int) -> None:
        """Note where the log begins by now."""
        if log_start > self.gone_before:
            self.gone_before = log_start
            self.absent += max(0, log_start - self.next)
            self.next = max(self.next, log_start)


class RefusedSequences:
    """
    Sequences that the topic will not have, by outbox and partition.

    Args:
        topic: The topic that the refused records were for.
    """

    def __init__(self, topic: str) -> None:
        self._topic = topic.encode()
        self._sequences: defaultdict[tuple[str, int], list[int]] = defaultdict(list)

    def of(self, outbox: str, partition: int) -> list[int]:
        """Return an outbox's, ascending; later ones are added to the same list."""
        return self._sequences[outbox, partition]

    def read(self, records: Iterable[ScannedRecord]) -> None:
        """Learn from records of the dead-letter topic."""
        for _offset, _key, headers in records:
            if headers.get(names.BRIDGE_REFUSED_TOPIC) != self._topic:
                continue
            try:
                outbox = (headers[names.BRIDGE_OUTBOX] or b"").decode()
                partition = int(headers[names.BRIDGE_REFUSED_PARTITION] or b"")
                sequence = int(headers[names.BRIDGE_REFUSED_SEQUENCE] or b"")
            except (KeyError, ValueError):
                # Another program's dead letter; it excuses nothing.
                continue
            self.add(outbox, partition, (sequence,))

    def add(self, outbox: str, partition: int, sequences: Iterable[int]) -> None:
        """Add sequences."""
        known = self.of(outbox, partition)
        for sequence in sequences:
            at = bisect_left(known, sequence)
            if known[at : at + 1] != [sequence]:
                known.insert(at, sequence)


class Verifier:
    """
    Verifies one topic.

    Args:
        extents: What will be read, by partition.
        refused: What dead letters account for; it may grow meanwhile.
        may_be_compacted: Whether an empty offset excuses a missing sequence. Where
            nothing was compacted, it holds a transaction's marker or an aborted record.

    Attributes:
        counts: How many issues there are of each kind.
        has_all_outboxes: Whether every outbox was followed.
    """

    def __init__(
        self,
        extents: Mapping[int, Extent],
        refused: RefusedSequences,
        *,
        may_be_compacted: bool = True,
    ) -> None:
        self._refused = refused
        self._may_be_compacted = may_be_compacted
        self._partitions = {
            number: _Partition(number, one.log_start, one.start, one.end, one.log_end)
            for number, one in extents.items()
        }
        self._seen = _SeenIds()
        self._homes: dict[bytes, int] = {}
        self._outboxes_left = _MAX_OUTBOXES
        self.has_all_outboxes = True
        self._named: dict[Kind, list[Issue]] = {kind: [] for kind in Kind}
        self._has_foreign_ids = False
        self.counts: Counter[Kind] = Counter()

    @property
    def has_all_ids(self) -> bool:
        """Whether every `ce_id` was compared with all others."""
        return self._seen.has_all and not self._has_foreign_ids

    def add(
        self, number: int, records: Iterable[ScannedRecord], gone_before: int
    ) -> None:
        """
        Verify the next records of a partition, in the order of their offsets.

        Records below `gone_before` were deleted by now.
        """
        partition = self._partitions[number]
        partition.trim(gone_before)
        outboxes, empty_excuses = partition.outboxes, self._may_be_compacted
        homes, is_new = self._homes, self._seen.add
        expected, absent = partition.next, partition.absent
        for offset, key, headers in records:
            if offset != expected and empty_excuses:
                absent += offset - expected
            expected = offset + 1
            partition.records += 1
            name = headers.get(_OUTBOX)
            if name is None:
                partition.foreign += 1
                continue
            if key is not None and homes.get(key) != number:
                partition.wrong_partition += self._home(key) != number
            outbox = outboxes.get(name)
            if outbox is None:
                outbox = self._new_outbox(partition, name, headers)
                if outbox is None:
                    continue
            outbox.records += 1
            try:
                sequence = int(headers[_SEQUENCE])  # type: ignore[arg-type]
                ce_id: bytes = headers[_CE_ID]  # type: ignore[assignment]
                new = is_new(ce_id)
            except (KeyError, ValueError, TypeError, AttributeError):
                self._report_record(
                    Kind.UNREADABLE, outbox, offset, headers.get(_CE_ID)
                )
                continue
            resent = headers.get(_ANOMALY) == _RESENT
            if sequence == outbox.last_sequence + 1 and new and not resent:
                if not outbox.last_sequence:
                    outbox.first_sequence = sequence
                outbox.last_sequence = sequence
                outbox.last_offset = offset
                outbox.absent = absent
            else:
                self._has_foreign_ids |= new is None
                record = (offset, absent, sequence, ce_id)
                self._out_of_line(partition, outbox, record, new=new, resent=resent)
        partition.next, partition.absent = expected, absent

    def _home(self, key: bytes) -> int:
        """Return the partition that a key belongs to, and keep it for a while."""
        home = self._homes.get(key)
        if home is None:
            if len(self._homes) >= _MAX_KEYS:
                self._homes.clear()
            home = (murmur2(key) & 0x7FFFFFFF) % len(self._partitions)
            self._homes[key] = home
        return home

    def _out_of_line(
        self,
        partition: _Partition,
        outbox: _Outbox,
        record: tuple[int, int, int, bytes],
        *,
        new: bool | None,
        resent: bool,
    ) -> None:
        """Verify what isn't the plain next record of its outbox."""
        offset, absent, sequence, ce_id = record
        if not 1 <= sequence <= _MAX_SEQUENCE:
            self._report_record(Kind.UNREADABLE, outbox, offset, ce_id)
            return
        outbox.resent += resent
        if sequence > outbox.last_sequence:
            if sequence > outbox.last_sequence + 1:
                self._miss(partition, outbox, sequence - 1, offset, absent)
            outbox.reach(sequence, offset, absent)
            if new is False and not resent:
                self._report_record(Kind.REPEATED_ID, outbox, offset, ce_id, sequence)
            return
        # It is late, or was there before.
        was_missing = outbox.fill(sequence)
        if resent:
            return
        # Where something was left out, an unknown sequence may be a late one.
        is_dense = outbox.has_all and not (
            outbox.unread or outbox.trimmed or outbox.compacted
        )
        kind = Kind.CONFLICT if is_dense else Kind.REORDERED
        if was_missing:
            kind = Kind.REORDERED
        elif not new:
            kind = Kind.DUPLICATE
        self._report_record(kind, outbox, offset, ce_id, sequence)

    def _miss(
        self,
        partition: _Partition,
        outbox: _Outbox,
        last: int,
        offset: int,
        absent: int,
    ) -> None:
        """
        Note that the sequences above the highest one, up to `last`, didn't come.

        That shows at `offset`; `absent` offsets below it were not read or are empty.
        """
        run = _Missing(outbox.last_sequence + 1, last, outbox.last_offset, offset)
        refused = self._refused.of(outbox.outbox, outbox.partition)
        missing = sum(part.size for part in run.without(refused))
        outbox.refused += run.size - missing
        explained = min(missing, absent - outbox.absent)
        if outbox.last_offset < 0 and partition.start > partition.log_start:
            outbox.unread += explained
        elif max(outbox.last_offset, 0) < partition.gone_before:
            outbox.trimmed += explained
        else:
            outbox.compacted += explained
        if explained == missing:
            return
        for part in msgspec.structs.replace(run, excused=explained).without(refused):
            if len(outbox.missing) >= _MAX_MISSING:
                self._report_missing(outbox, outbox.missing.pop(0))
                outbox.has_all = False
            outbox.missing.append(part)

    def _new_outbox(
        self, partition: _Partition, name: bytes, headers: Mapping[str, bytes | None]
    ) -> _Outbox | None:
        """Begin with an outbox in a partition; None where there are too many."""
        if not self._outboxes_left or len(name) > _MAX_OUTBOX_BYTES:
            self.has_all_outboxes = False
            return None
        self._outboxes_left -= 1
        origin = (headers.get(names.BRIDGE_ORIGIN) or b"").decode(errors="replace")
        outbox = _Outbox(name.decode(errors="replace"), partition.partition, origin)
        partition.outboxes[name] = outbox
        return outbox

    def _report_record(
        self,
        kind: Kind,
        outbox: _Outbox,
        offset: int,
        ce_id: bytes | None,
        sequence: int | None = None,
    ) -> None:
        self._report(
            Issue(
                kind=kind,
                partition=outbox.partition,
                offset=offset,
                outbox=outbox.outbox,
                first_sequence=sequence,
                last_sequence=sequence,
                ce_id=None if ce_id is None else ce_id.decode(errors="replace"),
            )
        )

    def _report_missing(
        self, outbox: _Outbox, missing: _Missing, kind: Kind = Kind.HOLE
    ) -> None:
        count, after = missing.size - missing.excused, missing.after_offset
        if count <= 0:
            return
        self._report(
            Issue(
                kind=kind,
                partition=outbox.partition,
                offset=missing.offset,
                outbox=outbox.outbox,
                first_sequence=missing.first,
                last_sequence=missing.last,
                count=count,
                after_offset=after if after >= 0 else None,
            )
        )

    def _report(self, issue: Issue) -> None:
        self.counts[issue.kind] += issue.count
        named = self._named[issue.kind]
        if len(named) < _MAX_NAMED:
            named.append(issue)

    # -- At the end -----------------------------------------------------------

    @property
    def is_missing_something(self) -> bool:
        """Whether sequences are missing that a later dead letter might account for."""
        return any(one.missing for one in self._outboxes())

    def _outboxes(self) -> Iterator[_Outbox]:
        for partition in self._partitions.values():
            yield from partition.outboxes.values()

    def compare(self, outbox_id: str, its: SurveyedPartition) -> None:
        """Compare a partition with what an outbox's file has of it, after all reads."""
        partition = self._partitions.get(its.partition)
        if partition is None:
            return
        name = outbox_id.encode()
        outbox = partition.outboxes.get(name) or self._new_outbox(partition, name, {})
        if outbox is None:
            return
        outbox.waiting = its.waiting
        delivered, end = its.acknowledged_sequence, partition.end
        if delivered > outbox.last_sequence:
            if end < partition.log_end:
                outbox.end = "unstable"
                return
            if self._may_be_compacted:
                partition.absent += end - partition.next
                partition.next = end
            self._miss(partition, outbox, delivered, end, partition.absent)
        outbox.end = "proven"
        missing, outbox.missing = outbox.missing, []
        for one in missing:
            if one.last > outbox.last_sequence:
                self._report_missing(outbox, one, Kind.MISSING_END)
                outbox.end = "missing"
            else:
                outbox.missing.append(one)

    def conclude(self) -> None:
        """Report what is still missing."""
        for outbox in self._outboxes():
            refused = self._refused.of(outbox.outbox, outbox.partition)
            for missing in outbox.missing:
                parts = missing.without(refused)
                outbox.refused += missing.size - sum(part.size for part in parts)
                for part in parts:
                    self._report_missing(outbox, part)
            outbox.missing.clear()

    def issues(self) -> list[Issue]:
        """Return the named issues by partition and offset."""
        return sorted(
            (one for named in self._named.values() for one in named),
            key=lambda one: (one.partition, one.offset, one.first_sequence or 0),
        )

    def outboxes(self) -> list[OutboxReport]:
        """Return what was counted of each outbox in each partition."""
        reports = msgspec.convert(
            list(self._outboxes()), list[OutboxReport], from_attributes=True
        )
        return sorted(reports, key=lambda one: (one.partition, one.outbox))

    def partitions(self) -> list[PartitionReport]:
        """Return what was counted of each partition."""
        partitions = list(self._partitions.values())
        return msgspec.convert(partitions, list[PartitionReport], from_attributes=True)


# 8,192 ids a page: a process that wrote one record costs 1 KiB, ten million records of
# one process 1.2 MiB.
_PAGE_BITS = 13
_PAGE_BYTES = 1 << (_PAGE_BITS - 3)
_PAGE_MASK = (1 << _PAGE_BITS) - 1
# 64 MiB: 500 million records of one process, or 65,536 starts.
_MAX_PAGES = 65_536
# No process counts further; a longer number isn't a counter.
_MAX_DIGITS = 18


class _SeenIds:
    """
    The `ce_id`s seen, in a bit each; the oldest page goes first.

    A `ce_id` is a process's random name and that process's counter. So millions of them
    are a few pages of bits, and one that comes again is known for certain.

    Attributes:
        has_all: Whether every id since the beginning is remembered.
    """

    def __init__(self) -> None:
        self._pages: dict[tuple[bytes, int], bytearray] = {}
        self.has_all = True

    def add(self, ce_id: bytes) -> bool | None:
        """Return whether an id is new; None for one that isn't of the bridge's form."""
        name, _, digits = ce_id.rpartition(b"-")
        if not name or not digits.isdigit() or len(digits) > _MAX_DIGITS:
            return None
        number = int(digits)
        key = (name, number >> _PAGE_BITS)
        page = self._pages.get(key)
        if page is None:
            page = self._new_page(key)
        number &= _PAGE_MASK
        bit = 1 << (number & 7)
        if page[number >> 3] & bit:
            return False
        page[number >> 3] |= bit
        return True

    def _new_page(self, key: tuple[bytes, int]) -> bytearray:
        if len(self._pages) >= _MAX_PAGES:
            del self._pages[next(iter(self._pages))]
            self.has_all = False
        page = self._pages[key] = bytearray(_PAGE_BYTES)
        return page
