"""What a process left open is closed, continued or kept by the next one."""

from __future__ import annotations

import msgspec
import pytest
import structlog

from bridge.gaps.gap import Gap, GapCause
from tests.gaps.books import NOW_US, Books


def at(seconds: int) -> int:
    """Give a moment so many seconds after noon."""
    return NOW_US + seconds * 1_000_000


def left(cause: GapCause, since_us: int | None, who: str = "42") -> Gap:
    """Give a gap that was left open."""
    gap_id = f"{who} {cause} {since_us}"
    return Gap(gap_id=gap_id, cause=cause, client_id=who, since_us=since_us)


def remembered(*gaps: Gap) -> dict[str, bytes]:
    """Give what the outbox remembers of open gaps."""
    return {gap.gap_id: gap.encode() for gap in gaps}


@pytest.mark.parametrize("first_us", [None, at(1)])
def test_of_two_gaps_of_hearing_the_first_goes_on(first_us: int | None) -> None:
    """Only a file that was tampered with has two: none stays open for ever."""
    first = left(GapCause.CRASHED, first_us)
    later = left(GapCause.DISCONNECTED, at(5))
    books = Books("42", remembered=remembered(later, first), proved_us={"42": at(1)})
    [record] = books.records
    assert Gap.decode(record.value) == msgspec.structs.replace(later, until_us=at(5))
    books.begin("42").subscribed(at(20))
    assert books.gaps[1]["gap_id"] == first.gap_id
    assert not books.left_open


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"\xff",
        b'{"gap_id":"\xff"}',
        b"[]",
        b"{}",
        left(GapCause.DEAF, 0).encode().replace(b"deaf", b"bad_luck"),
        left(GapCause.DEAF, 0).encode().replace(b"1970-01", b"1970-13"),
        left(GapCause.DEAF, 0).encode().replace(b'.000000Z"', b'"'),
        left(GapCause.DEAF, 0).encode().replace(b'"42"', b"42"),
    ],
)
def test_gap_that_can_not_be_read_does_not_hold_up_a_start(value: bytes) -> None:
    """It is told of and left alone; the start has a gap that covers its interval."""
    gap = left(GapCause.DISCONNECTED, at(0), "other")
    with structlog.testing.capture_logs() as lines:
        books = Books(
            "42",
            "other",
            remembered={"?": value, **remembered(gap)},
            proved_us={"42": at(0)},
        )
    assert [(line["event"], line["log_level"]) for line in lines] == [
        ("gap.unreadable", "warning"),
        ("gap.continued", "info"),
    ]
    books.begin("42")
    assert [gap["cause"] for gap in books.gaps] == ["crashed"]
    assert books.remembered["?"] == value
