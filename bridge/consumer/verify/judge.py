"""
The judge: reads headers in the order of the log and says what is wrong.

It does no input or output, reads no clock, and its memory doesn't grow with the
topic: a lane keeps its highest sequence and its gaps, an event is one bit.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping

import msgspec

from bridge.consumer.verify.identities import Identities
from bridge.consumer.verify.lane import Lane
from bridge.consumer.verify.report import Finding, Kind, LaneReport, PartitionReport
from bridge.events import header_names as names
from bridge.kafka.scan import Extent, ScannedRecord
from bridge.outbox.partitioner import murmur2


__all__ = ["Judge", "Markers"]

# Named findings of each kind; the others are counted. More than a screen holds.
_NAMED = 100
# Outboxes that are told apart: one a bridge and one a replay. Beyond that somebody
# writes made-up headers, and each would take half a kilobyte.
_MAX_LANES = 100_000

# A key comes back with each event of its job; these take 6 MB.
_KEPT_KEYS = 65_536

# The outbox gives no higher one; a made-up one must not count as 10^30 holes.
_MAX_SEQUENCE = (1 << 40) - 1

# Names of this module's own: looking each up in another one costs a tenth of it all.
_OUTBOX, _SEQUENCE, _CE_ID = names.BRIDGE_OUTBOX, names.BRIDGE_SEQUENCE, names.CE_ID
_ANOMALY = names.BRIDGE_ANOMALY
_RESENT = b"resent"
_MAX_OUTBOX_BYTES = 64


class Markers:
    """
    Sequences that a dead letter accounts for, by (outbox, partition).

    Args:
        topic: The topic that the refused records were for.
    """

    def __init__(self, topic: str) -> None:
        self._topic = topic.encode()
        self._sequences: defaultdict[tuple[str, int], list[int]] = defaultdict(list)

    def of(self, outbox: str, partition: int) -> list[int]:
        """Give a lane's refused sequences, ascending; later ones appear in it."""
        return self._sequences[outbox, partition]

    def add(self, records: Iterable[ScannedRecord]) -> None:
        """Take markers from records of the dead-letter topic."""
        for _offset, _key, headers in records:
            if headers.get(names.BRIDGE_REFUSED_TOPIC) != self._topic:
                continue
            try:
                outbox = (headers[names.BRIDGE_OUTBOX] or b"").decode()
                partition = int(headers[names.BRIDGE_REFUSED_PARTITION] or b"")
                sequence = int(headers[names.BRIDGE_REFUSED_SEQUENCE] or b"")
            except (KeyError, ValueError):
                # A dead letter of somebody else; it excuses nothing.
                continue
            self.put_aside(outbox, partition, (sequence,))

    def put_aside(self, outbox: str, partition: int, sequences: Iterable[int]) -> None:
        """Name sequences that the topic will not have."""
        known = self.of(outbox, partition)
        for sequence in sequences:
            place = bisect_left(known, sequence)
            if known[place : place + 1] != [sequence]:
                known.insert(place, sequence)


class _Partition:
    """
    What is known of one partition.

    Attributes:
        next: The offset behind the last record.
        absent: How many offsets below that one were not read, or may hold nothing.
        gone_before: Records below this offset were deleted.
    """

    def __init__(self, number: int, extent: Extent) -> None:
        self.number = number
        self.extent = extent
        self.lanes: dict[bytes, Lane] = {}
        self.records = self.foreign = self.astray = 0
        self.next = self.absent = extent.start
        self.gone_before = extent.log_start

    def trim(self, log_start: int) -> None:
        """Note where the log begins by now."""
        if log_start > self.gone_before:
            self.gone_before = log_start
            self.absent += max(0, log_start - self.next)
            self.next = max(self.next, log_start)


class Judge:
    """
    Judges one topic.

    Args:
        extents: What will be read, by partition.
        markers: What the dead letters account for; it may grow meanwhile.
        may_be_compacted: Whether an offset without record excuses a missing sequence.
            Where nothing was compacted, a transaction's marker is there, or a record
            that was aborted.
    """

    def __init__(
        self,
        extents: Mapping[int, Extent],
        markers: Markers,
        *,
        may_be_compacted: bool = True,
    ) -> None:
        self._markers = markers
        self._may_be_compacted = may_be_compacted
        self._partitions = {
            number: _Partition(number, extent) for number, extent in extents.items()
        }
        self._identities = Identities()
        self._homes: dict[bytes, int] = {}
        self._lanes_left = _MAX_LANES
        self.counts: Counter[Kind] = Counter()
        self.named: dict[Kind, list[Finding]] = {kind: [] for kind in Kind}
        self.unknown_ids = 0

    @property
    def identities_are_whole(self) -> bool:
        """Whether every `ce_id` of the bridge's form was compared with all others."""
        return self._identities.is_whole

    @property
    def lanes_are_whole(self) -> bool:
        """Whether every outbox was followed."""
        return self._lanes_left > 0

    def add(
        self, number: int, records: Iterable[ScannedRecord], gone_before: int
    ) -> None:
        """
        Judge the next records of a partition, in the order of their offsets.

        Args:
            number: The partition.
            records: They.
            gone_before: Records below this offset were deleted by now.
        """
        partition = self._partitions[number]
        partition.trim(gone_before)
        lanes, holes_excuse = partition.lanes, self._may_be_compacted
        homes, is_new = self._homes, self._identities.add
        expected, absent = partition.next, partition.absent
        for offset, key, headers in records:
            if offset != expected and holes_excuse:
                absent += offset - expected
            expected = offset + 1
            partition.records += 1
            outbox = headers.get(_OUTBOX)
            if outbox is None:
                partition.foreign += 1
                continue
            if key is not None and homes.get(key) != number:
                partition.astray += self._home(key) != number
            lane = lanes.get(outbox)
            if lane is None:
                lane = self._new_lane(partition, outbox, headers)
                if lane is None:
                    continue
            lane.records += 1
            try:
                sequence = int(headers[_SEQUENCE])  # type: ignore[arg-type]
                ce_id: bytes = headers[_CE_ID]  # type: ignore[assignment]
                new = is_new(ce_id)
            except (KeyError, ValueError, TypeError, AttributeError):
                self._unreadable(lane, offset, headers)
                continue
            resent = headers.get(_ANOMALY) == _RESENT
            if sequence == lane.high + 1 and new and not resent:
                if not lane.high:
                    lane.reach(sequence, offset, absent)
                lane.high = sequence
                lane.last_offset = offset
                lane.absent = absent
            else:
                record = (offset, absent, sequence, ce_id)
                self._out_of_line(partition, lane, record, new=new, resent=resent)
        partition.next, partition.absent = expected, absent

    def _home(self, key: bytes) -> int:
        """Give the partition that a key belongs to, and keep it for a while."""
        home = self._homes.get(key)
        if home is None:
            if len(self._homes) >= _KEPT_KEYS:
                self._homes.clear()
            home = (murmur2(key) & 0x7FFFFFFF) % len(self._partitions)
            self._homes[key] = home
        return home

    def _out_of_line(
        self,
        partition: _Partition,
        lane: Lane,
        record: tuple[int, int, int, bytes],
        *,
        new: bool | None,
        resent: bool,
    ) -> None:
        """Judge what isn't the plain next record of its lane."""
        offset, absent, sequence, ce_id = record
        if new is None:
            self.unknown_ids += 1
        if not 1 <= sequence <= _MAX_SEQUENCE:
            self._unreadable(lane, offset, {names.CE_ID: ce_id})
            return
        if resent:
            lane.resend(sequence)
        if sequence > lane.high:
            if sequence > lane.high + 1:
                self._pass_over(partition, lane, sequence - 1, offset, absent)
            lane.reach(sequence, offset, absent)
            if new is False and not resent:
                self._report(
                    Finding(
                        kind=Kind.REPEATED_ID,
                        partition=lane.partition,
                        offset=offset,
                        outbox=lane.outbox,
                        first_sequence=sequence,
                        last_sequence=sequence,
                        ce_id=ce_id.decode(errors="replace"),
                    )
                )
        elif not resent:
            lane.step_back(sequence, offset, ce_id, is_new=new)

    @staticmethod
    def _pass_over(
        partition: _Partition, lane: Lane, last: int, offset: int, absent: int
    ) -> None:
        lane.pass_over(
            last,
            offset=offset,
            absent=absent,
            start=partition.extent.start,
            log_start=partition.extent.log_start,
            gone_before=partition.gone_before,
        )

    def _new_lane(
        self, partition: _Partition, outbox: bytes, headers: Mapping[str, bytes | None]
    ) -> Lane | None:
        """Begin with an outbox in a partition; None where there are too many."""
        if self._lanes_left <= 0 or len(outbox) > _MAX_OUTBOX_BYTES:
            self._lanes_left = min(self._lanes_left, 0)
            return None
        self._lanes_left -= 1
        name = outbox.decode(errors="replace")
        origin = (headers.get(names.BRIDGE_ORIGIN) or b"").decode(errors="replace")
        refused = self._markers.of(name, partition.number)
        lane = Lane(name, partition.number, origin, refused, self._report)
        partition.lanes[outbox] = lane
        return lane

    def _unreadable(
        self, lane: Lane, offset: int, headers: Mapping[str, bytes | None]
    ) -> None:
        ce_id = headers.get(names.CE_ID)
        self._report(
            Finding(
                kind=Kind.UNREADABLE,
                partition=lane.partition,
                offset=offset,
                outbox=lane.outbox,
                first_sequence=None,
                last_sequence=None,
                ce_id=None if ce_id is None else ce_id.decode(errors="replace"),
            )
        )

    def _report(self, finding: Finding) -> None:
        self.counts[finding.kind] += finding.count
        named = self.named[finding.kind]
        if len(named) < _NAMED:
            named.append(finding)

    # -- At the end -----------------------------------------------------------

    @property
    def misses_something(self) -> bool:
        """Whether sequences are missing that a late marker might account for."""
        return any(lane.has_gaps for lane in self._lanes())

    def _lanes(self) -> Iterable[Lane]:
        for partition in self._partitions.values():
            yield from partition.lanes.values()

    def claim(self, outbox: str, partition: int, delivered: int, waiting: int) -> None:
        """
        Compare a lane with what its outbox says of it, after all was added.

        Args:
            outbox: The outbox's UUID.
            partition: The partition.
            delivered: The highest sequence that the outbox holds for delivered.
            waiting: How many of its rows wait.
        """
        place = self._partitions.get(partition)
        if place is None:
            return
        lane = place.lanes.get(outbox.encode())
        if lane is None:
            lane = self._new_lane(place, outbox.encode(), {})
            assert lane is not None
        lane.waiting = waiting
        if place.extent.end < place.extent.log_end and delivered > lane.high:
            lane.end = "unstable"
            return
        if delivered > lane.high:
            end = place.extent.end
            if self._may_be_compacted:
                place.absent += end - place.next
                place.next = end
            self._pass_over(place, lane, delivered, end, place.absent)
        lane.conclude_end()

    def conclude(self) -> None:
        """Turn what is still missing into findings."""
        for lane in self._lanes():
            lane.conclude(self._markers.of(lane.outbox, lane.partition))

    def findings(self) -> list[Finding]:
        """Give the named findings by partition and offset."""
        return sorted(
            (one for named in self.named.values() for one in named),
            key=lambda one: (one.partition, one.offset, one.first_sequence or 0),
        )

    def lanes(self) -> list[LaneReport]:
        """Give what was counted of each lane."""
        reports = [lane.report() for lane in self._lanes()]
        return sorted(reports, key=lambda one: (one.partition, one.outbox))

    def partitions(self) -> list[PartitionReport]:
        """Give what was counted of each partition."""
        return [
            PartitionReport(
                partition=one.number,
                records=one.records,
                foreign=one.foreign,
                astray=one.astray,
                **msgspec.structs.asdict(one.extent),
            )
            for one in self._partitions.values()
        ]
