"""The last record of a gap against what became of its jobs, over many processes.

State: gaps, and ends of jobs on their way through the outbox: offered, written,
reported, or lost with the process.

Invariant: each end is counted once in each gap that it heals; the last record of a gap
has these counts, its end and its unknown jobs; the next process learns of the gaps that
aren't over; metrics are of this process.

An order of 40 rules takes 10 ms.
"""

from __future__ import annotations

from collections import Counter, defaultdict

import msgspec
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from bridge.events.record import Origin
from bridge.gaps.gap import Gap, GapCause
from tests.gaps.books import NOW_US, Books
from tests.models.exploring import explore


_ACCOUNTS = ("1", "2")
_who = st.sampled_from(_ACCOUNTS)
_which = st.integers(0, 30)
_rarely = st.sampled_from([False] * 5 + [True])
_near = st.integers(-2, 2)
_origins = st.sampled_from([Origin.STATUS_ENDPOINT, Origin.WEBHOOK])
_DAY_AND_HOUR_US = 25 * 3600 * 1_000_000


class _Truth:
    """A gap as it really is."""

    def __init__(self, who: str, since_us: int) -> None:
        self.who = who
        self.since_us = since_us
        self.until_us: int | None = None
        self.healed: Counter[Origin] = Counter()
        self.unknown: int | None = None
        self.is_remembered = True
        self.lost = self.unknown_before = 0

    def heals_known(self, last_seen_us: int) -> bool:
        """Whether it may have swallowed the end of a job that was seen."""
        if self.until_us is None:
            return True
        return self.is_remembered and last_seen_us < self.until_us

    def heals_unseen(self, ended_us: int, now_us: int) -> bool:
        """Whether a job ended in it that was never seen."""
        until_us = now_us if self.until_us is None else self.until_us
        return self.since_us <= ended_us <= until_us


class _End(msgspec.Struct):
    """The end of a job on its way through the outbox."""

    gap_ids: tuple[str, ...]
    origin: Origin
    is_written: bool = False


class LedgerAgainstWhatHappened(RuleBasedStateMachine):
    """Rules let things happen; invariants read what was reported of them."""

    def __init__(self) -> None:
        super().__init__()
        self.now = NOW_US
        self.gaps: dict[str, _Truth] = {}
        self.topic: dict[str, list[Gap]] = defaultdict(list)
        self.start({}, {})

    def start(
        self, remembered: dict[str, bytes], healed: dict[str, tuple[int, int]]
    ) -> None:
        """Start a process with what is on disk."""
        self.known = set(remembered)
        self.ends: list[_End] = []
        self.counted: Counter[tuple[str, Origin]] = Counter()
        self.read = 0
        self.books = Books(
            *_ACCOUNTS, remembered=remembered, healed=healed, now_us=self.now
        )

    def tick(self) -> int:
        """Let time go on."""
        self.now += 1
        self.books.now_us = self.now
        return self.now

    def those(self, *, are_open: bool) -> list[str]:
        """Give the gaps that this process knows, open or closed."""
        return [
            gap_id
            for gap_id, truth in self.gaps.items()
            if gap_id in self.known and (truth.until_us is None) == are_open
        ]

    @rule(who=_who, ago=st.integers(0, 9))
    def open(self, who: str, ago: int) -> None:
        """A gap begins, as is known some time later; losses are many at once."""
        since_us = self.tick() - ago
        gap_id = self.books.ledger.open(who, GapCause.OVERFLOW, since_us)
        self.gaps[gap_id] = _Truth(who, since_us)
        self.known.add(gap_id)

    @precondition(lambda self: self.those(are_open=True))
    @rule(which=_which)
    def close(self, which: int) -> None:
        """A gap ends."""
        those = self.those(are_open=True)
        gap_id = those[which % len(those)]
        self.gaps[gap_id].until_us = self.tick()
        self.books.ledger.close(gap_id, self.now)

    @rule(who=_who, which=_which, unknown=st.integers(0, 3))
    def resolve(self, who: str, which: int, unknown: int) -> None:
        """It is found out what became of the jobs of a closed one, or again."""
        those = self.books.ledger.unresolved(who)
        if not those:
            return
        closed = those[which % len(those)]
        truth = self.gaps[closed.gap.gap_id]
        # What fewer are in flight than before the restart, the outbox has forgotten.
        truth.lost += max(0, truth.unknown_before - unknown)
        truth.unknown_before = 0
        truth.unknown = unknown + truth.lost
        truth.is_remembered = truth.unknown > 0
        self.books.ledger.resolve(closed, unknown)

    @precondition(lambda self: self.known)
    @rule(which=_which, origin=_origins, near=_near, at_once=st.booleans())
    def offer_end_of_known(
        self, which: int, origin: Origin, near: int, *, at_once: bool
    ) -> None:
        """The end of a job comes that was last seen about when a gap ended."""
        who, last_seen_us = self.about(which, near)
        gap_ids = self.books.ledger.healable(who, last_seen_us, None)
        assert Counter(gap_ids) == Counter(
            gap_id
            for gap_id in self.known
            if self.gaps[gap_id].who == who
            and self.gaps[gap_id].heals_known(last_seen_us)
        )
        self.offer(gap_ids, origin, at_once=at_once)

    @precondition(lambda self: self.known)
    @rule(which=_which, near=_near, at_once=st.booleans())
    def offer_end_of_unseen(self, which: int, near: int, *, at_once: bool) -> None:
        """A webhook comes of a job that was never seen, and ended about then."""
        who, ended_us = self.about(which, near)
        gap_ids = self.books.ledger.healable(who, None, ended_us)
        assert Counter(gap_ids) == Counter(
            gap_id
            for gap_id in self.known
            if self.gaps[gap_id].who == who
            and self.gaps[gap_id].heals_unseen(ended_us, self.now)
        )
        self.offer(gap_ids, Origin.WEBHOOK, at_once=at_once)

    def about(self, which: int, near: int) -> tuple[str, int]:
        """Give the account of a gap, and a moment near one of its bounds."""
        self.tick()
        those = [gap_id for gap_id in self.gaps if gap_id in self.known]
        truth = self.gaps[those[which % len(those)]]
        bounds = [truth.since_us, truth.until_us or self.now]
        return truth.who, bounds[which % 2] + near

    def offer(self, gap_ids: tuple[str, ...], origin: Origin, *, at_once: bool) -> None:
        """Give an end to the outbox; mostly it is written and reported soon."""
        end = _End(gap_ids, origin)
        self.ends.append(end)
        if at_once:
            self.write(end)
            self.tell(end)

    @precondition(lambda self: self.ends)
    @rule(which=_which, is_needed=st.sampled_from([True, True, False]))
    def write_end(self, which: int, *, is_needed: bool) -> None:
        """The outbox writes one, or the job's own event was there before."""
        end = self.ends[which % len(self.ends)]
        if end.is_written:
            return
        if is_needed:
            self.write(end)
        else:
            self.ends.remove(end)

    def write(self, end: _End) -> None:
        """Let the outbox write one."""
        end.is_written = True
        self.books.write_end(end.gap_ids, end.origin)

    @precondition(lambda self: any(end.is_written for end in self.ends))
    @rule()
    def tell_of_end(self) -> None:
        """The ledger learns of one that stands."""
        self.tell(next(end for end in self.ends if end.is_written))

    def tell(self, end: _End) -> None:
        """Let the ledger count one."""
        self.ends.remove(end)
        self.books.ledger.healed(end.gap_ids, end.origin)
        for gap_id in end.gap_ids:
            self.gaps[gap_id].healed[end.origin] += 1
        for who in {self.gaps[gap_id].who for gap_id in end.gap_ids}:
            self.counted[who, end.origin] += 1

    @precondition(lambda self: self.now % 5 == 0)
    @rule(is_long=_rarely, is_written=st.booleans())
    def kill(self, *, is_long: bool, is_written: bool) -> None:
        """What was written stays; of the rest nothing is known, and nothing counted."""
        self.read_topic()
        for end in self.ends if is_written else []:
            if not end.is_written:
                self.write(end)
        for end in self.ends:
            for gap_id in end.gap_ids:
                if end.is_written and self.gaps[gap_id].is_remembered:
                    self.gaps[gap_id].healed[end.origin] += 1
        self.now += _DAY_AND_HOUR_US if is_long else 1
        books = self.books
        self.start(books.remembered, books.healed)
        for gap_id, truth in self.gaps.items():
            if truth.until_us is None:
                # A loss ends with its process; nothing was proved of what came after.
                truth.until_us = truth.since_us
            truth.lost, truth.unknown_before = 0, truth.unknown or 0
            is_old = self.now - truth.until_us >= _DAY_AND_HOUR_US
            if is_old and truth.unknown is not None:
                truth.is_remembered = False
                self.known.discard(gap_id)

    def read_topic(self) -> None:
        """Read what has come to the topic: opened once, closed once, settled then."""
        for record in self.books.records[self.read :]:
            gap = Gap.decode(record.value)
            before = self.topic[gap.gap_id]
            if gap.until_us is None:
                assert not before
            elif not gap.is_resolved:
                assert [told.until_us for told in before] == [None]
            else:
                assert before[-1].until_us == gap.until_us
                assert before[-1].healed_by_webhook <= gap.healed_by_webhook
            before.append(gap)
        self.read = len(self.books.records)

    @invariant()
    def last_record_says_what_happened(self) -> None:
        """Each end is counted once, in each gap that it healed, and none too many."""
        self.read_topic()
        for gap_id, truth in self.gaps.items():
            last = self.topic[gap_id][-1]
            assert (last.until_us, last.unknown) == (truth.until_us, truth.unknown)
            if truth.unknown is not None:
                assert last.healed_by_webhook == truth.healed[Origin.WEBHOOK]
                by_endpoint = truth.healed[Origin.STATUS_ENDPOINT]
                assert last.healed_by_status_endpoint == by_endpoint

    @invariant()
    def next_process_learns_what_is_not_over(self) -> None:
        """Exactly the open gaps, and those of which something is to be found out."""
        assert set(self.books.remembered) == {
            gap_id for gap_id, truth in self.gaps.items() if truth.is_remembered
        }

    @invariant()
    def all_that_is_not_known_is_found_out_about(self) -> None:
        """Closed gaps of this process and those that were left, by their end."""
        for who in _ACCOUNTS:
            found = self.books.ledger.unresolved(who)
            assert found == sorted(found, key=lambda one: one.until_us)
            assert {one.gap.gap_id for one in found} == {
                gap_id
                for gap_id in self.those(are_open=False)
                if self.gaps[gap_id].who == who and self.gaps[gap_id].is_remembered
            }

    @invariant()
    def counts_add_up(self) -> None:
        """Metrics are of this process, but for what is unknown now."""
        statistics = self.books.ledger.statistics
        healed = {key: count for key, count in statistics.healed.items() if count}
        assert healed == dict(self.counted)
        unknown = dict.fromkeys(_ACCOUNTS, 0)
        for gap_id in self.known:
            unknown[self.gaps[gap_id].who] += self.gaps[gap_id].unknown or 0
        assert statistics.unknown == unknown


def test_the_last_record_of_a_gap_is_what_happened() -> None:
    """No order of ends, settlements and kills makes a count wrong."""
    explore(LedgerAgainstWhatHappened, share=1 / 2, steps=40)
