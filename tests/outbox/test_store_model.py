"""
The store against a model that keeps everything in lists.

Hypothesis looks for orders of append, claim, open, acknowledge, trim, failure
and restart after which the two disagree.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
)

from bridge.outbox.lane import Run
from bridge.outbox.schema import new_incarnation, open_database
from bridge.outbox.store import Store
from bridge.record import Record
from tests.outbox.making import MIB, PLENTY_BYTES, number_of, record, undone


_PARTITIONS = 2
_KEYS = ("a", "b", "c")


def _partition_of(key: bytes | None) -> int:
    return int(key == b"a")


@dataclass
class _Lane:
    """
    One lane as it should be.

    Attributes:
        rows: (sequence, number) of rows that are still in the file.
        acknowledged: The last sequence that Kafka has.
        last: The last sequence that must not come again.
    """

    rows: list[tuple[int, int]] = field(default_factory=list)
    acknowledged: int = 0
    last: int = 0

    @property
    def pending(self) -> list[tuple[int, int]]:
        return [row for row in self.rows if row[0] > self.acknowledged]

    def add(self, number: int) -> None:
        self.last += 1
        self.rows.append((self.last, number))

    def settle(self) -> None:
        if not self.pending:
            self.acknowledged = self.last


class StoreAgainstModel(RuleBasedStateMachine):
    """Rules change both; invariants compare them."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.path = Path(self.folder.name) / "outbox.sqlite3"
        self.unassigned: list[int] = []
        self.lanes: dict[int, _Lane] = {}
        self.is_open = False
        self.count = 0
        self.offset = 0
        self.keys: dict[int, bytes | None] = {}
        self.ce_ids: dict[int, str] = {}
        self._start()

    def _start(self) -> None:
        self.store = Store(
            open_database(self.path, max_bytes=PLENTY_BYTES), new_incarnation()
        )
        self.is_open = False

    def teardown(self) -> None:
        """Leave no file behind."""
        self.store.close()
        self.folder.cleanup()

    def _records(self, keys: list[str]) -> list[Record]:
        return [
            record(key, f"{self.count + index}:".encode())
            for index, key in enumerate(keys)
        ]

    @rule(keys=st.lists(st.sampled_from(_KEYS), min_size=1, max_size=12))
    def append(self, keys: list[str]) -> None:
        """Records go to their lanes, or wait behind those that have none."""
        records = self._records(keys)
        with self.store.transaction():
            placed = self.store.append(records)
        told = {
            number_of(row): (partition, row.sequence)
            for _, partition, rows in placed
            for row in rows
        }
        is_direct = self.is_open and not self.unassigned
        for one in records:
            number = number_of(one)
            if is_direct:
                partition = _partition_of(one.key)
                self.lanes[partition].add(number)
                assert told[number] == (partition, self.lanes[partition].last)
            else:
                self.unassigned.append(number)
                assert number not in told
            self.keys[number] = one.key
            self.ce_ids[number] = ""
        self.count += len(keys)

    @rule(ahead=st.lists(st.integers(0, 4), min_size=2, max_size=2))
    def open_topic(self, ahead: list[int]) -> None:
        """Kafka is reached; its log may have seen more than the file knows."""
        opened = {}
        for partition, more in enumerate(ahead):
            lane = self.lanes.setdefault(partition, _Lane())
            opened[partition] = (lane.last + more if more > 1 else 0, self.offset)
            if more > 1:
                lane.last += more
                lane.settle()
        with self.store.transaction():
            self.store.open_topic("jobs", _partition_of, opened, None)
        self.is_open = True

    @rule(max_rows=st.integers(1, 8))
    def claim(self, max_rows: int) -> None:
        """Waiting rows go to their lanes, oldest first, as many as may."""
        with self.store.transaction():
            claimed = self.store.claim(max_rows, PLENTY_BYTES)
        if not self.is_open:
            assert claimed == []
            return
        touched = set()
        for number in self.unassigned[:max_rows]:
            partition = _partition_of(self.keys[number])
            self.lanes[partition].add(number)
            touched.add(partition)
        del self.unassigned[:max_rows]
        assert {(partition, last) for _, partition, last in claimed} == {
            (partition, self.lanes[partition].last) for partition in touched
        }

    @precondition(lambda self: any(lane.pending for lane in self.lanes.values()))
    @rule(
        partition=st.integers(0, _PARTITIONS - 1),
        rows=st.integers(1, 6),
        foreign=st.integers(0, 1),
        is_undone=st.booleans(),
    )
    def acknowledge(
        self, partition: int, rows: int, foreign: int, *, is_undone: bool
    ) -> None:
        """Kafka has the next rows of a lane, as a read gave them."""
        lane = self.lanes[partition]
        found = self.store.read(
            "jobs", partition, lane.acknowledged, rows, PLENTY_BYTES
        )
        if not found:
            return
        self.offset += foreign
        last = found[-1].sequence
        run = Run(found[0].sequence, last, self.offset, self.offset, 10 * len(found))
        if is_undone:
            with undone(self.store):
                self.store.acknowledge("jobs", partition, run)
        with self.store.transaction():
            self.store.acknowledge("jobs", partition, run)
        self.offset += len(found)
        lane.acknowledged = last
        lane.settle()

    @rule(max_rows=st.integers(1, 9))
    def trim(self, max_rows: int) -> None:
        """Some of what Kafka has goes, in a lane the oldest first."""
        with self.store.transaction():
            gone = self.store.trim(
                older_than_us=10**18, keep_bytes=0, max_rows=max_rows, max_bytes=MIB
            )
        kept = {p: len(lane.rows) - len(lane.pending) for p, lane in self.lanes.items()}
        assert gone == min(max_rows, sum(kept.values()))
        for partition, lane in self.lanes.items():
            left = self.store.read("jobs", partition, 0, 1, MIB)
            while lane.rows and (not left or lane.rows[0][0] < left[0].sequence):
                assert lane.rows[0][0] <= lane.acknowledged
                del lane.rows[0]
                gone -= 1
        assert gone == 0

    @rule(keys=st.lists(st.sampled_from(_KEYS), min_size=1, max_size=5))
    def fail(self, keys: list[str]) -> None:
        """A transaction that doesn't come to its end has never been."""
        with undone(self.store):
            self.store.append(self._records(keys))
            self.store.open_topic(
                "jobs", _partition_of, dict.fromkeys(range(2), (99, 99)), None
            )
            self.store.claim(100, PLENTY_BYTES)
            self.store.trim(
                older_than_us=10**18, keep_bytes=0, max_rows=10**6, max_bytes=MIB
            )

    @rule()
    def restart(self) -> None:
        """Another process opens the file; Kafka is not reached yet."""
        self.store.close()
        self._start()
        # A sequence that was only seen in the log is learned from it again.
        for lane in self.lanes.values():
            assert all(sequence <= lane.last for sequence, _ in lane.rows)

    @invariant()
    def counts_agree(self) -> None:
        """Nothing that waits is forgotten, nothing that doesn't is counted."""
        waiting = sum(len(lane.pending) for lane in self.lanes.values())
        assert self.store.pending == waiting + len(self.unassigned)

    @invariant()
    def states_agree(self) -> None:
        """The relay is told what is so."""
        states = {
            state.partition: (state.acknowledged_sequence, state.last_sequence)
            for state in self.store.lane_states()
        }
        for partition, lane in self.lanes.items():
            last = max([lane.acknowledged, *(sequence for sequence, _ in lane.rows)])
            assert states[partition] == (lane.acknowledged, last)

    @invariant()
    def rows_agree(self) -> None:
        """Every lane reads as it should, and no identity changes or comes twice."""
        for partition, lane in self.lanes.items():
            after, rows = 0, []
            while more := self.store.read("jobs", partition, after, 5, PLENTY_BYTES):
                rows += more
                after = more[-1].sequence
            assert [(row.sequence, number_of(row)) for row in rows] == lane.rows
            for row in rows:
                known = self.ce_ids[number_of(row)] or row.ce_id
                assert known == row.ce_id
                self.ce_ids[number_of(row)] = row.ce_id
        seen = [ce_id for ce_id in self.ce_ids.values() if ce_id]
        assert len(set(seen)) == len(seen)


TestStoreAgainstModel = StoreAgainstModel.TestCase
# Some 15 s of exploring at most; each step checks everything.
TestStoreAgainstModel.settings = settings(
    max_examples=60, stateful_step_count=30, deadline=None
)
