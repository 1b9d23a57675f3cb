"""What a process left of closed gaps is settled, corrected or forgotten by the next."""

from __future__ import annotations

import msgspec
import pytest
import structlog

from bridge.record import Origin
from bridge.recovery.gap import Gap, GapCause
from tests.recovery.books import NOW_US, Books


_DAY_AND_HOUR_US = 25 * 3600 * 1_000_000


def closed(gap_id: str = "g", until_us: int = NOW_US - 5, **more: int) -> Gap:
    """Give a gap that was closed."""
    return Gap(
        gap_id, GapCause.DEAF, "42", NOW_US - 9, until_us, jobs_in_flight=3, **more
    )


def restored(*gaps: Gap, healed: dict[str, tuple[int, int]] | None = None) -> Books:
    """Give the books of a process that finds gaps, and how many jobs were healed."""
    left = {gap.gap_id: gap.encode() for gap in gaps}
    with structlog.testing.capture_logs():
        return Books("42", remembered=left, healed=healed, proved_us={"42": NOW_US})


def told_to_follower(books: Books) -> list[Gap]:
    """Give what is told to who follows now."""
    told: list[Gap] = []
    books.ledger.follow(told.append)
    return told


def test_gap_that_was_not_settled_is_settled_by_the_next_process() -> None:
    """With the jobs that the process before had healed up to its last moment."""
    gap = closed()
    books = restored(gap, healed={"g": (2, 1)})
    assert books.records == []
    [told] = told_to_follower(books)
    assert (told.gap_id, told.until_us, told.unknown) == ("g", NOW_US - 5, None)
    books.heal(books.ledger.healable("42", NOW_US - 7, None), Origin.WEBHOOK)
    books.ledger.settle("g", 0)
    [record] = books.records
    assert Gap.decode(record.value) == msgspec.structs.replace(
        gap, healed_by_status_endpoint=2, healed_by_webhook=2, unknown=0
    )
    assert not books.remembered
    assert books.ledger.statistics.settled["42"] == 1
    # The process before has counted its own.
    assert books.ledger.statistics.healed["42", Origin.STATUS_ENDPOINT] == 0


def test_gap_with_unknown_jobs_is_corrected_by_the_next_process() -> None:
    """It is told to who follows, with the number that its last record has."""
    gap = closed(healed_by_webhook=1, unknown=2)
    books = restored(gap, healed={"g": (0, 1)})
    assert books.records == []
    assert books.ledger.statistics.unknown["42"] == 2
    assert told_to_follower(books) == [gap]
    books.ledger.settle("g", 2)
    assert books.records == []
    books.ledger.settle("g", 0)
    assert books.gaps[0]["unknown"] == 0
    assert books.ledger.statistics.settled["42"] == 0
    assert not books.remembered


def test_job_that_was_healed_and_not_told_is_told_by_the_next_process() -> None:
    """Killed between the two, the last record would say less than is so for ever."""
    gap = closed(healed_by_webhook=1, unknown=2)
    books = restored(gap, healed={"g": (1, 1)})
    [record] = books.records
    assert Gap.decode(record.value) == msgspec.structs.replace(
        gap, healed_by_status_endpoint=1
    )
    assert books.remembered["g"] == record.value


def test_gap_that_goes_on_keeps_what_was_healed() -> None:
    """Webhooks come while nothing is heard; the closing record is no settlement."""
    gap = msgspec.structs.replace(closed(), until_us=None)
    books = restored(gap, healed={"g": (0, 4)})
    books.begin("42").subscribed(NOW_US)
    books.ledger.settle("g", 1)
    assert [told.get("healed_by_webhook") for told in books.gaps] == [None, 4]


def test_last_record_never_takes_back_what_it_said() -> None:
    """Of a file that was damaged counts may be gone, and the value may be there."""
    books = restored(closed(), closed("h", healed_by_webhook=3, unknown=2))
    books.ledger.settle("h", 1)
    assert books.gaps[-1]["healed_by_webhook"] == 3


@pytest.mark.parametrize(
    ("age_us", "is_forgotten"),
    [(_DAY_AND_HOUR_US - 1, False), (_DAY_AND_HOUR_US, True)],
)
def test_only_old_gaps_that_were_settled_are_forgotten(
    age_us: int, *, is_forgotten: bool
) -> None:
    """One that was not settled waits for that, however long nobody was there."""
    until_us = NOW_US - age_us
    books = restored(
        closed("settled", until_us, unknown=1), closed("not", until_us), closed("young")
    )
    assert ("settled" not in books.remembered) == is_forgotten
    assert {"not", "young"} <= set(books.remembered)
    assert len(books.records) == is_forgotten
    assert books.ledger.statistics.unknown["42"] == (not is_forgotten)
    ids = [gap.gap_id for gap in told_to_follower(books)]
    assert ids == ["settled", "not", "young"][is_forgotten:]


def test_who_followed_before_gets_what_was_left_at_the_start() -> None:
    """The order of the two doesn't matter, and loss and hearing are closed first."""
    books = Books("42")
    told = told_to_follower(books)
    left = closed()
    loss = Gap("loss", GapCause.OVERFLOW, "42", NOW_US - 3)
    before = restored(loss, left)
    with structlog.testing.capture_logs():
        books.ledger.restore(before.memory)
    assert [gap.gap_id for gap in told] == ["g", "loss"]
    assert told[1].until_us == NOW_US


def test_closed_gap_of_an_account_that_is_gone_waits_without_a_word() -> None:
    """It is not open, and it will be settled when the account is there again."""
    gap = closed()
    with structlog.testing.capture_logs() as lines:
        books = Books("other", remembered={"g": gap.encode()})
    assert lines == []
    assert books.records == []
    assert books.remembered == {"g": gap.encode()}
    assert told_to_follower(books) == []
