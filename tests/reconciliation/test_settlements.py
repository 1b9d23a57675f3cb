"""The books of gaps: each is told when no job waits, and when that is corrected."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from bridge.reconciliation.budget import Purpose
from bridge.reconciliation.order import Key
from bridge.reconciliation.settlements import Fate, Settlements
from bridge.reconciliation.statistics import ReconciliationStatistics
from bridge.record import JobInFlight


class Told:
    """What was told of gaps, in order."""

    def __init__(self) -> None:
        self.all: list[tuple[str, int, bool]] = []

    def __call__(self, gap_id: str, unknown: int, *, final: bool = False) -> None:
        """Keep it."""
        self.all.append((gap_id, unknown, final))

    @property
    def last(self) -> dict[str, int]:
        """Give the last number of each gap."""
        return {gap_id: unknown for gap_id, unknown, _ in self.all}


def books(max_entries: int = 1000) -> tuple[Settlements, Told]:
    """Give empty books of two accounts."""
    told = Told()
    statistics = ReconciliationStatistics(["42", "43"])
    return Settlements(told, statistics, max_entries), told


def jobs(names: Iterable[str], seen_us: int = 0) -> list[JobInFlight]:
    """Give jobs."""
    return [JobInFlight(name, "in_progress", None, seen_us) for name in names]


def close(  # noqa: PLR0917 - as a gap is told of
    settlements: Settlements,
    gap_id: str,
    who: str,
    jobs: list[JobInFlight],
    at: float,
    unknown: int = 0,
) -> None:
    """Enter a gap with its jobs."""
    if settlements.begin(gap_id, at, unknown):
        settlements.add(gap_id, who, jobs[:2])
        settlements.add(gap_id, who, jobs[2:])
        settlements.complete(gap_id)


def keys(names: Iterable[str]) -> list[Key]:
    """Give the same as keys of an account."""
    return [("42", name) for name in names]


def test_gap_is_told_when_its_last_job_is_determined() -> None:
    """With the number of those that are unknown."""
    settlements, told = books()
    close(settlements, "g", "42", jobs("abc"), 0)
    settlements.determined(keys("a"), Fate.UNKNOWN)
    settlements.determined(keys("b"), Fate.ENDED)
    assert told.all == []
    settlements.determined(keys("c"), Fate.GOES_ON)
    assert told.all == [("g", 1, False)]


def test_gap_is_not_told_before_all_of_its_jobs_are_there() -> None:
    """Though what came first is determined by then."""
    settlements, told = books()
    assert settlements.begin("g", 0)
    settlements.add("g", "42", jobs("a"))
    settlements.determined(keys("a"), Fate.ENDED)
    settlements.add("g", "42", jobs("b"))
    settlements.determined(keys("b"), Fate.UNKNOWN)
    assert told.all == []
    settlements.complete("g")
    assert told.all == [("g", 1, False)]


def test_many_at_once_are_told_in_one() -> None:
    """A thousand corrections are one record."""
    settlements, told = books()
    names = [str(number) for number in range(1000)]
    close(settlements, "g", "42", jobs(names), 0)
    settlements.determined(keys(names), Fate.UNKNOWN)
    settlements.determined(keys(names), Fate.ENDED)
    assert told.all == [("g", 1000, False), ("g", 0, False)]


def test_gap_without_jobs_is_told_at_once() -> None:
    """It leaves nothing behind, and is told again when it is closed again."""
    settlements, told = books()
    close(settlements, "g", "42", [], 0)
    assert told.all == [("g", 0, False)]
    assert settlements.waiting("g") == []


def test_gap_that_is_in_the_books_stays_as_it_is() -> None:
    """Whoever tells of it twice changes nothing."""
    settlements, told = books()
    close(settlements, "g", "42", jobs("a"), 0)
    close(settlements, "g", "42", [], 0)
    assert (told.all, settlements.latest) == ([], 1)


def test_later_gap_waits_on_where_the_earlier_is_told() -> None:
    """What is known up to a gap says nothing of the next one."""
    settlements, told = books()
    close(settlements, "first", "42", jobs("a"), 0)
    close(settlements, "second", "42", jobs("ab"), 0)
    settlements.determined(keys("a"), Fate.GOES_ON, up_to=1)
    assert told.last == {"first": 0}
    assert settlements.waits(("42", "a"))
    settlements.determined(keys("ab"), Fate.UNKNOWN)
    assert told.last == {"first": 0, "second": 2}


def test_job_is_counted_as_unknown_when_no_gap_waits_for_it() -> None:
    """Once for all gaps that it was unknown for, and not while one still waits."""
    told = Told()
    statistics = ReconciliationStatistics(["42"])
    settlements = Settlements(told, statistics)
    close(settlements, "first", "42", jobs("a"), 0)
    close(settlements, "second", "42", jobs("a"), 0)
    settlements.determined(keys("a"), Fate.UNKNOWN, up_to=1)
    assert told.last == {"first": 1}
    assert statistics.unknown == {"42": 0}
    settlements.determined(keys("a"), Fate.UNKNOWN)
    assert statistics.unknown == {"42": 1}
    settlements.determined(keys("a"), Fate.ENDED)
    assert told.last == {"first": 0, "second": 0}
    assert statistics.unknown == {"42": 1}


def test_job_of_another_account_is_another_job() -> None:
    """Even if it has the same name."""
    settlements, told = books()
    close(settlements, "42s", "42", jobs("a"), 0)
    close(settlements, "43s", "43", jobs("a"), 0)
    settlements.determined([("43", "a")], Fate.ENDED)
    assert told.last == {"43s": 0}
    assert settlements.jobs("43") == {}
    assert list(settlements.jobs("42")) == keys("a")


def test_table_tells_what_goes_on_and_what_has_ended() -> None:
    """A job that the outbox forgot by its age has not ended."""
    settlements, told = books()
    [same, heard, ended] = jobs(["same", "heard", "ended"], 1000)
    [old] = jobs(["old"], 10)
    close(settlements, "g", "42", [same, heard, ended, old], 0)
    found = {
        ("42", "same"): same,
        ("42", "heard"): jobs(["heard"], 1001)[0],
        ("42", "ended"): None,
        ("42", "old"): None,
        ("42", "never-there"): None,
    }
    settlements.look_up(found, forgotten_us=10)
    assert settlements.waiting("g") == keys(["same"])
    settlements.determined(keys(["same"]), Fate.ENDED)
    assert told.all == [("g", 1, False)]
    settlements.determined(keys(["old"]), Fate.ENDED)
    assert told.all == [("g", 1, False)]


@pytest.mark.parametrize(("names", "unknown"), [("", 5), ("ab", 3), ("abcdef", 0)])
def test_job_that_was_forgotten_since_the_process_before_stays_unknown(
    names: str, unknown: int
) -> None:
    """It said that five are: of those that are not in flight nobody will tell."""
    settlements, told = books()
    close(settlements, "g", "42", jobs(names), 0, unknown=5)
    settlements.determined(keys(names), Fate.ENDED)
    assert told.all == [("g", unknown, False)]


def test_oldest_gap_goes_when_there_are_too_many_jobs() -> None:
    """For good, with all of which nothing is known."""
    settlements, told = books(max_entries=5)
    close(settlements, "old", "42", jobs("abc"), 0)
    settlements.determined(keys("a"), Fate.UNKNOWN)
    close(settlements, "new", "42", jobs("bcd"), 0)
    assert told.all == [("old", 3, True)]
    settlements.determined(keys("abcd"), Fate.ENDED)
    assert told.all == [("old", 3, True), ("new", 0, False)]


def test_old_gaps_are_let_go_of() -> None:
    """One that was told is not told again; one that waits is, for good."""
    settlements, told = books()
    close(settlements, "told", "42", jobs("a"), 1.0)
    settlements.determined(keys("a"), Fate.UNKNOWN)
    close(settlements, "waits", "42", jobs("b"), 2.0)
    close(settlements, "young", "42", jobs("c"), 3.0)
    settlements.expire(3.0)
    assert told.all == [("told", 1, False), ("waits", 1, True)]
    assert list(settlements.jobs("42")) == keys("c")


class Model(RuleBasedStateMachine):
    """The books against lists that are searched each time."""

    @initialize(most=st.sampled_from([6, 1000]))
    def begin(self, most: int) -> None:
        """Open the books."""
        self.most = most
        self.told = Told()
        self.statistics = ReconciliationStatistics(["42", "43"])
        self.settlements = Settlements(self.told, self.statistics, most)
        # By gap: what is known of each job, of all gaps that there ever were.
        self.gaps: dict[str, dict[Key, Fate | None]] = {}
        self.gone: set[str] = set()

    @rule(who=st.sampled_from(["42", "43"]), names=st.sets(st.sampled_from("abcd")))
    def close(self, who: str, names: set[str]) -> None:
        """Close a gap."""
        gap_id = f"g{len(self.gaps) + 1}"
        close(self.settlements, gap_id, who, jobs(sorted(names)), float(len(self.gaps)))
        self.gaps[gap_id] = dict.fromkeys((who, name) for name in names)
        while sum(map(len, self._kept().values())) > self.most:
            self._let_go(next(iter(self._kept())))

    @precondition(lambda self: self.gaps)
    @rule(
        names=st.sets(
            st.tuples(st.sampled_from(["42", "43"]), st.sampled_from("abcd"))
        ),
        fate=st.sampled_from(Fate),
        data=st.data(),
    )
    def determine(self, names: set[Key], fate: Fate, data: st.DataObject) -> None:
        """Determine jobs of all gaps, or of those up to one."""
        up_to = data.draw(st.none() | st.integers(1, len(self.gaps)))
        self.settlements.determined(names, fate, up_to)
        for number, (gap_id, known) in enumerate(self.gaps.items(), 1):
            if gap_id in self.gone or (up_to is not None and number > up_to):
                continue
            for key in names & known.keys():
                if fate is not Fate.UNKNOWN or known[key] is None:
                    known[key] = fate

    @precondition(lambda self: self.gaps)
    @rule(data=st.data())
    def expire(self, data: st.DataObject) -> None:
        """Let go of old gaps."""
        before = data.draw(st.integers(0, len(self.gaps)))
        self.settlements.expire(float(before))
        for gap_id in list(self.gaps)[:before]:
            self._let_go(gap_id)

    def _let_go(self, gap_id: str) -> None:
        known = self.gaps[gap_id]
        if gap_id not in self.gone:
            self.gaps[gap_id] = {k: v or Fate.UNKNOWN for k, v in known.items()}
        self.gone.add(gap_id)

    def _kept(self) -> dict[str, dict[Key, Fate | None]]:
        """Give what the books hold: what waits or is unknown, of gaps not let go of."""
        return {
            gap_id: {k: v for k, v in known.items() if v in {None, Fate.UNKNOWN}}
            for gap_id, known in self.gaps.items()
            if gap_id not in self.gone
        }

    @invariant()
    def says_what_is_so(self) -> None:
        """Each gap without waiting jobs was told, with the right number."""
        if not hasattr(self, "gaps"):
            return
        expected = {
            gap_id: Counter(known.values())[Fate.UNKNOWN]
            for gap_id, known in self.gaps.items()
            if None not in known.values()
        }
        assert self.told.last == expected

    @invariant()
    def tells_no_number_twice(self) -> None:
        """What hasn't changed isn't said again."""
        last: dict[str, int] = {}
        for gap_id, unknown, _ in getattr(self, "told", Told()).all:
            assert last.get(gap_id) != unknown
            last[gap_id] = unknown

    @invariant()
    def counts_what_waits(self) -> None:
        """The gauge is the number of jobs that wait for any gap."""
        if not hasattr(self, "gaps"):
            return
        waiting = {
            key
            for known in self._kept().values()
            for key, fate in known.items()
            if fate is None
        }
        count = Counter(who for who, _ in waiting)
        for who in ("42", "43"):
            assert self.statistics.waiting[who, Purpose.GAP] == count[who]
        entries = sum(map(len, self._kept().values()))
        assert self.settlements._entries == entries <= self.most
        held = {key for known in self._kept().values() for key in known}
        assert {k for who in ("42", "43") for k in self.settlements.jobs(who)} == held


TestModel = Model.TestCase
TestModel.settings = settings(max_examples=60, stateful_step_count=25)
