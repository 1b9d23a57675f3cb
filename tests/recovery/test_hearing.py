"""An account that isn't heard has one gap, from what is known to the next hearing."""

from __future__ import annotations

from typing import Any

import pytest

from bridge.pusher.coverage import Cause, Interruption
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
