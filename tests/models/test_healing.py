"""Ends of jobs from socket, webhooks and status answers, against a model of the topic.

State: an outbox's file with held webhooks, and what the topic should hold. The three
meet in one transaction, in each order; transactions fail, processes restart or are
killed, files are damaged and replaced.

Invariant: a job ends once, whoever reports it, and ends if anybody does; a webhook is
held once, in its order, until it is released.

An order of 20 rules takes 30 ms.
"""

from __future__ import annotations

import msgspec
from bridge.outbox.jobs.in_flight import Jobs
from bridge.outbox.jobs.order import Order
from hypothesis import strategies as st
from hypothesis.stateful import (
    initialize,
    invariant,
    rule,
)

from bridge.events.job_status import TERMINAL_STATUSES
from bridge.events.record import Record
from bridge.outbox.values import JobInFlight
from tests.models.exploring import explore
from tests.models.outbox_files import OutboxFiles
from tests.outbox.healing import answer, delivery
from tests.outbox.making import event, source_of, undone


_JOBS = st.sampled_from("ab")
# Jobs that go on are told of more often than others.
_STATUSES = st.sampled_from(("processing", *["in_progress"] * 4, "done", "error"))
_EVENTS = st.lists(st.tuples(_JOBS, _STATUSES), max_size=4)
_TAKES = st.lists(st.tuples(st.integers(0, 9), _JOBS, _STATUSES), max_size=3)
_RELEASES = st.lists(st.integers(0, 3), max_size=2)
_HEALS = st.lists(st.tuples(_JOBS, _STATUSES), max_size=2)


def _late(record: Record) -> Record:
    return msgspec.structs.replace(record, topic="dlq", status=None)


class HealingAgainstModel(OutboxFiles):
    """Rules change both; what is answered and what is there are compared at once."""

    def __init__(self) -> None:
        super().__init__()
        self.now_us = 0
        # What stands on `jobs`, in order, as the model has it.
        self.stream: list[tuple[str, str]] = []
        self.held: list[tuple[str, str]] = []
        self.taken: set[int] = set()
        # What somebody knew of a job some time ago, and asks dryAPI about.
        self.asked: dict[str, JobInFlight] = {}
        self.asked_of: dict[str, tuple[str, ...]] = {}

    @initialize()
    def start(self) -> None:
        """Open the first file."""
        self.open_first()

    def new_order(self) -> Order:
        """Give the judge of a new process."""
        return Order(Jobs(), _late)

    # -- Records ---------------------------------------------------------------

    @rule(
        takes=_TAKES,
        events=_EVENTS,
        releases=_RELEASES,
        heals=_HEALS,
        notes=st.booleans(),
        is_undone=st.booleans(),
    )
    def commit(
        self,
        takes: list[tuple[int, str, str]],
        events: list[tuple[str, str]],
        releases: list[int],
        heals: list[tuple[str, str]],
        *,
        notes: bool,
        is_undone: bool,
    ) -> None:
        """In one transaction, as `commit` has them; what was undone is tried again."""
        records = [self._event(*one) for one in events]

        def work() -> list[bool]:
            if notes:
                self.store.job_table.write_if_due()
            taken = [self._take(*one) for one in takes]
            self.store.append(records)
            return taken + self._heal(heals) + self._release(releases)

        if is_undone:
            with undone(self.store):
                work()
        with self.store.transaction():
            answers = work()
        expected = self._expect_takes(takes)
        before = self.last_heard()
        for one in events:
            self._tell(*one)
        expected += self._expect_heals(heals, before, {job for job, _ in events})
        expected += self._expect_releases(releases)
        assert answers == expected
        self.now_us += 1

    # -- What the outbox does --------------------------------------------------

    def _take(self, number: int, job: str, status: str) -> bool:
        return self.store.healer.take(delivery(f"{number}", job, status))

    def _heal(self, heals: list[tuple[str, str]]) -> list[bool]:
        return [
            self.store.healer.heal(answer(known, status, at_us=self.now_us + 1))
            for job, status in heals
            if (known := self.asked.get(job)) is not None
        ]

    def _release(self, releases: list[int]) -> list[bool]:
        healer = self.store.healer
        places = [held.place for held in healer.held(4)]
        return [
            healer.release(places[index], ())
            for index in releases
            if index < len(places)
        ]

    # -- What it should do -----------------------------------------------------

    def last_heard(self) -> dict[str, tuple[str, ...]]:
        """Give what was published of each job."""
        heard: dict[str, tuple[str, ...]] = {}
        for job, status in self.stream:
            heard[job] = (*heard.get(job, ()), status)
        return heard

    def _event(self, job: str, status: str) -> Record:
        self.now_us += 1
        return event(job, status, self.now_us, progress=f"{self.now_us}")

    def _tell(self, job: str, status: str) -> None:
        if not self._has_ended(job):
            self.stream.append((job, status))

    def _has_ended(self, job: str) -> bool:
        return any(
            one == job and status in TERMINAL_STATUSES for one, status in self.stream
        )

    def _expect_takes(self, takes: list[tuple[int, str, str]]) -> list[bool]:
        expected = []
        for number, job, status in takes:
            expected.append(number not in self.taken)
            if number not in self.taken:
                self.taken.add(number)
                self.held.append((job, status))
        return expected

    def _expect_heals(
        self,
        heals: list[tuple[str, str]],
        before: dict[str, tuple[str, ...]],
        heard: set[str],
    ) -> list[bool]:
        expected = []
        for job, status in heals:
            if job in self.asked:
                is_same = self.asked_of[job] == before.get(job) and job not in heard
                expected.append(is_same)
                if is_same:
                    self._tell(job, status)
                    heard.add(job)
        return expected

    def _expect_releases(self, releases: list[int]) -> list[bool]:
        first = self.held[:4]
        left: set[int] = set()
        expected = []
        for index in releases:
            if index >= len(first):
                continue
            job, status = first[index]
            is_known = any(one == job for one, _ in self.stream)
            tells = status in TERMINAL_STATUSES or not is_known
            needed = index not in left and tells and not self._has_ended(job)
            left.add(index)
            expected.append(needed)
            if needed:
                self._tell(job, status)
        self.held = [one for n, one in enumerate(self.held) if n not in left]
        return expected

    @rule()
    def look_up(self) -> None:
        """Somebody asks dryAPI about all jobs that are in flight now."""
        for job, heard in self.last_heard().items():
            known = self.store.jobs.find(source_of(7), job)
            assert (known is not None) is not self._has_ended(job)
            if known is not None:
                self.asked[job], self.asked_of[job] = known, heard

    # -- What must hold ----------------------------------------------------------

    @invariant()
    def the_stream_agrees(self) -> None:
        """Nothing follows a job's end, and there is one, if anybody told it."""
        rows = self.opened.connection.execute(
            "SELECT rows.value FROM rows, lanes"
            " WHERE lanes.id = rows.position >> 40 AND lanes.topic = 'jobs'"
            " ORDER BY rows.position"
        )
        written = [msgspec.json.decode(value) for (value,) in rows]
        assert [(one["request_id"], one["status"]) for one in written] == self.stream

    @invariant()
    def webhooks_agree(self) -> None:
        """Each is held once, in its order, until it is let go."""
        healer = self.store.healer
        with self.store.reading():
            found = [(held.record.key, held.record.status) for held in healer.held(99)]
        assert found == [(job.encode(), status) for job, status in self.held]
        assert healer.holding.count == len(self.held)


def test_each_job_ends_once_however_its_end_is_learned() -> None:
    """No order of webhooks, answers and events writes a second end, or none."""
    explore(HealingAgainstModel, share=1 / 6, steps=20)
