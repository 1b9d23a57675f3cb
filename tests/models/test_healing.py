"""
What heals against a model: each job ends once, whoever tells it, whatever happens.

Hypothesis looks for transactions, failures, restarts, kills and damaged files after
which a job has two last records, or none though one was told, or a webhook is held or
taken twice.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import msgspec
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
)

from bridge.job_status import TERMINAL_STATUSES
from bridge.outbox.inheriting import inherit, take_over
from bridge.outbox.jobs.in_flight import Jobs
from bridge.outbox.jobs.order import Order
from bridge.outbox.opening import Opened, open_outbox
from bridge.outbox.salvage import salvage
from bridge.record import JobInFlight, Record
from tests.models import job_model
from tests.models.exploring import explore
from tests.outbox.healing import answer, delivery
from tests.outbox.making import PLENTY_BYTES, event, source_of, undone


_FOLDER = "/dev/shm" if Path("/dev/shm").is_dir() else None  # noqa: S108 - faster

_JOBS = st.sampled_from("ab")
# Jobs that go on are told of more often than others.
_STATUSES = st.sampled_from(("processing", *["in_progress"] * 4, "done", "error"))
_EVENTS = st.lists(st.tuples(_JOBS, _STATUSES), max_size=4)
_TAKES = st.lists(st.tuples(st.integers(0, 9), _JOBS, _STATUSES), max_size=3)
_RELEASES = st.lists(st.integers(0, 3), max_size=2)
_HEALS = st.lists(st.tuples(_JOBS, _STATUSES), max_size=2)


def _late(record: Record) -> Record:
    return msgspec.structs.replace(record, topic="dlq", status=None)


class HealingAgainstModel(RuleBasedStateMachine):
    """Rules change both; what is answered and what is there are compared at once."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory(dir=_FOLDER)
        self.files = 0
        self.now_us = 0
        # What stands on `jobs`, in order, as the model has it.
        self.stream: list[tuple[str, str]] = []
        self.held: list[tuple[str, str]] = []
        self.taken: set[int] = set()
        # What somebody knew of a job some time ago, and asks dryAPI about.
        self.asked: dict[str, JobInFlight] = {}
        self.asked_of: dict[str, tuple[str, ...]] = {}
        self.small_steps = job_model.small_steps()
        self.small_steps.start()

    @initialize()
    def start(self) -> None:
        """Open the first file."""
        self._open(self._next_path())

    def _next_path(self) -> Path:
        self.files += 1
        return Path(self.folder.name) / f"{self.files}.sqlite3"

    def _open(self, path: Path) -> None:
        self.path = path
        self.opened: Opened = open_outbox(path, PLENTY_BYTES, Order(Jobs(), _late))
        self.store = self.opened.store

    def teardown(self) -> None:
        """Leave no file behind."""
        if self.files:
            self.store.close()
        self.folder.cleanup()
        self.small_steps.stop()

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

    # -- The file ----------------------------------------------------------------

    @rule()
    def restart(self) -> None:
        """Another process opens the file."""
        self.store.close()
        self._open(self.path)

    @rule()
    def kill(self) -> None:
        """Another process opens the file as it stands, log and all."""
        path = self._next_path()
        for end in ("", "-wal"):
            shutil.copy(f"{self.path}{end}", f"{path}{end}")
        self.store.close()
        self._open(path)

    @rule(knows=st.booleans())
    def set_aside(self, *, knows: bool) -> None:
        """The file is found damaged: by a new process, or one that goes on."""
        aside = self.path
        if knows:
            before = self.store
            before.close()
            self.path = self._next_path()
            self.opened = open_outbox(
                self.path, PLENTY_BYTES, before.order, is_heir=True
            )
            self.store = self.opened.store
            take_over(aside, before.remembered, before.pins, self.opened)
        else:
            self.store.close()
            self._open(self._next_path())
            inherit(aside, self.opened)
        salvage(aside, self.opened, lambda *_: 0, lambda: None)

    # -- What must hold ----------------------------------------------------------

    @invariant()
    def the_stream_agrees(self) -> None:
        """Nothing follows a job's end, and there is one, if anybody told it."""
        if not self.files:
            return
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
        if not self.files:
            return
        healer = self.store.healer
        with self.store.reading():
            found = [(held.record.key, held.record.status) for held in healer.held(99)]
        assert found == [(job.encode(), status) for job, status in self.held]
        assert healer.holding.count == len(self.held)


def test_each_job_ends_once_however_its_end_is_learned() -> None:
    """No order of webhooks, answers and events writes a second end, or none."""
    explore(HealingAgainstModel, share=1 / 6, steps=20)
