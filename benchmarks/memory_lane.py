"""
One lane of the in-memory outbox: its rows and how far they have come.

No lock and no thread: `memory_outbox` sees to that.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from bridge.record import Delivered, LaneState, StoredRecord


__all__ = ["MemoryLane"]

# Acknowledged rows that a lane keeps, so that they can be taken back; on disk it
# is a matter of seconds and bytes.
_KEPT_ROWS = 10_000


class MemoryLane:
    """
    A lane.

    Args:
        topic: Its topic.
        partition: Its partition.

    Attributes:
        rows: What waits and what is still kept, by sequence.
        last_sequence: The last one given out.
    """

    def __init__(self, topic: str, partition: int) -> None:
        self.topic = topic
        self.partition = partition
        self.rows: dict[int, StoredRecord] = {}
        self.last_sequence = 0
        self._acknowledged = 0
        self._resent = 0
        # Sequences after the acknowledged ones that have no row any more.
        self._holes = 0
        self._resume_offset: int | None = None
        self._topic_id: str | None = None
        # What stands side by side in the log: first, last sequence, base offset.
        self._runs: deque[tuple[int, int, int]] = deque()

    @property
    def pending(self) -> int:
        """Rows that wait for their acknowledgement."""
        return self.last_sequence - self._acknowledged - self._holes

    def state(self) -> LaneState:
        """Tell what the relay needs to know before it sends."""
        row = None
        if self._runs:
            first, last, base_offset = self._runs[-1]
            if base_offset + last - first == self._resume_offset:
                row = self.rows.get(last)
        return LaneState(
            topic=self.topic,
            partition=self.partition,
            acknowledged_sequence=self._acknowledged,
            last_sequence=self.last_sequence,
            resume_offset=self._resume_offset,
            resume_ce_id=None if row is None else row.ce_id,
            resent_sequence=self._resent,
            topic_id=self._topic_id,
        )

    def open(self, last_sequence: int, end_offset: int, topic_id: str | None) -> None:
        """Take in what the log shows of this lane."""
        # Memory is never put back to an older copy: no log knows more.
        assert last_sequence <= self.last_sequence, "another outbox has this id"
        if self._resume_offset is None:
            self._resume_offset = end_offset
        elif topic_id is not None and self._topic_id not in {None, topic_id}:
            # A topic that was made anew: what the old one had is delivered.
            self._runs.clear()
            self._resume_offset = 0
        self._topic_id = topic_id or self._topic_id

    def read(self, after: int, max_rows: int, max_bytes: int) -> list[StoredRecord]:
        """Give rows after a sequence; where one is missing it stops."""
        rows: list[StoredRecord] = []
        size = 0
        for sequence in range(after + 1, self.last_sequence + 1):
            row = self.rows.get(sequence)
            if row is None:
                if rows:
                    break
                continue
            rows.append(row)
            size += len(row.value)
            if len(rows) >= max_rows or size >= max_bytes:
                break
        return rows

    def acknowledge(self, first: int, last: int, base_offset: int) -> None:
        """Note that the next rows stand in the log."""
        passed = first - self._acknowledged - 1
        assert 0 <= passed <= self._holes, "an acknowledgement out of order"
        self._holes -= passed
        self._acknowledged = last
        self._resume_offset = base_offset + last - first
        self._runs.append((first, last, base_offset))
        while self._runs[0][1] <= last - _KEPT_ROWS:
            begin, end, _ = self._runs.popleft()
            for sequence in range(begin, end + 1):
                self.rows.pop(sequence, None)

    def delivered(self, after: int, max_rows: int) -> list[Delivered]:
        """Give acknowledged rows after a sequence, in order."""
        found = []
        for sequence, offset in self._offsets(after):
            row = self.rows.get(sequence)
            if row is not None:
                found.append(Delivered(sequence, row.ce_id, offset))
            if len(found) >= max_rows:
                break
        return found

    def rewind(self, sequence: int, resume_offset: int, resent_sequence: int) -> int:
        """Let rows after a sequence wait again; gives how many."""
        waited = self.pending
        self._resent = max(self._resent, self._acknowledged, resent_sequence)
        self._acknowledged = min(self._acknowledged, sequence)
        self._holes = sum(
            number not in self.rows
            for number in range(self._acknowledged + 1, self.last_sequence + 1)
        )
        self._resume_offset = resume_offset
        self._runs = deque(
            (first, min(last, sequence), base_offset)
            for first, last, base_offset in self._runs
            if first <= sequence
        )
        return self.pending - waited

    def take_out(self, sequence: int) -> StoredRecord:
        """Take the first waiting row out of the lane; its sequence stays used."""
        row = self.rows.pop(sequence)
        passed = sequence - self._acknowledged - 1
        assert 0 <= passed <= self._holes, "not the first waiting row"
        self._holes -= passed
        self._acknowledged = sequence
        return row

    def _offsets(self, after: int) -> Iterator[tuple[int, int]]:
        for first, last, base_offset in self._runs:
            for sequence in range(max(first, after + 1), last + 1):
                yield sequence, base_offset + sequence - first
