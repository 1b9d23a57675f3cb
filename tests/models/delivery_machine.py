"""One outbox, its relay and the model broker: what can happen, what must hold.

The rules are what Hypothesis chooses from; a case that it found can be written down
with the same names.
"""

from __future__ import annotations

import tempfile
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import Literal

import structlog
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from bridge.events.record import Record
from bridge.kafka.relay.relay import Relay
from bridge.settings import KafkaSettings
from tests.kafka.relay.relaying import ENVELOPE
from tests.models.model_broker import ModelBroker
from tests.models.model_log import POISON, CommitFault, Fault, Written
from tests.models.plain_outbox import PlainOutbox
from tests.models.virtual_time import VirtualLoop


__all__ = ["DEAD", "JOBS", "Machine", "Mode", "machine_for"]

Mode = Literal["idempotent", "transactional"]

JOBS, DEAD = "jobs", "jobs.dlq"
PARTITIONS = 2
KEYS = 5

# Longer than any wait of a lane while Kafka is away, in the model's time.
SETTLED_SECONDS = 120.0

soon = st.sampled_from([0.0, 0.002, 0.01, 0.05, 0.5])
place = st.integers(0, PARTITIONS - 1).map(lambda number: (JOBS, number))


class Machine(RuleBasedStateMachine):
    """One outbox, its relay of today, and the broker."""

    delivery: Mode

    def __init__(self) -> None:
        super().__init__()
        self._stack = ExitStack()
        folder = self._stack.enter_context(tempfile.TemporaryDirectory())
        self._path = Path(folder, "outbox.sqlite3")
        self._copy = Path(folder, "copy.sqlite3")
        self._stack.enter_context(structlog.testing.capture_logs())
        self.broker = ModelBroker({JOBS: PARTITIONS, DEAD: 1})
        for patch in self.broker.patches():
            self._stack.enter_context(patch)
        self._number = 0
        # What the outbox has to bring to Kafka, and what it had when it was copied.
        self._due: set[bytes] = set()
        self._due_in_copy: set[bytes] | None = None
        # Whether anything has made it right to send rows again.
        self._loses, self._has_lost = True, False
        # Whether the file was put back and hasn't learned yet how far the log is.
        self._is_behind = False
        self._start()

    def _start(self) -> None:
        self.outbox = PlainOutbox(self._path)
        self.loop = VirtualLoop()
        relay = Relay(
            KafkaSettings(resume_quiet_seconds=0.5, start_timeout_seconds=5.0),
            [[JOBS], [DEAD]],
            self.outbox,
            dead_letter_topic=DEAD,
            delivery=self.delivery,
        )
        self._main = self.loop.create_task(relay.work())

    def _stop(self) -> None:
        """Die: what isn't committed is lost, nothing is said to anybody."""
        if self.loop.is_closed():
            return
        self.outbox.close()
        self._main.cancel()
        try:
            self.loop.run_for(0.1)
            if not self._main.cancelled() and (error := self._main.exception()):
                raise error
        finally:
            self.loop.close()

    def _offer(self, keys: list[int], *, poisoned: bool = False) -> None:
        records = []
        for key in keys:
            self._number += 1
            value = b"%d" % self._number + (POISON if poisoned else b"")
            now_us = time.time_ns() // 1000
            records.append(Record(JOBS, b"job-%d" % key, value, now_us, ENVELOPE))
            self._due.add(value)
        self.outbox.commit(records)

    # -- What happens ----------------------------------------------------------

    @initialize(loses=st.booleans())
    def choose_a_world(self, *, loses: bool) -> None:
        """Half of the worlds never lose what they have acknowledged."""
        self._loses = loses

    @rule(keys=st.lists(st.integers(0, KEYS - 1), min_size=1, max_size=6), then=soon)
    def offer(self, keys: list[int], then: float = 0.0) -> None:
        """Events are committed, and mostly the relay takes them up."""
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
        """The outbox commits what was acknowledged, as it does by itself."""
        self.outbox.commit([])

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
        """Nobody reaches the broker, or everybody does."""
        self.broker.is_away = is_away

    @rule(refuses=st.booleans())
    def refuse_dead_letters(self, *, refuses: bool) -> None:
        """The dead letters' topic refuses as well, or doesn't."""
        (self.broker.poisoned.add if refuses else self.broker.poisoned.discard)(DEAD)

    @rule()
    def crash(self) -> None:
        """The process is killed and starts again."""
        self._is_behind &= JOBS not in self.outbox.opened
        self._stop()
        self._start()

    @rule()
    def copy(self) -> None:
        """Somebody makes a snapshot of the outbox, once it has been to Kafka."""
        # One from before doesn't know where in the log to look for its rows; one of
        # a file that was put back itself, not which sequences they get.
        is_behind = self._is_behind and JOBS not in self.outbox.opened
        if is_behind or not self.outbox.lane_states().result():
            return
        self.outbox.copy_to(self._copy)
        self._due_in_copy = set(self._due)

    @precondition(lambda self: self._loses)
    @rule()
    def put_copy_back(self) -> None:
        """The process dies with its disk, and starts with the snapshot."""
        if self._due_in_copy is None:
            return
        self._stop()
        for path in self._path.parent.glob("outbox.sqlite3*"):
            path.unlink()
        self._copy.replace(self._path)
        self._due, self._due_in_copy = self._due_in_copy, None
        self._is_behind = self._has_lost = True
        self._start()

    @rule(where=place)
    def others_write(self, where: tuple[str, int]) -> None:
        """Somebody else writes to the topic."""
        self.broker.append_foreign(where)

    @precondition(lambda self: self._loses)
    @rule(where=place, count=st.integers(1, 8))
    def cut(self, where: tuple[str, int], count: int) -> None:
        """The log loses its acknowledged tail."""
        # Of what stood before all rows that it keeps an outbox knows nothing.
        acknowledged = {
            (state.topic, state.partition): state.acknowledged_sequence
            for state in self.outbox.lane_states().result()
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
            assert self.outbox.pending == 0
            self._check()
        finally:
            try:
                self._stop()
            finally:
                self._stack.close()

    def _heal(self) -> None:
        self.broker.is_away = False
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
        aside = self.outbox.quarantined()
        for value in self._due - self.broker.excused:
            where = dead | aside if POISON in value else found
            assert value in where, f"{value!r} is nowhere"
        names: dict[bytes, bytes] = {}
        for _, one in self.broker.history:
            assert names.setdefault(one.ce_id, one.value) == one.value

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
