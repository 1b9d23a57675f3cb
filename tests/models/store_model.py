"""
What an outbox should be: lists and dictionaries that keep everything.

`test_store` compares the store with it. A `Model` is what the file holds
and is copied with it; the world outside (`Log`) is not.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class ModelLane:
    """
    One lane as it should be.

    Attributes:
        rows: Number by sequence of rows that are still in the file.
        acknowledged: The last sequence that waits no more.
        last: The last sequence that must not come again.
        offsets: Where acknowledged rows that are kept stand in the topic of now.
        floor: Where to resume unless one of those stands later.
        resent: The last row that a log has had and lost.
        topic_id: The topic's id.
        unassigned: The model's: they may get places that were skipped.
    """

    rows: dict[int, int] = field(default_factory=dict)
    acknowledged: int = 0
    last: int = 0
    offsets: dict[int, int] = field(default_factory=dict)
    floor: int | None = None
    resent: int = 0
    topic_id: str | None = None
    unassigned: list[int] = field(default_factory=list)

    @property
    def pending(self) -> list[int]:
        """The sequences of rows that wait."""
        return [sequence for sequence in self.rows if sequence > self.acknowledged]

    @property
    def last_row(self) -> int:
        """The last sequence that has a row, or had one."""
        return max([self.acknowledged, *self.rows])

    @property
    def resume_offset(self) -> int | None:
        """From where on the log has to be read."""
        last = self.offsets[max(self.offsets)] if self.offsets else None
        known = [offset for offset in (last, self.floor) if offset is not None]
        return max(known, default=None)

    def add(self, number: int) -> None:
        """Append a row."""
        self.last += 1
        self.rows[self.last] = number

    def settle(self) -> None:
        """Leave behind what can't be waited for."""
        if not self.pending and not self.unassigned:
            self.acknowledged = self.last
        if self.acknowledged >= self.resent:
            self.resent = 0

    def open(self, seen: int, end_offset: int, topic_id: str) -> None:
        """Learn the last sequence and the end of the log."""
        if self.topic_id not in {None, topic_id}:
            self.offsets.clear()
            self.floor = 0
        self.topic_id = topic_id
        if self.resume_offset is None:
            self.floor = end_offset
        if seen > self.last:
            self.last = seen
            self.settle()

    def pass_by(self, sequence: int) -> None:
        """Let the row wait no more."""
        self.acknowledged = sequence
        self.settle()

    def trim_before(self, sequence: int) -> int:
        """Forget the rows before one; give how many there were."""
        gone = [one for one in self.rows if one < sequence]
        for one in gone:
            assert one <= self.acknowledged
            del self.rows[one]
            if one in self.offsets:
                self.floor = max(self.floor or 0, self.offsets.pop(one))
        return len(gone)

    def rewind(self, sequence: int, resume_offset: int) -> int:
        """Let the rows after one wait again; give how many do."""
        until = self.acknowledged
        void = [s for s in self.rows if s <= until and s not in self.offsets]
        sequence = max([sequence, *void])
        again = [one for one in self.offsets if one > sequence]
        for one in again:
            del self.offsets[one]
        self.acknowledged, self.floor = sequence, resume_offset
        self.resent = max(self.resent, until)
        self.settle()
        return len(again)


@dataclass
class Model:
    """
    All that a file should hold.

    Attributes:
        unassigned: Numbers of rows that wait without a lane.
        lanes: The lanes by partition.
        numbers: Every number that was appended.
        set_aside: Numbers of refused rows.
        dead_letters: How many replace some of them.
        quarantined: How many lie in quarantine.
        jobs: What the last event of each job in flight told, by account and key.
        ended: The jobs that have ended, by account and key.
    """

    unassigned: list[int] = field(default_factory=list)
    lanes: dict[int, ModelLane] = field(default_factory=dict)
    numbers: set[int] = field(default_factory=set)
    set_aside: set[int] = field(default_factory=set)
    dead_letters: int = 0
    quarantined: int = 0
    jobs: dict[tuple[int, bytes], tuple[str, str | None, int]] = field(
        default_factory=dict
    )
    ended: set[tuple[int, bytes]] = field(default_factory=set)

    @property
    def waiting(self) -> set[int]:
        """The numbers of all rows that wait for Kafka."""
        return set(self.unassigned).union(
            lane.rows[sequence]
            for lane in self.lanes.values()
            for sequence in lane.pending
        )


@dataclass
class Log:
    """
    A partition's log.

    Attributes:
        records: (sequence, ce_id) of each record, None for somebody else's.
    """

    records: list[tuple[int, str] | None] = field(default_factory=list)

    def append(self, sequence: int, ce_id: str) -> int:
        """Take a record; give its offset."""
        self.records.append((sequence, ce_id))
        return len(self.records) - 1

    def holds(self, offset: int, ce_id: str) -> bool:
        """Whether a record stands at an offset."""
        if offset >= len(self.records):
            return False
        record = self.records[offset]
        return record is not None and record[1] == ce_id

    def found(self, start: int | None) -> dict[str, int]:
        """Give the offsets by ce_id from a start on."""
        if start is None:
            return {}
        return {
            record[1]: offset
            for offset, record in enumerate(self.records)
            if record is not None and offset >= start
        }

    def last_sequence(self, start: int | None) -> int:
        """Give the highest sequence from a start on."""
        offsets = self.found(start).values()
        records = [self.records[offset] for offset in offsets]
        return max((record[0] for record in records if record), default=0)

    def sequences(self, start: int | None, after: int) -> dict[str, int]:
        """Give the sequences by ce_id from a start on, those after one."""
        records = [self.records[offset] for offset in self.found(start).values()]
        return {
            ce_id: sequence
            for sequence, ce_id in filter(None, records)
            if sequence > after
        }
