"""Gaps against a world that knows what was missed, over many processes.

State: accounts that are subscribed, deaf or not subscribed, as the world has it and as
their sessions know it; events that arrive, wait for the disk, or are lost; the ledger
of each process, and the gap records that it has written.

Invariant: what was missed lies in a gap of its account; gaps of one account follow one
another, one of them is open exactly while it isn't subscribed; each has one record that
opens it and one that closes it; the next process learns of the open ones; counts are
those of the records.

An order of 40 rules takes 15 ms.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable
from enum import Enum, auto
from itertools import pairwise
from typing import Any

import msgspec
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from bridge.accounts import AccountGaps
from bridge.gaps.gap import Gap, GapCause
from bridge.outbox.values import Loss
from bridge.pusher.coverage import Cause, Interruption
from tests.gaps.books import NOW_US, SOURCE, Books
from tests.models.exploring import explore


_ACCOUNTS = ("1", "2")
_which = st.integers(0, len(_ACCOUNTS) - 1)
_configured = st.sampled_from([_ACCOUNTS, _ACCOUNTS[:1], _ACCOUNTS])
_losses = st.sampled_from([cause for cause in GapCause if cause.is_loss])
_OF_START = {GapCause.FIRST_START, GapCause.STOPPED, GapCause.CRASHED}


class State(Enum):
    """Whether what is sent to an account arrives."""

    COVERED = auto()
    DEAF = auto()
    """It doesn't, and the session hasn't noticed."""
    UNCOVERED = auto()
    """It doesn't, as the session knows."""


class Account:
    """An account as the world and its session see it."""

    def __init__(self) -> None:
        self.state = State.UNCOVERED
        # What was sent up to then has arrived, as its session proves it.
        self.covered_us = 0
        # Intervals and losses of this process that must be gaps, one each.
        self.reported = 0
        self.losses = 0


class Reported:
    """A gap as a reader of the topic sees it."""

    def __init__(self, gap: Gap, *, may_overlap: bool) -> None:
        self.gap = gap
        self.may_overlap = may_overlap

    @property
    def begin(self) -> float:
        """Its begin, or minus infinity."""
        return -math.inf if self.gap.since_us is None else self.gap.since_us

    @property
    def end(self) -> float:
        """Its end, or infinity."""
        return math.inf if self.gap.until_us is None else self.gap.until_us


def _is_rare(machine: CoverageAgainstWorld) -> bool:
    """Leave room for something to end; by a number that changes all the time."""
    return machine.now % 3 == 0


def _when(state: State) -> Callable[[Any], Any]:
    """Give what lets a rule happen only while some account is in a state."""
    return precondition(
        lambda self: any(one.state is state for one in self.accounts.values())
    )


class CoverageAgainstWorld(RuleBasedStateMachine):
    """Rules let things happen; invariants read what was reported of them."""

    def __init__(self) -> None:
        super().__init__()
        self.now = NOW_US
        self.missed: set[tuple[str, int]] = set()
        # On disk: what the outbox remembers beside the gaps that are open.
        self.proved: dict[str, int] = {}
        # In the buffer, and lost with the process.
        self.buffer: list[tuple[str, int]] = []
        self.topic: dict[str, Reported] = {}
        self.closed: set[str] = set()
        self.to_be_reported: set[str] = set()
        self.start(_ACCOUNTS, {}, was_stopped=False)
        self.subscribe(0)

    def start(
        self,
        accounts: tuple[str, ...],
        remembered: dict[str, bytes],
        *,
        was_stopped: bool,
    ) -> None:
        """Start a process with what is on disk."""
        # Accounts whose own last process was killed.
        self.killed = self.to_be_reported & set(accounts)
        self.to_be_reported -= self.killed
        self.accounts = {who: Account() for who in accounts}
        # Number and begin of each that goes on, by cause and account, if one is known.
        self.losses: dict[tuple[GapCause, str | None], tuple[int, int]] = {}
        self.loss_count = 0
        self.opened: dict[tuple[str, str], int] = defaultdict(int)
        self.seconds: dict[str, float] = defaultdict(float)
        self.read = 0
        going_on = {
            gap.client_id
            for gap in map(Gap.decode, remembered.values())
            if gap.until_us is None and not gap.cause.is_loss
        }
        self.books = Books(
            *accounts,
            remembered=remembered,
            proved_us=self.proved,
            was_stopped=was_stopped,
        )
        self.coverages: dict[str, AccountGaps] = {}
        for who in accounts:
            self.coverages[who] = self.books.begin(who)
            self.accounts[who].reported = int(who not in going_on)

    def tick(self) -> int:
        """Let time go on."""
        self.now += 1
        return self.now

    def one_of(self, state: State, which: int) -> tuple[str, Account]:
        """Give one of the accounts that are in a state."""
        those = [
            (who, account)
            for who, account in self.accounts.items()
            if account.state is state
        ]
        return those[which % len(those)]

    # -- What happens ---------------------------------------------------------

    @rule()
    def send(self) -> None:
        """Events arrive if their accounts are subscribed, and wait for the disk."""
        for who in _ACCOUNTS:
            at_us = self.tick()
            account = self.accounts.get(who)
            if account is not None and account.state is State.COVERED:
                account.covered_us = at_us
                self.buffer.append((who, at_us))
            else:
                self.missed.add((who, at_us))

    @_when(State.UNCOVERED)
    @rule(which=_which)
    def subscribe(self, which: int) -> None:
        """A session that isn't subscribed, and knows it, is again."""
        who, account = self.one_of(State.UNCOVERED, which)
        account.covered_us = self.tick()
        account.state = State.COVERED
        self.coverages[who].subscribed(account.covered_us)

    @_when(State.COVERED)
    @rule(which=_which, at_once=st.booleans())
    def go_deaf(self, which: int, *, at_once: bool) -> None:
        """Nothing arrives any more; some sessions notice that only later."""
        who, account = self.one_of(State.COVERED, which)
        account.state = State.DEAF
        if at_once:
            self.find(who, Cause.DISCONNECTED)

    @_when(State.DEAF)
    @rule(which=_which, cause=st.sampled_from(Cause))
    def notice(self, which: int, cause: Cause) -> None:
        """The session finds that nothing has arrived since its last proof."""
        who, _ = self.one_of(State.DEAF, which)
        self.find(who, cause)

    def find(self, who: str, cause: Cause) -> None:
        """Let a session report that its account isn't covered."""
        account = self.accounts[who]
        account.state = State.UNCOVERED
        account.reported += 1
        self.coverages[who].interrupted(Interruption(cause, account.covered_us))

    @_when(State.COVERED)
    @rule(which=_which)
    def miss_some(self, which: int) -> None:
        """Something was missed, and the account is covered again already."""
        who, account = self.one_of(State.COVERED, which)
        since_us = account.covered_us
        self.missed.add((who, self.tick()))
        account.covered_us = self.tick()
        account.reported += 1
        self.coverages[who].interrupted(
            Interruption(Cause.SUSPENDED, since_us, account.covered_us)
        )

    @_when(State.UNCOVERED)
    @rule(which=_which, is_over=st.booleans())
    def interrupt_what_is_not_covered(self, which: int, *, is_over: bool) -> None:
        """A session reports what it need not: it was not subscribed."""
        who, _ = self.one_of(State.UNCOVERED, which)
        since_us = self.tick()
        until_us = self.tick() if is_over else None
        self.coverages[who].interrupted(
            Interruption(Cause.DISCONNECTED, since_us, until_us)
        )

    # -- What becomes of what was read ----------------------------------------

    @precondition(_is_rare)
    @rule()
    def write(self) -> None:
        """The buffer reaches the disk, and with it what the sessions have proved."""
        self.buffer.clear()
        for who, account in self.accounts.items():
            if account.covered_us:
                self.proved[who] = account.covered_us

    @precondition(lambda self: self.buffer)
    @rule(cause=_losses, is_proved=st.booleans())
    def lose(self, cause: GapCause, *, is_proved: bool) -> None:
        """The buffer is dropped; it is reported when that begins."""
        begins_us: dict[str | None, int] = {}
        for who, us in self.buffer:
            # What goes with a damaged file may be of any account.
            whose = None if cause is GapCause.OUTBOX_DAMAGED else who
            begins_us.setdefault(whose, us - 1)
        self.missed |= set(self.buffer)
        self.buffer.clear()
        if is_proved:
            self.write()
        for whose, before_us in begins_us.items():
            self.lose_of(cause, whose, before_us)

    def lose_of(self, cause: GapCause, whose: str | None, before_us: int) -> None:
        """Begin or prolong the loss of an account, or of any."""
        if (cause, whose) in self.losses:
            number, since_us = self.losses[cause, whose]
            self.losses[cause, whose] = number, min(since_us, before_us)
            return
        self.loss_count += 1
        self.losses[cause, whose] = self.loss_count, before_us
        for who, account in self.accounts.items():
            account.losses += whose in {None, who}
        self.report_loss(cause, whose, None)

    def report_loss(
        self, cause: GapCause, whose: str | None, until_us: int | None
    ) -> None:
        """Notify the ledger of a loss as the outbox does."""
        number, since_us = self.losses[cause, whose]
        source = None if whose is None else SOURCE + whose
        self.books.ledger.on_loss(Loss(number, cause, source, since_us, until_us, 1))

    @precondition(lambda self: self.losses and _is_rare(self))
    @rule()
    def lose_no_more(self) -> None:
        """There is room again, for what was short of it first."""
        cause, whose = next(iter(self.losses))
        self.report_loss(cause, whose, self.tick())
        del self.losses[cause, whose]

    # -- The end of a process -------------------------------------------------

    @precondition(_is_rare)
    @rule(accounts=_configured, is_covered=st.booleans())
    def stop(self, accounts: tuple[str, ...], *, is_covered: bool) -> None:
        """All is written and reported, and another process starts."""
        while self.losses:
            self.lose_no_more()
        self.write()
        self.restart(accounts, was_stopped=True, is_covered=is_covered)

    @precondition(_is_rare)
    @rule(accounts=_configured, is_covered=st.booleans())
    def kill(self, accounts: tuple[str, ...], *, is_covered: bool) -> None:
        """What had not reached the disk is lost, and another process starts."""
        self.missed |= set(self.buffer)
        self.buffer.clear()
        self.to_be_reported |= set(self.accounts)
        self.restart(accounts, was_stopped=False, is_covered=is_covered)

    def restart(
        self, accounts: tuple[str, ...], *, was_stopped: bool, is_covered: bool
    ) -> None:
        """Start another process, some time later; all may subscribe at once."""
        self.read_topic()
        self.missed |= {(who, self.tick()) for who in _ACCOUNTS}
        self.start(accounts, self.books.remembered, was_stopped=was_stopped)
        if is_covered:
            for _ in accounts:
                self.subscribe(0)

    # -- What was reported of it --------------------------------------------------

    def read_topic(self) -> None:
        """Read what has come to the topic: each gap opens once and closes once."""
        for record in self.books.records[self.read :]:
            gap = Gap.decode(record.value)
            assert record.key == gap.client_id.encode()
            if gap.until_us is None:
                assert gap.gap_id not in self.topic
                # Proofs lag behind: a kill costs what came after the last one.
                is_of_kill = gap.client_id in self.killed and gap.cause in _OF_START
                self.topic[gap.gap_id] = Reported(gap, may_overlap=is_of_kill)
                self.opened[gap.client_id, gap.cause] += 1
            else:
                assert gap.gap_id not in self.closed
                before = self.topic[gap.gap_id].gap
                assert gap == msgspec.structs.replace(
                    before, since_us=gap.since_us, until_us=gap.until_us
                )
                if gap.since_us != before.since_us:
                    assert gap.since_us is None or gap.since_us < (before.since_us or 0)
                    self.topic[gap.gap_id].may_overlap = True
                self.topic[gap.gap_id].gap = gap
                self.closed.add(gap.gap_id)
                self.seconds[gap.client_id] += gap.duration_seconds or 0
        self.read = len(self.books.records)

    def reported(self, who: str, *, losses: bool) -> list[Reported]:
        """Give an account's gaps, of one of the two kinds."""
        return [
            one
            for one in self.topic.values()
            if one.gap.client_id == who and one.gap.cause.is_loss == losses
        ]

    @invariant()
    def what_is_open_is_remembered(self) -> None:
        """The next process learns of exactly those that are open."""
        self.read_topic()
        assert self.books.left_open == set(self.topic) - self.closed

    @invariant()
    def what_was_missed_lies_in_a_gap(self) -> None:
        """Nothing lost is silent, but what no session can have noticed yet."""
        for who, us in self.missed:
            account = self.accounts.get(who)
            if account is None:
                continue  # Reported when the account is there again.
            if account.state is State.DEAF and us > account.covered_us:
                continue
            gaps = self.reported(who, losses=False) + self.reported(who, losses=True)
            assert any(self.begin_of(one) < us <= one.end for one in gaps), (
                who,
                us,
            )

    def begin_of(self, one: Reported) -> float:
        """Give a gap's begin; one that goes on may turn out to be older."""
        return -math.inf if one.gap.until_us is None else one.begin

    def teardown(self) -> None:
        """End all that goes on, and look again: now each gap has its last record."""
        while self.losses:
            self.lose_no_more()
        while any(one.state is State.DEAF for one in self.accounts.values()):
            self.notice(0, Cause.DISCONNECTED)
        while any(one.state is State.UNCOVERED for one in self.accounts.values()):
            self.subscribe(0)
        self.read_topic()
        self.what_was_missed_lies_in_a_gap()

    @invariant()
    def gaps_of_coverage_come_one_after_another(self) -> None:
        """One at most is open, and it is there exactly while nothing is covered."""
        for who in _ACCOUNTS:
            gaps = self.reported(who, losses=False)
            assert all(one.gap.until_us is not None for one in gaps[:-1])
            for one, after in pairwise(gaps):
                assert one.end <= after.begin or after.may_overlap
            if who in self.accounts:
                account = self.accounts[who]
                is_open = bool(gaps) and gaps[-1].gap.until_us is None
                assert is_open == (account.state is State.UNCOVERED)

    @invariant()
    def counts_add_up(self) -> None:
        """They are those of the records; each interval and each loss is one gap."""
        self.read_topic()
        statistics = self.books.ledger.statistics
        assert {key: n for key, n in statistics.gaps.items() if n} == dict(self.opened)
        for who, account in self.accounts.items():
            still_open: list[Any] = [
                one
                for one in self.reported(who, losses=True)
                + self.reported(who, losses=False)
                if one.gap.until_us is None
            ]
            assert statistics.open[who] == len(still_open)
            assert statistics.seconds[who] == pytest.approx(self.seconds[who])
            opened = {False: 0, True: 0}
            for (whose, cause), count in self.opened.items():
                if whose == who:
                    opened[GapCause(cause).is_loss] += count
            assert opened == {False: account.reported, True: account.losses}


def test_what_was_missed_lies_in_a_gap() -> None:
    """No order of interruptions and kills hides a loss, or reports one too many."""
    explore(CoverageAgainstWorld, share=1 / 2, steps=40)
