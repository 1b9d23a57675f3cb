"""
One outbox, its relay and the model broker: what can happen, what must hold.

The rules are what Hypothesis chooses from; a case that it found can be written down
with the same names.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Literal
from unittest import mock

import structlog
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from bridge.events.record import Record
from bridge.kafka.relay import epoch, idempotent, relay, transactional
from bridge.kafka.relay.relay import Relay
from bridge.outbox import Outbox, OutboxDirectory, outbox
from bridge.settings import KafkaSettings, OutboxSettings
from tests.kafka.relay.relaying import ENVELOPE
from tests.models.model_broker import ModelBroker
from tests.models.model_log import POISON, CommitFault, Fault, Written
from tests.models.virtual_time import VirtualLoop


Mode = Literal["idempotent", "transactional"]

JOBS, DEAD = "jobs", "jobs.dlq"
PARTITIONS = 2
KEYS = 5

# Longer than any pause between epochs, in the model's time.
SETTLED_SECONDS = 40.0

# Files in memory: a commit costs the model no disk.
_MEMORY = Path("/dev/shm")  # noqa: S108 - a folder of its own is made in it
_FOLDER = str(_MEMORY) if _MEMORY.is_dir() else None

# More than any test writes.
_MANY = 100_000

soon = st.sampled_from([0.0, 0.002, 0.01, 0.05, 0.5])
place = st.integers(0, PARTITIONS - 1).map(lambda number: (JOBS, number))


class Machine(RuleBasedStateMachine):
    """One outbox, its relay of now, and the broker."""

    delivery: Mode

    def __init__(self) -> None:
        super().__init__()
        self._stack = ExitStack()
        self._folder = Path(
            self._stack.enter_context(tempfile.TemporaryDirectory(dir=_FOLDER))
        )
        self._lines = self._stack.enter_context(structlog.testing.capture_logs())
        self.broker = ModelBroker({JOBS: PARTITIONS, DEAD: 1})
        self.loop = VirtualLoop()
        self.loop.close()
        clock = SimpleNamespace(
            # The loop of each life.
            monotonic=lambda: self.loop.time(),  # noqa: PLW0108
            time_ns=time.time_ns,
        )
        for module in (outbox, epoch, idempotent, relay, transactional):
            self._stack.enter_context(mock.patch.object(module, "time", clock))
        for patch in self.broker.patches():
            self._stack.enter_context(patch)
        self._number = self._lives = 0
        # What this process was given, in order; what the outbox has to bring to Kafka;
        # and what it had when it was copied.
        self._offered: list[bytes] = []
        self._due: set[bytes] = set()
        self._due_in_copy: set[bytes] | None = None
        # Whether anything has made it right to send rows again.
        self._loses, self._has_lost = True, False
        # Whether the file was put back and hasn't learned yet how far the log is.
        self._is_behind = False
        self._start()
        # Nothing is read before Kafka was reached once.
        self.loop.run_for(0.1)

    @property
    def _life(self) -> Path:
        """The outbox's directory in this life."""
        return self._folder / f"life-{self._lives}"

    @property
    def _is_open(self) -> bool:
        """Whether this process has read the log."""
        return any(
            line["event"] == "topic.open" and line["topic"] == JOBS
            for line in self._lines
        )

    def _start(self) -> None:
        self._lines.clear()
        self._directory = OutboxDirectory(self._life)
        self._directory.__enter__()
        self.outbox = Outbox(self._directory, OutboxSettings(dir=self._life))
        self.loop = VirtualLoop(self.loop.time())
        self._main = self.loop.create_task(
            Relay(
                KafkaSettings(resume_quiet_seconds=0.5, start_timeout_seconds=5.0),
                [JOBS, DEAD],
                self.outbox,
                dead_letter_topic=DEAD,
                delivery=self.delivery,
            ).work()
        )

    def _stop(self) -> None:
        """Die: what isn't committed is lost, and no one is notified."""
        if self.loop.is_closed():
            return
        self._note_committed()
        self._offered.clear()
        before = self._life
        self._lives += 1
        # As it is at this moment; the old one may do what it likes with its own.
        shutil.copytree(before, self._life)
        self._main.cancel()
        try:
            self.loop.run_for(0.1)
            if not self._main.cancelled() and (error := self._main.exception()):
                raise error
        finally:
            self.loop.close()
            self.outbox.close()
            self._directory.__exit__(None, None, None)
            shutil.rmtree(before)

    def _note_committed(self) -> None:
        self._due.update(self._offered[: self.outbox.statistics.committed])

    def _offer(self, keys: list[int], *, poisoned: bool = False) -> None:
        if not self.outbox.knows([JOBS, DEAD]):
            return
        records = []
        for key in keys:
            self._number += 1
            value = b"%d" % self._number + (POISON if poisoned else b"")
            now_us = time.time_ns() // 1000
            records.append(Record(JOBS, b"job-%d" % key, value, now_us, ENVELOPE))
            self._offered.append(value)
        self.outbox.offer(records)

    @property
    def _copy(self) -> Path:
        return self._folder / "copy"

    # -- What happens ----------------------------------------------------------

    @initialize(loses=st.booleans())
    def choose_a_world(self, *, loses: bool) -> None:
        """Half of the worlds never lose what they have acknowledged."""
        self._loses = loses

    @rule(keys=st.lists(st.integers(0, KEYS - 1), min_size=1, max_size=6), then=soon)
    def offer(self, keys: list[int], then: float = 0.0) -> None:
        """Events are read, and mostly the relay takes them up."""
        self._offer(keys)
        self.loop.run_for(then)

    @rule(key=st.integers(0, KEYS - 1), then=soon)
    def offer_poison(self, key: int, then: float = 0.0) -> None:
        """An event that the broker refuses for good."""
        self._offer([key], poisoned=True)
        self.loop.run_for(then)

    @rule(seconds=st.sampled_from([0.002, 0.01, 0.05, 0.5, 5.0, 60.0]))
    def time_passes(self, seconds: float) -> None:
        """The relay works for a while."""
        self.loop.run_for(seconds)
        assert not self._main.done()

    @rule()
    def write_down(self) -> None:
        """The outbox writes down what was acknowledged, as it does by itself."""
        self.outbox.states(JOBS)

    @rule(where=place, fault=st.sampled_from(list(Fault)))
    def fail(self, where: tuple[str, int], fault: Fault) -> None:
        """One of the next batches fails."""
        self.broker.faults[where].append(fault)

    @rule(fault=st.sampled_from(CommitFault))
    def lose_commit(self, fault: CommitFault) -> None:
        """The answer to a commit is lost."""
        self.broker.commit_faults.append(fault)

    @rule()
    def land(self) -> None:
        """What given-up producers had on their way is appended."""
        self.broker.land()

    @rule(is_away=st.booleans())
    def go_away(self, *, is_away: bool) -> None:
        """No client reaches the broker, or every client does."""
        self.broker.is_away = is_away

    @rule(where=place, is_led=st.booleans())
    def change_leader(self, where: tuple[str, int], *, is_led: bool) -> None:
        """A partition loses its leader, or gets another one that has the whole log."""
        if is_led:
            self.broker.leaderless.discard(where)
        else:
            self.broker.leaderless.add(where)
        self.broker.leaders[where] += 1

    @rule(refuses=st.booleans())
    def refuse_dead_letters(self, *, refuses: bool) -> None:
        """The dead letters' topic refuses as well, or doesn't."""
        (self.broker.poisoned.add if refuses else self.broker.poisoned.discard)(DEAD)

    @rule()
    def crash(self) -> None:
        """The process is killed and starts again."""
        self._is_behind &= not self._is_open
        self._stop()
        self._start()

    @rule()
    def copy(self) -> None:
        """An operator makes a snapshot of the outbox, once it has been to Kafka."""
        # One from before doesn't know where in the log to look for its rows; one of
        # a file that was put back itself, not which sequences they get.
        if self._is_behind and not self._is_open:
            return
        states = [*self.outbox.states(JOBS), *self.outbox.states(DEAD)]
        if not states or any(state.resume_offset is None for state in states):
            return
        shutil.rmtree(self._copy, ignore_errors=True)
        shutil.copytree(self._life, self._copy)
        self._note_committed()
        self._due_in_copy = set(self._due)

    @precondition(lambda self: self._loses)
    @rule()
    def put_copy_back(self) -> None:
        """The process dies with its disk, and starts with the snapshot."""
        if self._due_in_copy is None:
            return
        self._stop()
        shutil.rmtree(self._life)
        self._copy.rename(self._life)
        self._due, self._due_in_copy = self._due_in_copy, None
        self._is_behind = self._has_lost = True
        self._start()

    @rule(where=place)
    def others_write(self, where: tuple[str, int]) -> None:
        """Another program writes to the topic."""
        self.broker.append_foreign(where)

    @precondition(lambda self: self._loses)
    @rule(where=place, count=st.integers(1, 8))
    def cut(self, where: tuple[str, int], count: int) -> None:
        """The log loses its acknowledged tail."""
        # An outbox knows nothing of records before all rows that it keeps.
        acknowledged = {
            (JOBS, state.partition): state.acknowledged_sequence
            for state in self.outbox.states(JOBS)
        }
        log = self.broker.logs[where]
        left = log.records[log.begin_offset : max(log.end_offset - count, 0)]
        has_kept = any(
            one is not None
            and one.outbox is not None
            and not one.is_late
            and int(one.sequence) <= acknowledged.get(where, 0)
            for one in left
        )
        if has_kept and (self.delivery == "idempotent" or not self.broker.open):
            self._has_lost = True
            self.broker.cut(where, count)

    @rule(where=place, count=st.integers(1, 8))
    def trim(self, where: tuple[str, int], count: int) -> None:
        """Retention takes the head; never what no consumer could have read yet."""
        if self.delivery == "idempotent" or not self.broker.open:
            self.broker.trim(where, count)

    @precondition(lambda self: self._loses)
    @rule()
    def make_anew(self) -> None:
        """The topic is deleted and made again."""
        if self.delivery == "idempotent" or not self.broker.open:
            self._has_lost = True
            self.broker.remake(JOBS)

    # -- What must hold in the end ---------------------------------------------

    def teardown(self) -> None:
        """Everything heals; then each event that is due is where it belongs."""
        try:
            self._heal()
            self.outbox.states(JOBS)
            assert set(self.outbox.waiting().values()) == {0}
            self._check()
        finally:
            try:
                self._stop()
            finally:
                self._stack.close()

    def _heal(self) -> None:
        self.broker.is_away = False
        self.broker.leaderless.clear()
        self.broker.commit_faults.clear()
        for faults in self.broker.faults.values():
            faults.clear()
        self.loop.run_for(SETTLED_SECONDS)
        self.broker.land()
        # A cut is noticed with an acknowledgement or on resume.
        self._offer(list(range(KEYS)))
        self.loop.run_for(SETTLED_SECONDS)
        self.crash()
        self.loop.run_for(SETTLED_SECONDS)

    def _check(self) -> None:
        found: dict[bytes, list[Written]] = {}
        for number in range(PARTITIONS):
            in_order = [
                one for one in self.broker.visible((JOBS, number)) if one.outbox
            ]
            self._check_order(in_order)
            for one in in_order:
                found.setdefault(one.value, []).append(one)
        dead = {one.value for one in self.broker.visible((DEAD, 0))}
        aside = self._put_aside()
        for value in self._due - self.broker.excused:
            where = dead | aside if POISON in value else found
            assert value in where, f"{value!r} is nowhere"
        names: dict[bytes, bytes] = {}
        for _, one in self.broker.history:
            assert names.setdefault(one.ce_id, one.value) == one.value

    def _put_aside(self) -> set[bytes]:
        """Return the values of dead letters that are kept for good, unsent."""
        delivered = self.outbox.delivered(DEAD, 0, 0, _MANY)
        sequences = {one.sequence for one in delivered}
        aside, after = set(), 0
        while rows := self.outbox.read(DEAD, 0, after, _MANY, 2**30):
            after = rows[-1].sequence
            aside |= {row.value for row in rows if row.sequence not in sequences}
        return aside

    def _check_order(self, records: list[Written]) -> None:
        # What was taken away before its acknowledgement was on disk comes again.
        timely = [
            one
            for one in records
            if not one.is_late and one.value not in self.broker.excused
        ]
        if self.delivery == "transactional":
            assert not any(one.is_late for one in records)
        assert self._has_lost or not any(one.is_marked for one in records)
        sequences = [
            int(one.sequence) for one in records if not (one.is_late or one.is_marked)
        ]
        assert sequences == sorted(set(sequences))
        plain = Counter(one.value for one in timely if not one.is_marked)
        assert all(count == 1 for count in plain.values()), plain
        last = {one.value: index for index, one in enumerate(timely)}
        by_key: dict[bytes | None, list[int]] = {}
        for index, one in enumerate(timely):
            if last[one.value] == index:
                by_key.setdefault(one.key, []).append(int(one.value))
        for numbers in by_key.values():
            assert numbers == sorted(numbers)


def machine_for(mode: Mode) -> type[Machine]:
    """Give the machine of a delivery."""
    return type("Machine", (Machine,), {"delivery": mode})
