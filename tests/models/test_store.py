"""The outbox's tables against a model that keeps everything in lists.

State: a `Store` on a real file, a model of its rows, partitions and jobs, and the logs
in Kafka, which go on whatever happens to the file: restarts, transactions that fail, an
older copy that is put back, a topic that is recreated, logs that lose their tail.

Invariant, after each rule: rows, sequences, offsets, counts and jobs are the model's;
nothing that doesn't wait was neither sent nor set aside; no identity comes twice.

An order of 50 rules takes 60 ms: each rule opens the file once more.
"""

from __future__ import annotations

import copy
import shutil

import msgspec
import pytest
from bridge.outbox.rows.lane import Run
from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from bridge.events.header_names import DEAD_LETTER_TYPE
from tests.models import job_model
from tests.models.exploring import explore
from tests.models.store_agreement import PARTITIONS, Agreement
from tests.models.store_model import Log, ModelLane
from tests.outbox.making import MIB, PLENTY_BYTES, record, undone


# What each row counts, whatever it holds.
ROW_BYTES = 10

_partitions = st.integers(0, PARTITIONS - 1)


def _is_rare(machine: StoreAgainstModel) -> bool:
    """Leave room for something to undo; by a number that changes all the time."""
    return machine.now % 3 == 0


class StoreAgainstModel(Agreement):
    """Rules change both, and what must hold of them is inherited."""

    # -- The reader ------------------------------------------------------------

    @rule(events=job_model.some_events, notes=st.booleans())
    def append(self, events: job_model.Events, *, notes: bool) -> None:
        """Records go to their lanes, or wait behind those that have none."""
        records, model = self.lives.records(self.count, events), self.model
        with self.store.transaction():
            if notes:
                self.store.job_table.write_if_due()
            placed = self.store.append(records)
        self.lives.hear(model, events, records)
        told = {
            job_model.number_of(row): (partition, row.sequence)
            for _, partition, rows in placed
            for row in rows
        }
        is_direct = self.is_open and not model.unassigned
        for one in records:
            number = job_model.number_of(one)
            if is_direct:
                partition = job_model.partition_of(one.key)
                model.lanes[partition].add(number)
                assert told[number] == (partition, model.lanes[partition].last)
            else:
                model.unassigned.append(number)
                assert number not in told
            self.keys[number] = one.key
            self.origins[number] = one.envelope.origin
            self.appended[one.envelope.origin] += 1
            self.seen.add(number)
            self.ce_ids[number] = ""
            model.numbers.add(number)
        self.count += len(events)

    # -- The relay -------------------------------------------------------------

    @rule()
    def open_topic(self) -> None:
        """Kafka is reached; its log may have seen more than the file knows."""
        self._open()

    @precondition(_is_rare)
    @rule()
    def make_topic_anew(self) -> None:
        """Somebody deletes the topic, and it is made again."""
        self.topics += 1
        self.logs = [Log() for _ in range(PARTITIONS)]
        self._open()

    def _open(self) -> None:
        topic_id = f"id-{self.topics}"
        opened = {}
        for partition, log in enumerate(self.logs):
            lane = self.model.lanes.setdefault(
                partition, ModelLane(unassigned=self.model.unassigned)
            )
            is_same = lane.topic_id in {None, topic_id}
            start = lane.resume_offset if is_same else 0
            opened[partition] = (log.last_sequence(start), len(log.records))
            self.unplaced[partition] = log.sequences(start, lane.last_row)
            lane.open(*opened[partition], topic_id)
        with self.store.transaction():
            self.store.open_topic(
                "jobs", job_model.partition_of, opened, topic_id, self.unplaced
            )
        self.is_open = True
        for partition in range(PARTITIONS):
            self._look_for_losses(partition)

    def _reach_kafka(self) -> None:
        if not self.is_open:
            self._open()

    def _look_for_losses(self, partition: int) -> None:
        lane, log = self.model.lanes[partition], self.logs[partition]
        good, resume_offset = 0, len(log.records)
        for row in self.store.delivered("jobs", partition, 0, 10**6):
            if not log.holds(row.offset, row.ce_id):
                good = row.sequence - 1
                break
            good = row.sequence
        else:
            return
        before = lane.acknowledged
        with self.store.transaction():
            again = self.store.rewind("jobs", partition, good, resume_offset)
        assert again == lane.rewind(good, resume_offset)
        self.seen.update(
            number for place, number in lane.rows.items() if good < place <= before
        )

    @rule(max_rows=st.integers(1, 8))
    def claim(self, max_rows: int) -> None:
        """Waiting rows go to their lanes, oldest first, as many as may."""
        model = self.model
        with self.store.transaction():
            claimed = self.store.claim(max_rows, PLENTY_BYTES)
        if not self.is_open:
            assert claimed == []
            return
        chosen: dict[int, list[int]] = {}
        self.seen.update(model.unassigned[:max_rows])
        for number in model.unassigned[:max_rows]:
            partition = job_model.partition_of(self.keys[number])
            chosen.setdefault(partition, []).append(number)
        had_some = bool(model.unassigned)
        del model.unassigned[:max_rows]
        for partition, numbers in chosen.items():
            self._place(partition, numbers)
        if had_some:
            for lane in model.lanes.values():
                lane.settle()
        assert {(partition, last) for _, partition, last in claimed} == {
            (partition, model.lanes[partition].last_row) for partition in chosen
        }

    def _place(self, partition: int, numbers: list[int]) -> None:
        """Rows stand above all others, or where the log has them."""
        lane, unplaced = self.model.lanes[partition], self.unplaced[partition]
        shown = {sequence: ce_id for ce_id, sequence in unplaced.items()}
        first, after, rows = lane.last + 1, lane.last_row, []
        while more := self.read(partition, after, 5):
            rows += more
            after = more[-1].sequence
        assert [job_model.number_of(row) for row in rows] == numbers
        # Without a refused one the rows that the log has come first, as they were.
        is_known = [row.ce_id in unplaced for row in rows]
        as_they_were = is_known == sorted(is_known, reverse=True)
        for row in rows:
            place = unplaced.get(row.ce_id, 0)
            if as_they_were and lane.last_row < place <= lane.last:
                assert row.sequence == place
            elif row.sequence < first:
                assert shown.get(row.sequence, row.ce_id) == row.ce_id
            lane.rows[row.sequence] = job_model.number_of(row)
            lane.last = max(lane.last, row.sequence)

    @rule(events=job_model.some_events, foreign=st.integers(0, 1))
    def live(self, events: job_model.Events, foreign: int) -> None:
        """Records come, and Kafka takes what waits: how most of the time goes by."""
        self.append(events, notes=False)
        self.deliver([5, 5], foreign, is_undone=False)

    @rule(
        counts=st.lists(st.integers(0, 6), min_size=2, max_size=2),
        foreign=st.integers(0, 1),
        is_undone=st.booleans(),
    )
    def deliver(self, counts: list[int], foreign: int, *, is_undone: bool) -> None:
        """The next rows go to Kafka, but for those that it has."""
        self._reach_kafka()
        for partition, count in enumerate(counts):
            self._deliver(partition, count, foreign, is_undone=is_undone)

    def _deliver(
        self, partition: int, count: int, foreign: int, *, is_undone: bool
    ) -> None:
        lane, log = self.model.lanes[partition], self.logs[partition]
        rows = self.read(partition, lane.acknowledged, count)
        if not rows:
            return
        found = log.found(lane.resume_offset)
        if rows[0].ce_id in found:
            rows, base_offset = rows[:1], found[rows[0].ce_id]
        else:
            log.records += [None] * foreign
            base_offset = len(log.records)
            # Those behind it that a copy doesn't know to be there go again, in order.
            known = log.found(0)
            # An older copy doesn't know where the log was cut after it.
            assert self.was_put_back or known.keys().isdisjoint(r.ce_id for r in rows)
            for row in rows:
                log.append(row.sequence, row.ce_id)
            self.sent.update(job_model.number_of(row) for row in rows)
        first, last = rows[0].sequence, rows[-1].sequence
        run = Run(first, last, base_offset, self.now, ROW_BYTES * len(rows))
        if is_undone:
            with undone(self.store):
                self.store.acknowledge("jobs", partition, run)
        with self.store.transaction():
            self.store.acknowledge("jobs", partition, run)
        for index, row in enumerate(rows):
            lane.offsets[row.sequence] = base_offset + index
        if lane.floor is not None:
            # The log was cut below the end that it had at the opening.
            lane.floor = min(lane.floor, base_offset)
        lane.pass_by(last)

    @rule(partition=_partitions, is_kept=st.booleans())
    def refuse(self, partition: int, *, is_kept: bool) -> None:
        """The broker refuses a row for good: it gets out of its lane's way."""
        self._reach_kafka()
        lane, log = self.model.lanes[partition], self.logs[partition]
        rows = self.read(partition, lane.acknowledged, 1)
        if not rows or rows[0].ce_id in log.found(0):
            return
        sequence, origin = rows[0].sequence, rows[0].envelope.origin
        kind = msgspec.structs.replace(rows[0].envelope, ce_type=DEAD_LETTER_TYPE)
        letter = msgspec.structs.replace(record("x", topic="dlq"), envelope=kind)
        with self.store.transaction():
            for wrong in (sequence - 1, sequence + 1):
                with pytest.raises(ValueError, match="isn't the first that waits"):
                    self.store.refuse("jobs", partition, wrong, letter)
            if is_kept:
                self.store.quarantine("jobs", partition, sequence, "too large")
            else:
                self.store.refuse("jobs", partition, sequence, letter)
        self.model.set_aside.add(lane.rows.pop(sequence))
        self.put_aside[origin] += is_kept
        self.letters[origin] += not is_kept
        self.model.quarantined += is_kept
        self.model.dead_letters += not is_kept
        lane.pass_by(sequence)

    @rule(partition=_partitions, lost=st.integers(1, 8), foreign=st.integers(0, 2))
    def lose_tail(self, partition: int, lost: int, foreign: int) -> None:
        """The log loses acknowledged records, and others write there."""
        self._reach_kafka()
        log = self.logs[partition]
        del log.records[-lost:]
        log.records += [None] * foreign
        self._look_for_losses(partition)

    # -- The outbox itself -----------------------------------------------------

    @rule(max_rows=st.integers(1, 4), keeps=st.none() | st.integers(0, 8))
    def trim(self, max_rows: int, keeps: int | None) -> None:
        """Some of what Kafka has goes, in a lane the oldest first: old, or too much."""
        with self.store.transaction():
            gone = self.store.trim(
                older_than_us=10**18 if keeps is None else 0,
                keep_bytes=ROW_BYTES * (keeps or 0),
                max_rows=max_rows,
                max_bytes=MIB,
            )
        lanes = self.model.lanes
        kept = sum(len(lane.rows) - len(lane.pending) for lane in lanes.values())
        too_many = max(kept - (keeps or 0), 0)
        if keeps is None or not too_many:
            assert gone == min(max_rows, too_many)
        else:
            # Rows that were acknowledged together go together.
            assert min(max_rows, too_many) <= gone <= max_rows
        for partition, lane in lanes.items():
            left = self.read(partition, 0, 1)
            gone -= lane.trim_before(left[0].sequence if left else lane.last + 1)
        assert gone == 0

    @rule(is_whole=st.booleans(), is_undone=st.booleans())
    def note_jobs(self, *, is_whole: bool, is_undone: bool) -> None:
        """The table of jobs is written, or a part of it."""
        table = self.store.job_table
        with undone(self.store) if is_undone else self.store.transaction():
            (table.write if is_whole else table.write_if_due)()

    @precondition(_is_rare)
    @rule(events=job_model.some_events)
    def fail(self, events: job_model.Events) -> None:
        """A transaction that doesn't come to its end has never been."""
        before = copy.deepcopy(self.lives)
        with undone(self.store):
            self.store.open_topic(
                "jobs",
                job_model.partition_of,
                dict.fromkeys(range(2), (99, 99)),
                "other",
            )
            self.store.claim(100, PLENTY_BYTES)
            for state in self.store.lane_states():
                self.store.rewind("jobs", state.partition, 0, 0)
                rows = self.read(state.partition, 0, 1)
                if rows and rows[0].sequence > state.acknowledged_sequence:
                    self.store.quarantine("jobs", state.partition, rows[0].sequence, "")
            self.store.trim(
                older_than_us=10**18, keep_bytes=0, max_rows=10**6, max_bytes=MIB
            )
            self.store.append(self.lives.records(self.count, events))
        self.lives = before

    @precondition(_is_rare)
    @rule()
    def restart(self) -> None:
        """Another process opens the file; Kafka is not reached yet."""
        self.store.close()
        self.start()

    @rule()
    def keep_copy(self) -> None:
        """Somebody takes a snapshot of the file."""
        self.store.file.checkpoint()
        shutil.copy(self.path, self.path.with_name("copy"))
        self.copy = copy.deepcopy(self.model)

    @precondition(lambda self: self.copy is not None and _is_rare(self))
    @rule()
    def put_back(self) -> None:
        """The file is put back to its snapshot; Kafka isn't."""
        assert self.copy is not None
        self.store.close()
        shutil.copy(self.path.with_name("copy"), self.path)
        self.model = copy.deepcopy(self.copy)
        self.was_put_back = True
        self.start()


def test_the_store_agrees_with_its_model() -> None:
    """No order of steps makes the file hold something else than the model."""
    explore(StoreAgainstModel, share=1 / 4, steps=50)
