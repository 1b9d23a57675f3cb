"""
How events are judged and what heals jobs, against a model that keeps every event.

State: an outbox's file with its jobs, held webhooks and gaps, and all events of each
job so far. Events, webhooks and status answers meet in one commit, in each order;
commits fail on a full disk, processes stop or are killed, files are damaged.

Invariant: an event is marked as a duplicate or a regression, or refused because its job
has ended, exactly where all events before it say so; a job ends once, whatever reports
it, and ends if any origin does; a webhook is held once, until it is released; what is
remembered of gaps, coverage and calls is what was written; counts add up.
"""

from __future__ import annotations

import json
from collections import Counter
from concurrent.futures import Future
from decimal import Decimal
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, precondition, rule

from bridge.errors import OutboxDamagedError, OutboxFullError
from bridge.events import header_names
from bridge.events.job_status import TERMINAL_STATUSES
from bridge.events.record import Envelope, Record, StoredRecord
from bridge.outbox.values import (
    Delivery,
    Healing,
    Held,
    JobInFlight,
    LeftGap,
    Loss,
    Spent,
)
from tests.models.exploring import explore
from tests.models.outbox_files import OutboxFiles
from tests.outbox.making import NOON_US, source_of


_ACCOUNTS = (7, 8)
_TOPICS = ("jobs", "dlq", "gaps")
_DAY_AND_MORE = 27 * 3600.0

# The last two differ by less than doubles do.
_PROGRESSES = (
    None,
    "0",
    "9.5",
    "09.50",
    "45.50",
    "100",
    "45.5",
    "1" * 20,
    "1" * 20 + ".1",
)

_Job = tuple[int, str]
_jobs = st.tuples(st.sampled_from(_ACCOUNTS), st.sampled_from("abc"))
# Jobs that go on are reported more often than others.
_statuses = st.sampled_from(("processing", *["in_progress"] * 6, "done", "error"))
_progresses = st.sampled_from(_PROGRESSES)
_gaps = st.sampled_from(("g1", "g2"))
_steps = st.lists(
    st.one_of(
        st.tuples(
            st.just("event"),
            _jobs,
            _statuses,
            _progresses,
            st.sampled_from((None, "data:,1")),
        ),
        st.tuples(st.just("take"), _jobs, _statuses, st.integers(0, 4)),
        st.tuples(st.just("heal"), _jobs, _statuses, st.sets(_gaps)),
        st.tuples(st.just("release"), st.integers(0, 3), st.sets(_gaps)),
    ),
    max_size=9,
)


def _expected(history: list[Record], event: Record) -> str | None:
    """Judge an event by all events of its job that were published before."""
    if any(one.status in TERMINAL_STATUSES for one in history):
        return "late"
    if event.status in TERMINAL_STATUSES or not history:
        return None
    if event.value == history[-1].value:
        return "duplicate"
    if event.status == "processing" and any(
        one.status == "in_progress" for one in history
    ):
        return "regression"
    higher = [
        one
        for one in history
        if one.status == event.status
        and one.progress is not None
        and event.progress is not None
        and Decimal(one.progress) > Decimal(event.progress)
    ]
    return "regression" if higher else None


class OrderAgainstModel(OutboxFiles):
    """Rules change both; what is written is compared at once."""

    def __init__(self) -> None:
        self.losses: list[Loss] = []
        self.was_damaged = False
        super().__init__()
        self.at_us = 0
        self.histories: dict[_Job, list[Record]] = {}
        # Rows that wait, by topic: key, value, and the mark if they have one.
        self.rows: dict[str, list[tuple[bytes | None, bytes, str]]] = {
            topic: [] for topic in _TOPICS
        }
        self.held: list[tuple[int, int, Record]] = []
        self.taken: set[tuple[int, int]] = set()
        # What was known of a job some time ago, and how much was published then.
        self.asked: dict[_Job, tuple[JobInFlight, int]] = {}
        self.gaps: dict[str, list[Any]] = {}
        self.proved: dict[str, int] = {}
        self.spent: dict[str, Spent] = {}
        self.begin_life(was_stopped=False)

    def lose(self, loss: object) -> None:
        """Only a damaged file loses anything, as far as this model goes."""
        assert isinstance(loss, Loss)
        assert (loss.cause, loss.records) == ("outbox_damaged", 0)
        self.losses.append(loss)

    @initialize(publishes=st.booleans())
    def start(self, *, publishes: bool) -> None:
        """Choose what becomes of late events, for good."""
        self.publishes = publishes
        self.restart()
        self.begin_life(was_stopped=True)

    def begin_life(self, *, was_stopped: bool) -> None:
        """Check what a process finds."""
        memory = self.outbox.memory
        assert memory.was_stopped is was_stopped
        assert memory.proved_us == self.proved
        assert memory.spent == self.spent
        assert memory.left_gaps == tuple(LeftGap(*one) for one in self.gaps.values())
        assert len(self.losses) == self.was_damaged
        self.losses.clear()
        self.counts: Counter[str] = Counter()
        self.held_at_start = len(self.held)
        for topic in _TOPICS:
            self.outbox.open_topic(topic, 1, None)
            self.outbox.continue_behind(topic, {0: (0, 0, ())})

    # -- Steps ----------------------------------------------------------------

    def record(
        self, job: _Job, status: str, progress: str | None, preview: str | None
    ) -> Record:
        """Make the record of an event."""
        self.at_us += 1
        account, key = job
        said = {
            "request_id": key,
            "status": status,
            "preview": preview,
            "result_url": None,
            "progress": progress,
        }
        return Record(
            "jobs",
            key.encode(),
            json.dumps(said).encode(),
            NOON_US + round(self.seconds * 1_000_000) + self.at_us,
            Envelope(source_of(account), header_names.JOB_STATUS_TYPE, "socket", ""),
            status=status,
            progress=progress,
        )

    @rule(steps=_steps, fails=st.sampled_from((False, False, True)))
    def commit(self, steps: list[tuple[Any, ...]], *, fails: bool) -> None:
        """All in one commit, in order; what a full disk refuses is tried again."""
        places = self.outbox.held(4)
        self.outbox.commit()
        held = places.result(0)
        done: list[tuple[tuple[Any, ...], Future[bool] | None]] = []
        for step in steps:
            done += self.offer(step, held)
        if fails:
            with self.full_disk():
                self.outbox.commit()
            self.jobs_agree()
            # How much room there is, is measured once a second.
            self.seconds += 1.5
        placed = self.outbox.commit()
        assert self.outbox.is_drained
        for step, future in done:
            self.check(step, future)
        self.compare(placed)

    def offer(
        self, step: tuple[Any, ...], held: list[Held]
    ) -> list[tuple[tuple[Any, ...], Future[bool] | None]]:
        """Ask the outbox for one step; give it as it is to be checked."""
        match step:
            case "event", job, status, progress, preview:
                record = self.record(job, status, progress, preview)
                self.outbox.offer([record])
                return [(("event", record), None)]
            case "take", job, status, number:
                record = self.record(job, status, None, None)
                due_us = number // 3
                taken = self.outbox.take(Delivery(f"{number}", record, due_us))
                return [(("take", job[0], number, due_us, record), taken)]
            case "heal", job, status, gap_ids if job in self.asked:
                known, published = self.asked[job]
                record = self.record(job, status, None, None)
                healing = Healing(record, known, tuple(gap_ids))
                healed = self.outbox.heal(healing)
                return [(("heal", job, published, record, gap_ids), healed)]
            case "release", index, gap_ids if index < len(held):
                place = held[index].place
                released = self.outbox.release(place, list(gap_ids))
                return [(("release", place, gap_ids), released)]
        return []

    def check(self, step: tuple[Any, ...], future: Future[bool] | None) -> None:
        """Do one step in the model, and compare the answers."""
        answer: bool | None = None
        match step:
            case "event", record:
                self.publish(record)
                self.counts["committed"] += 1
                return
            case "take", account, number, due_us, record:
                assert future is not None
                if isinstance(future.exception(0), OutboxFullError):
                    self.counts["withdrawn"] += 1
                    return
                answer = (account, number) not in self.taken
                if answer:
                    self.taken.add((account, number))
                    self.held.append((due_us, len(self.taken), record))
            case "heal", job, published, record, gap_ids:
                history = self.histories.get(job, [])
                answer = len(history) == published
                if answer:
                    self.publish(record)
                    self.heal(gap_ids, 1)
            case "release", place, gap_ids:
                answer = self.release(place, gap_ids)
        assert future is not None
        assert future.result(0) is answer
        if step[0] != "release":
            self.counts["committed" if answer else "superseded"] += 1

    def release(self, place: int, gap_ids: set[str]) -> bool:
        """Release a webhook."""
        index = self.places.index(place) if place in self.places else None
        if index is None:
            return False
        del self.places[index]
        _, _, record = self.held.pop(index)
        history = self.histories.get(self.job_of(record), [])
        has_ended = any(one.status in TERMINAL_STATUSES for one in history)
        if has_ended or (history and record.status not in TERMINAL_STATUSES):
            self.counts["discarded"] += 1
            return False
        self.publish(record)
        if record.status in TERMINAL_STATUSES:
            self.heal(gap_ids, 2)
        return True

    @staticmethod
    def job_of(record: Record) -> _Job:
        """Return whose record it is."""
        assert record.key is not None
        return int(record.envelope.ce_source.rpartition("/")[2]), record.key.decode()

    def heal(self, gap_ids: set[str], by: int) -> None:
        """Count a healed job in gaps that are remembered."""
        for gap_id in gap_ids & self.gaps.keys():
            self.gaps[gap_id][by] += 1

    def publish(self, event: Record) -> None:
        """Have an event written, as all before it say."""
        history = self.histories.setdefault(self.job_of(event), [])
        verdict = _expected(history, event)
        if verdict == "late" and not self.publishes:
            self.rows["dlq"].append((event.key, event.value, ""))
            self.counts["late"] += 1
            return
        word = "regression" if verdict == "late" else verdict
        self.rows["jobs"].append((event.key, event.value, word or ""))
        self.counts[word or ""] += 1
        history.append(event)

    def compare(self, placed: list[tuple[str, int, list[StoredRecord]]]) -> None:
        """Compare what a commit has placed with the last rows of the model."""
        for topic in _TOPICS:
            rows = [row for name, _, rows in placed for row in rows if name == topic]
            if rows:
                assert self.contents(rows) == self.rows[topic][-len(rows) :]

    @staticmethod
    def contents(rows: list[StoredRecord]) -> list[tuple[bytes | None, bytes, str]]:
        """Return what the model knows of rows."""
        marks = [dict(row.extra).get(header_names.BRIDGE_ANOMALY, b"") for row in rows]
        return [
            (row.key, row.value, mark.decode())
            for row, mark in zip(rows, marks, strict=True)
        ]

    # -- What else happens ----------------------------------------------------

    @rule()
    def look_up(self) -> None:
        """Reconciliation is about to ask dryAPI about all jobs in flight."""
        for (account, key), history in self.histories.items():
            known = self.outbox.jobs.find(source_of(account), key)
            has_ended = any(one.status in TERMINAL_STATUSES for one in history)
            assert (known is not None) is (bool(history) and not has_ended)
            if known is not None:
                self.asked[account, key] = known, len(history)

    @rule(gap_id=_gaps, ends=st.booleans())
    def keep_gap(self, gap_id: str, *, ends: bool) -> None:
        """A gap record is written, and its gap remembered or forgotten."""
        self.at_us += 1
        value = b"%d" % self.at_us
        envelope = Envelope("", "", "", "", "gap")
        record = Record("gaps", b"7", value, NOON_US, envelope)
        opens, closes = (None, gap_id) if ends else (gap_id, None)
        self.outbox.keep(record, opens=opens, closes=closes)
        self.outbox.commit()
        self.rows["gaps"].append((b"7", value, ""))
        self.counts["kept"] += 1
        self.was_damaged = False
        if ends:
            self.gaps.pop(gap_id, None)
        else:
            self.gaps.setdefault(gap_id, [b"", 0, 0])[0] = value

    @rule(account=st.sampled_from(_ACCOUNTS), number=st.integers(0, 99))
    def remember(self, account: int, number: int) -> None:
        """Coverage and calls are written."""
        self.outbox.prove({source_of(account): number})
        self.outbox.spend({source_of(account): Spent(number, number)})
        self.outbox.commit()
        self.proved[source_of(account)] = number
        self.spent[source_of(account)] = Spent(number, number)

    @rule()
    def deliver(self) -> None:
        """Kafka takes all that there is, and its rows go after a while."""
        for topic in _TOPICS:
            (state,) = self.outbox.states(topic)
            first, last = state.acknowledged_sequence + 1, state.last_sequence
            if first <= last:
                self.outbox.acknowledge(topic, 0, first, last, first, 1)
                self.counts[f"{topic} acknowledged"] += last + 1 - first
            self.rows[topic] = []

    @precondition(lambda machine: not machine.held)
    @rule()
    def wait_for_more_than_a_day(self) -> None:
        """What is remembered of jobs and webhooks is forgotten."""
        in_flight = sum(self.outbox.jobs.count(source_of(one)) for one in _ACCOUNTS)
        forgotten = self.outbox.statistics.forgotten_jobs
        self.seconds += _DAY_AND_MORE
        self.outbox.commit()
        assert self.outbox.statistics.forgotten_jobs == forgotten + in_flight
        self.histories.clear()
        self.taken.clear()
        self.asked.clear()

    @rule()
    def stop_and_start(self) -> None:
        """A process stops in order, another one starts."""
        self.restart()
        self.begin_life(was_stopped=True)

    @rule(is_damaged=st.sampled_from((False, False, True)))
    def kill(self, *, is_damaged: bool) -> None:
        """A process dies; its file may have to be replaced."""
        if is_damaged:
            self.outbox.mark_damaged(OutboxDamagedError("as the model wants it"))
            self.was_damaged = True
        self.replace_by(self.copied())
        self.begin_life(was_stopped=False)

    # -- What must hold -------------------------------------------------------

    @invariant()
    def rows_agree(self) -> None:
        """What waits is there, in its order."""
        for topic in _TOPICS:
            (state,) = self.outbox.states(topic)
            assert state.waiting == len(self.rows[topic])
            rows = self.rows_of(topic, 0)
            waiting = [r for r in rows if r.sequence > state.acknowledged_sequence]
            assert self.contents(waiting) == self.rows[topic]

    @invariant()
    def held_agree(self) -> None:
        """A webhook is held once, in the order of its due time, until its release."""
        self.held.sort(key=lambda one: one[:2])
        answer = self.outbox.held(99)
        self.outbox.commit()
        found = answer.result(0)
        assert [one.record for one in found] == [record for *_, record in self.held]
        self.places = [one.place for one in found]

    @invariant()
    def jobs_agree(self) -> None:
        """In flight is what has begun and not ended."""
        for account in _ACCOUNTS:
            running = {
                key: history
                for (whose, key), history in self.histories.items()
                if whose == account
                and history
                and not any(one.status in TERMINAL_STATUSES for one in history)
            }
            found = self.outbox.jobs.of(source_of(account))
            assert len(found) == self.outbox.jobs.count(source_of(account))
            assert {job.request_id for job in found} == running.keys()
            for job in found:
                history = running[job.request_id]
                has_begun = any(one.status == "in_progress" for one in history)
                assert job.status == ("in_progress" if has_begun else "processing")
                assert job.last_seen_us == history[-1].received_at_us

    @invariant()
    def counts_add_up(self) -> None:
        """What came is what went and what is there; what was undone isn't counted."""
        statistics, counts = self.outbox.statistics, self.counts
        for name in ("committed", "superseded", "withdrawn", "discarded", "kept"):
            assert getattr(statistics, name) == counts[name]
        assert statistics.late == counts["late"]
        for word, count in statistics.anomalies.items():
            assert count == counts[word]
        assert statistics.accepted == (
            statistics.committed + statistics.superseded + statistics.withdrawn
        )
        assert statistics.held == len(self.held)
        assert statistics.held_at_start == self.held_at_start
        topics = [one for name, one in statistics.topics.items() if name != "gaps"]
        came = sum(one.found for one in topics) + statistics.committed
        went = sum(one.acknowledged + one.waiting for one in topics)
        assert came + self.held_at_start == went + statistics.discarded + len(self.held)
        assert statistics.lost_rows == 0


def test_events_are_judged_by_all_that_came_before() -> None:
    """No restart, failure or damage changes how an event is judged."""
    explore(OrderAgainstModel, share=1 / 3, steps=25)
