"""
What an outbox should be: lists and dictionaries that keep everything.

`test_store` compares the outbox with it. A `Model` is what the file holds and is copied
with it; the world outside (`Log`) is not.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field


@dataclass
class ModelPartition:
    """
    One partition as it should be.

    Attributes:
        rows: Number by sequence of rows that are in the file.
        acknowledged: The last sequence that doesn't wait.
        last: The last sequence that must not come again.
        offsets: Where acknowledged rows that are kept are in the topic of now.
        moments: When they were acknowledged, those of a topic that is gone included.
        floor: Where to resume unless one of those is later.
        resent: The last row that a log has had and lost.
    """

    rows: dict[int, int] = field(default_factory=dict)
    acknowledged: int = 0
    last: int = 0
    offsets: dict[int, int] = field(default_factory=dict)
    moments: dict[int, float] = field(default_factory=dict)
    floor: int | None = None
    resent: int = 0

    @property
    def waiting(self) -> list[int]:
        """The sequences of rows that wait."""
        return [sequence for sequence in self.rows if sequence > self.acknowledged]

    @property
    def resume_offset(self) -> int | None:
        """From where on the log has to be read."""
        last = self.offsets[max(self.offsets)] if self.offsets else None
        known = [offset for offset in (last, self.floor) if offset is not None]
        return max(known, default=None)

    @property
    def witness(self) -> int | None:
        """The number of the record where it resumes; None if that isn't known."""
        last = max(self.offsets, default=0)
        is_there = last and self.offsets[last] == self.resume_offset
        return self.rows[last] if is_there else None

    def add(self, number: int) -> None:
        """Append a row."""
        self.last += 1
        self.rows[self.last] = number

    def settle(self) -> None:
        """Leave behind what can't be waited for."""
        if not self.waiting:
            self.acknowledged = self.last
        if self.acknowledged >= self.resent:
            self.resent = 0

    def acknowledge(self, sequence: int, offset: int, moment: float) -> None:
        """Note where a row is."""
        self.pass_by(sequence)
        self.offsets[sequence], self.moments[sequence] = offset, moment
        if self.floor is not None:
            self.floor = min(self.floor, offset)

    def pass_by(self, sequence: int) -> None:
        """Let a row wait no more."""
        self.acknowledged = sequence
        self.settle()

    def continue_behind(self, seen: int, end: int, found: Collection[int]) -> None:
        """
        Learn the last sequence in the log, its end, and which rows it has.

        Those that it doesn't have, of a time before which the file was put back, get
        sequences above all that it has, in their order.
        """
        if self.resume_offset is None:
            self.floor = end
        if seen <= self.acknowledged:
            return
        places = {one: one for one in self.waiting}
        moved = [one for one in places if one <= seen and self.rows[one] not in found]
        last = max(seen, self.last)
        if moved:
            behind = [one for one in places if one > seen]
            by = last + len(moved) - seen
            places = dict(zip(moved, range(last + 1, last + by + 1), strict=False))
            places |= {one: one + by for one in behind}
            self.rows |= {places[one]: self.rows.pop(one) for one in places}
            last += by
        self.last = last
        self.settle()

    def trim(self, gone: Collection[int]) -> None:
        """Forget rows."""
        for one in gone:
            assert one <= self.acknowledged
            del self.rows[one], self.moments[one]
            if one in self.offsets:
                self.floor = max(self.floor or 0, self.offsets.pop(one))

    def rewind(self, sequence: int, offset: int, seen: int) -> int:
        """Let the rows after one wait again; give how many do."""
        until = self.acknowledged
        void = [s for s in self.moments if s not in self.offsets]
        sequence = max([sequence, *void])
        again = [one for one in self.rows if sequence < one <= until]
        for one in again:
            self.offsets.pop(one, None)
            self.moments.pop(one, None)
        self.acknowledged, self.floor = sequence, offset
        self.resent = max(self.resent, until, seen)
        self.settle()
        return len(again)

    def forget_log(self) -> None:
        """Learn that the topic was deleted."""
        self.offsets.clear()
        self.moments = dict.fromkeys(self.moments, -1.0e9)
        self.floor = 0


@dataclass
class Model:
    """All that a file should hold."""

    topics: dict[str, dict[int, ModelPartition]] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    ids: dict[str, str] = field(default_factory=dict)
    numbers: set[int] = field(default_factory=set)
    set_aside: set[int] = field(default_factory=set)
    jobs: dict[bytes, int] = field(default_factory=dict)

    def waiting(self, topic: str) -> list[int]:
        """Return the numbers of a topic's rows that wait for Kafka."""
        partitions = self.topics.get(topic, {}).values()
        return [one.rows[s] for one in partitions for s in one.waiting]


@dataclass
class Log:
    """A partition's log."""

    # (sequence, number) of each record, None for a foreign one.
    records: list[tuple[int, int] | None] = field(default_factory=list)
    begin: int = 0

    def own(self, start: int | None) -> dict[int, tuple[int, int]]:
        """Return the records of the outbox from an offset on, by offset."""
        if start is None:
            return {}
        first = max(start, self.begin)
        return {
            offset: record
            for offset, record in enumerate(self.records[first:], first)
            if record is not None
        }

    def holds(self, offset: int, number: int) -> bool:
        """Whether a record is at an offset, or was when retention took it."""
        if offset < self.begin:
            return True
        record = self.records[offset] if offset < len(self.records) else None
        return record is not None and record[1] == number
