"""
A store and its model, and what must hold of both after every step.

What steps there are stands in `test_store`.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from pathlib import Path

from bridge.outbox.disk.schema import new_incarnation, open_database
from bridge.outbox.tallies import Tally
from hypothesis.stateful import RuleBasedStateMachine, invariant

from bridge.events.record import StoredRecord
from bridge.outbox.store import Store
from tests.models import job_model
from tests.models.outbox_files import FOLDER
from tests.models.store_model import Log, Model
from tests.outbox.making import PLENTY_BYTES, stored


PARTITIONS = 2


class Agreement(RuleBasedStateMachine):
    """Compares the two; rules that change both come from who inherits."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory(dir=FOLDER)
        self.path = Path(self.folder.name) / "outbox.sqlite3"
        self.model = Model()
        self.copy: Model | None = None
        self.was_put_back = False
        # The world: it goes on whatever happens to the file.
        self.logs = [Log() for _ in range(PARTITIONS)]
        self.topics = 1
        # What each log showed of rows without a lane, at the opening.
        self.unplaced: dict[int, dict[str, int]] = {}
        self.count = 0
        self.now = 0
        self.keys: dict[int, bytes | None] = {}
        self.origins: dict[int, str] = {}
        self.ce_ids: dict[int, str] = {}
        self.sent: set[int] = set()
        self.lives = job_model.Lives()
        self.small_steps = job_model.small_steps()
        self.small_steps.start()
        self.start()

    def start(self) -> None:
        """Open the file, as a new process does."""
        self.store = Store(
            open_database(self.path, max_bytes=PLENTY_BYTES), new_incarnation()
        )
        self.is_open = False
        # What this process has seen of rows, and so can tell of them.
        self.appended: Counter[str] = Counter()
        self.seen: set[int] = set()
        self.letters: Counter[str] = Counter()
        self.put_aside: Counter[str] = Counter()

    def teardown(self) -> None:
        """Leave no file behind."""
        self.store.close()
        self.folder.cleanup()
        self.small_steps.stop()

    def read(self, partition: int, after: int, rows: int) -> list[StoredRecord]:
        """Read rows of a lane."""
        return self.store.read("jobs", partition, after, rows, PLENTY_BYTES)

    @invariant()
    def counts_agree(self) -> None:
        """Nothing that waits is forgotten, nothing that doesn't is counted."""
        self.now += 1
        waiting, letters = len(self.model.waiting), self.model.dead_letters
        assert self.store.pending == waiting + letters
        assert self.store.quarantined == self.model.quarantined

    @invariant()
    def tallies_agree(self) -> None:
        """What came is what went and what waits, by origin, whatever happened."""
        waits = Counter(
            self.origins[number] for number in self.model.waiting if number in self.seen
        )
        tallies = self.store.counting.tallies.read()
        for origin in ("socket", "webhook"):
            tally = tallies.get(("event", origin), Tally())
            came = tally.committed + tally.found + tally.resent
            went = tally.published + tally.dead_lettered + tally.quarantined
            assert came == went + tally.lost + tally.waiting
            assert tally.committed == self.appended[origin]
            assert tally.waiting == waits[origin] + self.letters[origin]
            assert tally.quarantined == self.put_aside[origin]
        assert tallies.keys() <= {("event", "socket"), ("event", "webhook")}

    @invariant()
    def jobs_agree(self) -> None:
        """A job is where its last committed event left it, after a restart as well."""
        self.lives.check(self.model, self.store.jobs)
        with stored(self.path) as opened_now:
            self.lives.check(self.model, opened_now.jobs)

    @invariant()
    def states_agree(self) -> None:
        """The relay is told what is so."""
        states = {state.partition: state for state in self.store.lane_states()}
        for partition, lane in self.model.lanes.items():
            state = states[partition]
            assert state.acknowledged_sequence == lane.acknowledged
            assert state.last_sequence == lane.last_row
            assert state.resent_sequence == lane.resent
            assert state.topic_id == lane.topic_id
            assert state.resume_offset == lane.resume_offset
            last = max(lane.offsets, default=0)
            stands = last and lane.offsets[last] == lane.resume_offset
            assert state.resume_ce_id == (
                self.ce_ids[lane.rows[last]] if stands else None
            )

    @invariant()
    def rows_agree(self) -> None:
        """Every lane reads as it should, and no identity changes or comes twice."""
        for partition, lane in self.model.lanes.items():
            after, rows = 0, []
            while more := self.read(partition, after, 5):
                rows += more
                after = more[-1].sequence
            assert {row.sequence: job_model.number_of(row) for row in rows} == lane.rows
            for row in rows:
                known = self.ce_ids[job_model.number_of(row)] or row.ce_id
                assert known == row.ce_id
                self.ce_ids[job_model.number_of(row)] = row.ce_id
            after, offsets = 0, {}
            while told := self.store.delivered("jobs", partition, after, 3):
                offsets.update({row.sequence: row.offset for row in told})
                after = told[-1].sequence
                assert [self.ce_ids[lane.rows[row.sequence]] for row in told] == [
                    row.ce_id for row in told
                ]
            assert offsets == lane.offsets
        seen = [ce_id for ce_id in self.ce_ids.values() if ce_id]
        assert len(set(seen)) == len(seen)

    @invariant()
    def nothing_is_lost(self) -> None:
        """The model itself is right: what doesn't wait was sent, or set aside."""
        model = self.model
        assert model.numbers - model.waiting <= self.sent | model.set_aside
