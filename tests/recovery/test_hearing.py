"""An account that isn't heard has one gap, from what is known to the next hearing."""

from __future__ import annotations

from typing import Any

import pytest
import structlog

from bridge.pusher.interruption import Cause, Interruption, Listener
from bridge.recovery.gap import GapCause
from tests.recovery.books import NOW_US, Books


def ends(books: Books) -> list[tuple[str, Any, Any]]:
    """Give each record's cause, `since` and `until`; of times the hours to seconds."""
    return [
        (gap["cause"], *(time and time[11:19] for time in (gap["since"], gap["until"])))
        for gap in books.gaps
    ]


def at(seconds: int) -> int:
    """Give a moment so many seconds after noon."""
    return NOW_US + seconds * 1_000_000


def test_first_start_is_a_gap_since_nobody_knows_when() -> None:
    """It ends with the first subscription, and what comes after is heard."""
    books = Books("42")
    hearing = books.begin("42")
    hearing.subscribed(at(2))
    hearing.subscribed(at(9))
    assert ends(books) == [
        ("first_start", None, None),
        ("first_start", None, "12:00:02"),
    ]


@pytest.mark.parametrize(
    ("was_stopped", "cause"), [(True, "stopped"), (False, "crashed")]
)
def test_start_is_a_gap_since_what_was_proved(*, was_stopped: bool, cause: str) -> None:
    """It says whether the process before ended in order."""
    books = Books("42", proved_us={"42": at(-60)}, was_stopped=was_stopped)
    books.begin("42").subscribed(at(1))
    assert ends(books) == [
        (cause, "11:59:00", None),
        (cause, "11:59:00", "12:00:01"),
    ]


@pytest.mark.parametrize("cause", Cause)
def test_interruption_is_a_gap_up_to_the_next_subscription(cause: Cause) -> None:
    """Whatever its cause, which the ledger knows by the same word."""
    books = Books("42", proved_us={"42": NOW_US})
    hearing: Listener = books.begin("42")
    hearing.subscribed(at(1))
    hearing.interrupted(Interruption(cause, at(5), close_code=1006))
    hearing.subscribed(at(7))
    opened, closed = books.gaps[2:]
    assert opened["gap_id"] == closed["gap_id"]
    assert (opened["close_code"], closed["close_code"]) == (1006, 1006)
    assert ends(books)[2:] == [
        (cause.value, "12:00:05", None),
        (cause.value, "12:00:05", "12:00:07"),
    ]


def test_interruption_with_an_end_is_closed_at_once() -> None:
    """The account is heard afterwards, and its next gap is another one."""
    books = Books("42")
    hearing = books.begin("42")
    hearing.subscribed(at(0))
    hearing.interrupted(Interruption(Cause.SUSPENDED, at(3), until_us=at(8)))
    assert not books.left_open
    hearing.interrupted(Interruption(Cause.DISCONNECTED, at(9)))
    assert ends(books)[2:] == [
        ("suspended", "12:00:03", None),
        ("suspended", "12:00:03", "12:00:08"),
        ("disconnected", "12:00:09", None),
    ]


@pytest.mark.parametrize("until_us", [None, at(8)])
def test_what_interrupts_an_account_that_is_not_heard_is_the_same_gap(
    until_us: int | None,
) -> None:
    """Nothing new is missed: it goes on until the subscription, and nothing raises."""
    books = Books("42")
    hearing = books.begin("42")
    hearing.subscribed(at(0))
    hearing.interrupted(Interruption(Cause.DEAF, at(3)))
    hearing.interrupted(Interruption(Cause.DISCONNECTED, at(5), until_us))
    assert len(books.gaps) == 3
    hearing.subscribed(at(9))
    assert ends(books)[2:] == [
        ("deaf", "12:00:03", None),
        ("deaf", "12:00:03", "12:00:09"),
    ]


def test_loss_is_no_matter_of_hearing() -> None:
    """An account whose events the outbox gives up is heard, and its loss goes on."""
    books = Books("42")
    hearing = books.begin("42")
    books.ledger.open("42", GapCause.OVERFLOW, at(0))
    hearing.subscribed(at(1))
    hearing.interrupted(Interruption(Cause.DISCONNECTED, at(2)))
    assert [gap[0] for gap in ends(books)] == [
        "first_start",
        "overflow",
        "first_start",
        "disconnected",
    ]


def test_accounts_are_heard_apart() -> None:
    """What one account hears closes no gap of another one."""
    books = Books("1", "2")
    first, second = books.begin("1"), books.begin("2")
    first.subscribed(at(1))
    second.interrupted(Interruption(Cause.DISCONNECTED, at(2)))
    assert [gap["client_id"] for gap in books.gaps] == ["1", "2", "1"]
    assert books.ledger.statistics.open == {"1": 0, "2": 1}


def test_jobs_in_flight_are_counted_when_a_gap_opens() -> None:
    """Its end says the same number, though jobs may have ended meanwhile."""
    books = Books("42")
    jobs = iter([None, 3])
    hearing = books.hearing("42")
    hearing._jobs_in_flight = lambda: next(jobs)
    hearing.begin(None, was_stopped=False)
    hearing.subscribed(at(1))
    hearing.interrupted(Interruption(Cause.DISCONNECTED, at(2)))
    hearing.subscribed(at(3))
    assert [gap["jobs_in_flight"] for gap in books.gaps] == [None, None, 3, 3]


def test_clock_that_is_set_back_breaks_nothing() -> None:
    """An end before its begin is told as the clock showed it; no sum goes down."""
    books = Books("42", proved_us={"42": at(600)})
    hearing = books.begin("42")
    hearing.subscribed(at(0))
    hearing.interrupted(Interruption(Cause.SUSPENDED, at(5), until_us=at(-5)))
    hearing.interrupted(Interruption(Cause.DISCONNECTED, at(-9)))
    hearing.subscribed(at(-7))
    assert ends(books)[1::2] == [
        ("crashed", "12:10:00", "12:00:00"),
        ("suspended", "12:00:05", "11:59:55"),
        ("disconnected", "11:59:51", "11:59:53"),
    ]
    assert books.ledger.statistics.seconds == {"42": 2}


# -- Over a restart -----------------------------------------------------------


def interrupted_before(cause: Cause = Cause.REFUSED) -> Books:
    """Give the books of a process that died since 12:00:05 in a gap."""
    books = Books("42")
    hearing = books.begin("42")
    hearing.subscribed(at(0))
    hearing.interrupted(Interruption(cause, at(5), close_code=4009))
    return books


@pytest.mark.parametrize("was_stopped", [True, False])
def test_gap_goes_on_after_a_restart(*, was_stopped: bool) -> None:
    """One interval is one gap: the start has none of its own, the cause stays."""
    before = interrupted_before()
    books = Books(
        "42",
        remembered=before.remembered,
        proved_us={"42": at(5)},
        was_stopped=was_stopped,
    )
    hearing = books.begin("42")
    assert books.gaps == []
    hearing.interrupted(Interruption(Cause.DISCONNECTED, at(20)))
    hearing.subscribed(at(30))
    [closed] = books.gaps
    assert closed == {
        **before.gaps[-1],
        "until": "2026-01-31T12:00:30.000000Z",
        "duration_seconds": 25,
    }
    assert not books.left_open


def test_gap_of_a_start_goes_on_after_the_next_start() -> None:
    """A bridge that is started again and again before it hears has one gap."""
    before = Books("42", proved_us={"42": at(0)})
    before.begin("42")
    books = Books("42", remembered=before.remembered, proved_us={"42": at(0)})
    books.begin("42").subscribed(at(9))
    assert ends(before) + ends(books) == [
        ("crashed", "12:00:00", None),
        ("crashed", "12:00:00", "12:00:09"),
    ]


@pytest.mark.parametrize(
    ("proved_us", "since"), [(at(5), "12:00:05"), (at(2), "12:00:02"), (None, None)]
)
def test_gap_that_goes_on_covers_what_was_not_on_disk(
    proved_us: int | None, since: str | None
) -> None:
    """What had come before it may have died with the process, from the proof on."""
    before = interrupted_before()
    books = Books(
        "42",
        remembered=before.remembered,
        proved_us={} if proved_us is None else {"42": proved_us},
    )
    books.begin("42").subscribed(at(9))
    assert ends(books) == [("refused", since, "12:00:09")]


def test_gap_that_goes_on_is_open_and_has_not_opened() -> None:
    """It counts among the open ones; only the process that found it counts it."""
    before = interrupted_before()
    with structlog.testing.capture_logs() as lines:
        books = Books("42", remembered=before.remembered, proved_us={"42": at(5)})
        hearing = books.begin("42")
    assert lines == [
        {
            "event": "gap.continued",
            "log_level": "info",
            "gap_id": before.gaps[-1]["gap_id"],
            "cause": "refused",
            "client_id": "42",
            "since": "2026-01-31T12:00:05.000000Z",
        }
    ]
    statistics = books.ledger.statistics
    assert statistics.open == {"42": 1}
    assert sum(statistics.gaps.values()) == 0
    hearing.subscribed(at(15))
    assert statistics.open == {"42": 0}
    assert statistics.seconds == {"42": 10}
