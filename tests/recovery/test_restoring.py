"""What a process left open is closed, continued or kept by the next one."""

from __future__ import annotations

import msgspec
import pytest
import structlog

from bridge.record import Loss
from bridge.recovery.gap import Gap, GapCause
from tests.recovery.books import NOW_US, SOURCE, Books


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


@pytest.mark.parametrize("cause", [cause for cause in GapCause if cause.is_loss])
@pytest.mark.parametrize(
    ("since_us", "proved_us", "until_us"),
    [
        # Up to where the gap of the start begins.
        (at(0), at(7), at(7)),
        # Never before its own begin: the gap of the start covers it.
        (at(9), at(7), at(9)),
        (at(9), None, at(9)),
        # What is damaged may not know since when.
        (None, at(7), at(7)),
        (None, None, NOW_US),
    ],
)
def test_loss_ends_with_its_process(
    cause: GapCause, since_us: int | None, proved_us: int | None, until_us: int
) -> None:
    """It is closed where the gap of the start begins, once."""
    gap = left(cause, since_us)
    proofs = {} if proved_us is None else {"42": proved_us}
    books = Books("42", remembered=remembered(gap), proved_us=proofs)
    [record] = books.records
    assert Gap.decode(record.value) == msgspec.structs.replace(gap, until_us=until_us)
    assert not books.left_open
    books.begin("42")
    assert [gap["until"] for gap in books.gaps[1:]] == [None]


@pytest.mark.parametrize(("proved_us", "until_us"), [(at(8), at(6)), (at(3), at(3))])
def test_loss_ends_where_a_gap_that_goes_on_begins(
    proved_us: int, until_us: int
) -> None:
    """That gap covers what comes after, wherever it begins."""
    loss = left(GapCause.OVERFLOW, at(0))
    books = Books(
        "42",
        remembered=remembered(left(GapCause.DISCONNECTED, at(6)), loss),
        proved_us={"42": proved_us},
    )
    [record] = books.records
    assert Gap.decode(record.value) == msgspec.structs.replace(loss, until_us=until_us)
    books.begin("42").subscribed(at(20))
    assert not books.left_open
    assert books.gaps[1]["cause"] == "disconnected"


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


def test_each_account_has_its_own_left_gaps() -> None:
    """One goes on for the account that has it, the other's start has one of its own."""
    books = Books(
        "1", "2", remembered=remembered(left(GapCause.DEAF, at(0), "1")), proved_us={}
    )
    books.begin("1")
    books.begin("2")
    assert [(gap["client_id"], gap["cause"]) for gap in books.gaps] == [
        ("2", "first_start")
    ]
    assert books.ledger.statistics.open == {"1": 1, "2": 1}


def test_gap_of_an_account_that_is_gone_stays_until_it_is_there_again() -> None:
    """Nobody hears it meanwhile, so that nothing says that its gap is over."""
    gaps = remembered(
        left(GapCause.REFUSED, at(0), "gone"), left(GapCause.OVERFLOW, at(0), "gone")
    )
    with structlog.testing.capture_logs() as lines:
        without = Books("42", remembered=gaps, proved_us={"gone": at(2)})
    assert lines == [
        {"event": "gap.left_open", "log_level": "info", "client_id": "gone", "gaps": 2}
    ]
    assert without.records == []
    assert without.remembered == gaps
    assert without.ledger.statistics.open == {"42": 0}
    again = Books(
        "42", "gone", remembered=without.remembered, proved_us={"gone": at(2)}
    )
    again.begin("gone").subscribed(at(90))
    assert [(gap["cause"], gap["until"][11:19]) for gap in again.gaps] == [
        ("overflow", "12:00:00"),
        ("refused", "12:01:30"),
    ]
    assert not again.left_open


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


def test_gap_that_is_remembered_twice_is_one() -> None:
    """A second copy of its record changes nothing."""
    gap = left(GapCause.DEAF, at(0))
    copies = {"one": gap.encode(), **remembered(gap)}
    books = Books("42", remembered=copies, proved_us={"42": at(0)})
    assert books.records == []
    assert books.ledger.statistics.open == {"42": 1}


def test_losses_of_this_process_are_not_those_of_the_one_before() -> None:
    """They are numbered anew, and the damage that the start found is one of them."""
    before = Books("42")
    before.ledger.on_loss(Loss(1, "overflow", SOURCE + "42", at(0), None, 5))
    books = Books("42", remembered=before.remembered, proved_us={"42": at(1)})
    books.ledger.on_loss(Loss(1, "outbox_damaged", None, at(2), None, 0))
    books.ledger.on_loss(Loss(1, "outbox_damaged", None, at(2), at(4), 0))
    assert [
        (gap["cause"], gap["until"] and gap["until"][17:19]) for gap in books.gaps
    ] == [
        ("overflow", "01"),
        ("outbox_damaged", None),
        ("outbox_damaged", "04"),
    ]
