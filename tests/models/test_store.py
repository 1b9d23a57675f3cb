"""
The outbox's rows and partitions against a model that keeps everything in lists.

State: an outbox on a real file, a model of its rows, and the logs in Kafka, which go on
whatever happens to the file: restarts, kills, commits that fail on a full disk, an
older copy that is put back, topics that are recreated or get partitions, logs that lose
their tail.

Invariant, after each rule: rows, sequences, offsets and counts are the model's; nothing
that doesn't wait was neither sent nor set aside; no identity comes twice; a log gets no
row twice, and none out of order, but those that it lost.
"""

from __future__ import annotations

import copy
from collections import Counter
from pathlib import Path
from typing import ClassVar
from unittest.mock import patch

import msgspec
from hypothesis import strategies as st
from hypothesis.stateful import invariant, precondition, rule

from bridge.events import header_names
from bridge.events.record import Envelope, Record, StoredRecord
from bridge.outbox.partitioner import murmur2
from bridge.outbox.values import Delivered
from tests.models.exploring import explore
from tests.models.outbox_files import OutboxFiles
from tests.models.store_model import Log, Model, ModelPartition
from tests.outbox.making import NOON_US


_ENVELOPE = Envelope("https://api/clients/7", header_names.JOB_STATUS_TYPE, "", "")

# What each row counts, whatever it holds.
_ROW_BYTES = 10
_KEEP_SECONDS = 10.0
_TRIMMED_AT_ONCE = 4

# A family of jobs that follow each other.
_events = st.lists(
    st.tuples(st.sampled_from("abcde"), st.sampled_from((False, False, True))),
    min_size=1,
    max_size=9,
)
_topics = st.sampled_from(("jobs", "jobs", "jobs", "dlq"))
_partitions = st.integers(0, 3)


def _is_rare(machine: StoreAgainstModel) -> bool:
    """Leave room for something to undo; by a number that changes all the time."""
    return machine.now % 3 == 0


def _number(row: Record | StoredRecord) -> int:
    return int(dict(row.extra)["number"])


class StoreAgainstModel(OutboxFiles):
    """Rules change both; what must hold of them is at the end."""

    limits: ClassVar[dict[str, float]] = {"acknowledged_seconds": _KEEP_SECONDS}

    def __init__(self) -> None:
        super().__init__()
        self._stack.enter_context(
            patch("bridge.outbox.outbox._TRIMMED_A_COMMIT", _TRIMMED_AT_ONCE)
        )
        self.now = self.count = 0
        self.model = Model()
        self.logs = {"jobs": [Log(), Log()], "dlq": [Log()]}
        self.ids = {"jobs": 0, "dlq": 0}
        self.generations: Counter[str] = Counter()
        self.old: tuple[Path, Model] | None = None
        # Topics whose log was cut: since they were opened, and since the copy was made.
        self.unnoticed: set[str] = set()
        self.cut: set[str] = set()
        # What was offered and isn't committed, and what was ever sent.
        self.pending: list[Record] = []
        self.sent: set[int] = set()
        self.ce_ids: dict[int, str] = {}
        self.begin_life()
        for topic in self.logs:
            self.open(topic)

    def begin_life(self) -> None:
        """Forget what only a process knows."""
        self.is_open: set[str] = set()
        # What the log had already when an epoch began: the offset by number.
        self.found: dict[tuple[str, int], dict[int, int]] = {}
        self.pending = []
        self.counts: dict[str, Counter[str]] = {
            topic: Counter(found=len(self.model.waiting(topic))) for topic in self.logs
        }
        self.accepted = self.committed = 0
        self.trimmed_at = 0.0

    # -- Records --------------------------------------------------------------

    @rule(events=_events)
    def offer(self, events: list[tuple[str, bool]]) -> None:
        """Events are read."""
        records = []
        for family, ends in events:
            key = f"{family}{self.generations[family]}"
            self.generations[family] += ends
            self.count += 1
            status = "done" if ends else "in_progress"
            said = {"request_id": key, "status": status, "number": self.count}
            records.append(
                Record(
                    "jobs",
                    key.encode(),
                    msgspec.json.encode(said),
                    NOON_US + self.count,
                    _ENVELOPE,
                    (("number", b"%d" % self.count),),
                    status=status,
                    progress=f"{self.count}",
                )
            )
        self.outbox.offer(records)
        self.pending += records
        self.accepted += len(records)

    @rule(events=_events)
    def append(self, events: list[tuple[str, bool]]) -> None:
        """Events are read and committed."""
        self.offer(events)
        self.commit()

    @rule()
    def commit(self) -> None:
        """What was offered becomes rows, and old rows go."""
        is_full = self.outbox.statistics.full
        placed = self.outbox.commit()
        assert not self.outbox.is_stuck
        rows = {
            _number(row): (topic, partition, row)
            for topic, partition, rows in placed
            for row in rows
        }
        assert rows.keys() == {_number(record) for record in self.pending}
        self.learn_of_trimming(is_full=is_full)
        for record in self.pending:
            topic, partition, row = rows[_number(record)]
            assert (row.key, row.value) == (record.key, record.value)
            self.ce_ids[_number(row)] = row.ce_id
            assert partition == self.place(record)
            lane = self.model.topics[topic][partition]
            lane.add(_number(record))
            assert row.sequence == lane.last
            self.model.numbers.add(_number(record))
            self.counts[topic]["committed"] += 1
        self.committed += len(self.pending)
        self.pending = []

    def place(self, record: Record) -> int:
        """Return where a record belongs: its job stays where it began."""
        assert record.key is not None
        count = self.model.counts["jobs"]
        number = self.model.jobs.get(record.key, count)
        if number >= count:
            number = (murmur2(record.key) & 0x7FFFFFFF) % count
        if record.status == "done":
            self.model.jobs.pop(record.key, None)
        else:
            self.model.jobs[record.key] = number
        return number

    def learn_of_trimming(self, *, is_full: bool) -> None:
        """Only old rows go, those before the others, and only so many at once.

        On a full disk young ones go too.
        """
        total = 0
        for topic, lanes in self.model.topics.items():
            for number, lane in lanes.items():
                kept = {row.sequence for row in self.rows_of(topic, number)}
                gone = lane.moments.keys() - kept
                total += len(gone)
                for one in gone:
                    # A run is as old as its first row.
                    age = self.seconds - lane.moments[one]
                    assert age > _KEEP_SECONDS - 1 or is_full
                    assert all(one <= other for other in lane.moments.keys() - gone)
                lane.trim(gone)
        old = [
            one
            for lanes in self.model.topics.values()
            for lane in lanes.values()
            for one in lane.moments.values()
            if one < self.seconds - _KEEP_SECONDS
        ]
        is_due = self.seconds - self.trimmed_at > 0.1
        assert total == _TRIMMED_AT_ONCE or not (old and is_due)
        self.trimmed_at = self.seconds

    @precondition(_is_rare)
    @rule()
    def fail(self) -> None:
        """The disk is full: nothing happens, and nothing is lost."""
        with self.full_disk():
            assert self.outbox.commit() == []
        self.states_agree()
        self.rows_agree()
        # How much room there is, is measured once a second.
        self.seconds += 1.5
        self.commit()

    @rule(seconds=st.sampled_from((0.5, 2.0, 12.0)))
    def wait(self, seconds: float) -> None:
        """Time goes by."""
        self.seconds += seconds

    # -- The relay ------------------------------------------------------------

    @rule(topic=_topics)
    def open(self, topic: str) -> None:
        """An epoch begins: what the log has is learned, what it lost waits again."""
        logs, model = self.logs[topic], self.model
        topic_id = f"{self.ids[topic]}"
        self.outbox.open_topic(topic, len(logs), topic_id)
        lanes = model.topics.setdefault(topic, {})
        if model.ids.get(topic) not in {None, topic_id}:
            for lane in lanes.values():
                lane.forget_log()
        model.ids[topic], model.counts[topic] = topic_id, len(logs)
        for number, log in enumerate(logs):
            lane = lanes.setdefault(number, ModelPartition())
            own = log.own(lane.resume_offset)
            seen = max((sequence for sequence, _ in own.values()), default=0)
            found = {
                row: offset
                for offset, (sequence, row) in own.items()
                if lane.acknowledged < sequence
            }
            if not self.is_confirmed(lane, log) and self.rewind(
                topic, number, seen, min(found.values(), default=len(log.records))
            ):
                seen, found = 0, {}
            self.found[topic, number] = found
            shown = seen, len(log.records), {self.ce_ids[one] for one in found}
            self.outbox.continue_behind(topic, {number: shown})
            lane.continue_behind(seen, len(log.records), found)
        self.is_open.add(topic)
        self.unnoticed.discard(topic)

    @staticmethod
    def is_confirmed(lane: ModelPartition, log: Log) -> bool:
        """Whether the log has the record that was acknowledged last."""
        offset = lane.resume_offset
        if offset is None:
            return True
        if lane.witness is not None:
            return log.holds(offset, lane.witness)
        return offset <= len(log.records)

    def rewind(self, topic: str, partition: int, seen: int, first: int) -> bool:
        """Have rows sent again that the log lost; gives whether it lost any."""
        lane, log = self.model.topics[topic][partition], self.logs[topic][partition]
        kept = self.outbox.delivered(topic, partition, 0, 10**6)
        there = [row.sequence for row in kept if self.has(log, row)]
        confirmed = max(there, default=kept[0].sequence - 1 if kept else 0)
        is_lost = bool(kept) and confirmed < lane.acknowledged
        end = len(log.records)
        if is_lost:
            seen = max(seen, lane.acknowledged)
        else:
            # What the log has is not sent again, nor skipped by the next epoch.
            confirmed, seen, end = lane.acknowledged, 0, first
        again = self.outbox.rewind(topic, partition, confirmed, end, seen)
        assert again == lane.rewind(confirmed, end, seen)
        self.counts[topic]["resent"] += again
        return is_lost

    def has(self, log: Log, row: Delivered) -> bool:
        """Whether a log has an acknowledged row."""
        return any(
            log.holds(row.offset, number)
            for number, ce_id in self.ce_ids.items()
            if ce_id == row.ce_id
        )

    @rule(topic=_topics, partition=_partitions, rows=st.integers(1, 12))
    def deliver(self, topic: str, partition: int, rows: int) -> None:
        """Kafka takes some rows, and they are acknowledged."""
        self._deliver(topic, partition, rows, is_acknowledged=True)

    @rule(topic=_topics, partition=_partitions, rows=st.integers(1, 12))
    def deliver_without_answer(self, topic: str, partition: int, rows: int) -> None:
        """Kafka takes some rows, but the answer is lost: the epoch is over."""
        self._deliver(topic, partition, rows, is_acknowledged=False)
        self.is_open.discard(topic)

    def _deliver(
        self, topic: str, partition: int, count: int, *, is_acknowledged: bool
    ) -> None:
        if topic not in self.is_open:
            self.open(topic)
        partition %= len(self.logs[topic])
        lane, log = self.model.topics[topic][partition], self.logs[topic][partition]
        after = self.acknowledge_found(topic, partition)
        rows = self.outbox.read(topic, partition, after, count, 10**9)
        base, is_resent = len(log.records), lane.resent
        for row in rows:
            self.send(log, row, is_resent >= row.sequence)
        if rows and is_acknowledged:
            self.acknowledge(topic, partition, rows, base)

    def acknowledge_found(self, topic: str, partition: int) -> int:
        """Acknowledge the rows that the log has already; give the last of them."""
        lane, offsets = (
            self.model.topics[topic][partition],
            self.found[topic, partition],
        )
        # It reads up to a hole.
        while rows := self.outbox.read(topic, partition, lane.acknowledged, 1, 10**9):
            number = _number(rows[0])
            if number not in offsets:
                break
            self.acknowledge(topic, partition, rows, offsets[number])
        return lane.acknowledged

    @staticmethod
    def send(log: Log, row: StoredRecord, is_resent: bool) -> None:  # noqa: FBT001
        """Append a row to a log: nothing comes twice, or out of order."""
        before = log.own(0).values()
        if not is_resent:
            assert _number(row) not in {number for _, number in before}
            assert row.sequence > max((one for one, _ in before), default=0)
        log.records.append((row.sequence, _number(row)))

    def acknowledge(
        self, topic: str, partition: int, rows: list[StoredRecord], base: int
    ) -> None:
        """Report to both where rows are."""
        first, last = rows[0].sequence, rows[-1].sequence
        size = _ROW_BYTES * len(rows)
        self.outbox.acknowledge(topic, partition, first, last, base, size)
        lane = self.model.topics[topic][partition]
        for offset, row in enumerate(rows, base):
            lane.acknowledge(row.sequence, offset, self.seconds)
            self.sent.add(_number(row))
        self.counts[topic]["acknowledged"] += len(rows)

    @rule(partition=_partitions, is_kept=st.booleans())
    def refuse(self, partition: int, *, is_kept: bool) -> None:
        """The broker refuses a row for good."""
        if "jobs" not in self.is_open:
            self.open("jobs")
        partition %= len(self.logs["jobs"])
        after = self.acknowledge_found("jobs", partition)
        rows = self.outbox.read("jobs", partition, after, 1, 10**9)
        if not rows:
            return
        lane = self.model.topics["jobs"][partition]
        letter = None
        if not is_kept:
            self.count += 1
            extra = (("number", b"%d" % self.count),)
            letter = Record("dlq", None, b"{}", 1, _ENVELOPE, extra)
        placed = self.outbox.refuse("jobs", partition, rows[0].sequence, letter)
        lane.pass_by(rows[0].sequence)
        self.model.set_aside.add(_number(rows[0]))
        self.counts["jobs"]["refused"] += 1
        if letter is not None:
            del lane.rows[rows[0].sequence]
            ((topic, number, (row,)),) = placed
            self.model.topics[topic][number].add(self.count)
            assert row.sequence == self.model.topics[topic][number].last
            self.model.numbers.add(self.count)
            self.counts[topic]["committed"] += 1

    # -- Kafka ----------------------------------------------------------------

    @rule(topic=_topics, partition=_partitions)
    def write_foreign(self, topic: str, partition: int) -> None:
        """Another writer has the topic as well."""
        logs = self.logs[topic]
        logs[partition % len(logs)].records.append(None)

    @rule(topic=_topics, partition=_partitions, share=st.floats(0, 1))
    def retain(self, topic: str, partition: int, share: float) -> None:
        """Retention takes the first part of a log, of what was acknowledged."""
        partition %= len(self.logs[topic])
        log, lanes = self.logs[topic][partition], self.model.topics[topic]
        if topic in self.is_open:
            known = lanes[partition].resume_offset or 0
            log.begin = max(log.begin, int(share * known))

    @precondition(_is_rare)
    @rule(
        topic=_topics,
        partition=_partitions,
        lost=st.integers(1, 9),
        foreign=st.integers(0, 3),
    )
    def truncate(self, topic: str, partition: int, lost: int, foreign: int) -> None:
        """A log loses its tail, and another writer may be there first."""
        log = self.logs[topic][partition % len(self.logs[topic])]
        del log.records[max(len(log.records) - lost, 0) :]
        log.begin = min(log.begin, len(log.records))
        log.records += [None] * foreign
        self.is_open.discard(topic)
        self.unnoticed.add(topic)
        self.cut.add(topic)

    @precondition(_is_rare)
    @rule(topic=_topics, count=st.integers(1, 4))
    def recreate(self, topic: str, count: int) -> None:
        """The topic is deleted, and made again, with any number of partitions."""
        self.logs[topic] = [Log() for _ in range(count)]
        self.cut.discard(topic)
        self.ids[topic] += 1
        self.open(topic)

    @precondition(_is_rare)
    @rule(topic=_topics)
    def add_partition(self, topic: str) -> None:
        """A topic gets one partition more."""
        if len(self.logs[topic]) < 4:
            self.logs[topic].append(Log())
            self.open(topic)

    # -- Processes ------------------------------------------------------------

    @rule()
    def stop_and_start(self) -> None:
        """A process stops in order: it commits what it has."""
        self.commit()
        self.restart()
        self.begin_life()

    @rule()
    def kill(self) -> None:
        """Another process opens the files as they are."""
        self.replace_by(self.copied())
        self.begin_life()

    @precondition(_is_rare)
    @rule()
    def copy_files(self) -> None:
        """A copy of the files is made."""
        self.old = self.copied(), copy.deepcopy(self.model)
        self.cut = set(self.unnoticed)

    @precondition(lambda machine: machine.old is not None)
    @rule()
    def put_back(self) -> None:
        """A power loss, or a person, brings an older file back."""
        assert self.old is not None
        path, model = self.old
        self.old = None
        # A limit in docs/evaluate/guarantees.md: such a copy can't know that its log
        # was cut.
        if any(
            lane.witness is None
            for topic in self.cut
            for lane in model.topics.get(topic, {}).values()
        ):
            return
        self.model, self.unnoticed = model, set(self.cut)
        self.replace_by(path)
        self.begin_life()

    @precondition(_is_rare)
    @rule(lost=_events, rows=st.integers(1, 12), later=_events)
    def lose_power(
        self,
        lost: list[tuple[str, bool]],
        rows: int,
        later: list[tuple[str, bool]],
    ) -> None:
        """Kafka has what the file has lost; later events get the same sequences."""
        self.copy_files()
        self.append(lost)
        for partition in range(len(self.logs["jobs"])):
            self._deliver("jobs", partition, rows, is_acknowledged=True)
        self.put_back()
        self.append(later)

    # -- What must hold -------------------------------------------------------

    @invariant()
    def counts_agree(self) -> None:
        """What came is what went and what waits."""
        self.now += 1
        statistics = self.outbox.statistics
        assert statistics.accepted == self.accepted
        assert statistics.committed == self.committed
        waits = {topic: len(self.model.waiting(topic)) for topic in self.logs}
        # It applies acknowledgements.
        states = {topic: self.outbox.states(topic) for topic in self.logs}
        assert self.outbox.waiting() == waits
        assert statistics.rows == sum(waits.values())
        for topic, count in waits.items():
            found = statistics.topics[topic]
            said = {name: getattr(found, name) for name in self.counts[topic]}
            assert said == self.counts[topic]
            came = found.found + found.committed + found.resent
            assert came == found.acknowledged + found.refused + found.waiting
            assert found.waiting == count
            assert sum(state.waiting for state in states[topic]) == count
        topics = statistics.topics.values()
        came = sum(one.found + one.resent for one in topics) + statistics.committed
        went = sum(one.acknowledged + one.waiting for one in topics)
        assert came == went + statistics.unsendable

    @invariant()
    def states_agree(self) -> None:
        """What the relay reads is true."""
        for topic, lanes in self.model.topics.items():
            states = {state.partition: state for state in self.outbox.states(topic)}
            assert states.keys() == lanes.keys()
            for partition, lane in lanes.items():
                state = states[partition]
                assert state.acknowledged_sequence == lane.acknowledged
                assert state.last_sequence == lane.last
                assert state.resent_sequence == lane.resent
                assert state.topic_id == self.model.ids[topic]
                assert state.resume_offset == lane.resume_offset
                ce_id = None if lane.witness is None else self.ce_ids[lane.witness]
                assert state.resume_ce_id == ce_id

    @invariant()
    def rows_agree(self) -> None:
        """Every partition reads as it should; no identity changes or comes twice."""
        for topic, lanes in self.model.topics.items():
            for partition, lane in lanes.items():
                rows = self.rows_of(topic, partition)
                assert {row.sequence: _number(row) for row in rows} == lane.rows
                for row in rows:
                    known = self.ce_ids.setdefault(_number(row), row.ce_id)
                    assert known == row.ce_id
                after, offsets = 0, {}
                while found := self.outbox.delivered(topic, partition, after, 3):
                    offsets.update({row.sequence: row.offset for row in found})
                    after = found[-1].sequence
                    assert [self.ce_ids[lane.rows[row.sequence]] for row in found] == [
                        row.ce_id for row in found
                    ]
                assert offsets == lane.offsets
        assert len(set(self.ce_ids.values())) == len(self.ce_ids)

    @invariant()
    def nothing_is_lost(self) -> None:
        """The model itself is right: what doesn't wait was sent, or set aside."""
        model = self.model
        waiting = {one for topic in model.topics for one in model.waiting(topic)}
        assert model.numbers - waiting <= self.sent | model.set_aside


def test_the_store_agrees_with_its_model() -> None:
    """No order of what happens makes them differ."""
    explore(StoreAgainstModel, share=1)
