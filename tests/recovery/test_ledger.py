"""Each gap is written down when it opens and when it closes, once."""

from __future__ import annotations

import threading

import msgspec
import pytest
import structlog

from bridge.record import Envelope, Importance, Loss, Record
from bridge.recovery.gap import GapCause
from bridge.recovery.ledger import Ledger
from tests.recovery.books import NOW_US, SOURCE, Books


def loss(
    until_us: int | None = None,
    records: int = 1,
    number: int = 1,
    client_id: str | None = "42",
) -> Loss:
    """Give a loss of the outbox, of an account or of any, at its begin or its end."""
    return Loss(
        number=number,
        cause="outbox_full",
        ce_source=None if client_id is None else SOURCE + client_id,
        since_us=NOW_US - 9_000_000,
        until_us=until_us,
        records=records,
    )


def test_gap_is_a_record_of_its_account() -> None:
    """Topic, key, headers and importance are those of the design."""
    books = Books("42")
    books.ledger.open("42", GapCause.DEAF, None)
    [record] = books.records
    assert record == Record(
        topic="jobs.gaps",
        key=b"42",
        value=record.value,
        received_at_us=NOW_US,
        envelope=Envelope(
            ce_source="https://api.dryapi.dev/clients/42",
            ce_type="dev.dryapi.bridge.gap",
            origin="socket",
            content_type="application/json",
            kind="gap",
        ),
        importance=Importance.TERMINAL,
    )


def test_gap_is_written_when_it_opens_and_when_it_closes() -> None:
    """Both records have the same id, and the second one has the end."""
    books = Books("42")
    gap_id = books.ledger.open(
        "42", GapCause.DISCONNECTED, NOW_US, close_code=4200, jobs_in_flight=7
    )
    books.ledger.close(gap_id, NOW_US + 1_500_000)
    opened, closed = books.gaps
    assert opened["gap_id"] == closed["gap_id"] == gap_id
    assert (opened["until"], opened["duration_seconds"]) == (None, None)
    assert closed == {
        **opened,
        "until": "2026-01-31T12:00:01.500000Z",
        "duration_seconds": 1.5,
    }
    assert (closed["close_code"], closed["jobs_in_flight"]) == (4200, 7)


def test_gaps_have_ids_of_their_own() -> None:
    """Two gaps of the same cause and moment are two."""
    books = Books("42")
    first = books.ledger.open("42", GapCause.DEAF, None)
    assert first != books.ledger.open("42", GapCause.DEAF, None)


def test_loss_is_a_gap_from_its_begin_to_its_end() -> None:
    """What the outbox tells twice is one gap with its cause and its times."""
    books = Books("42")
    books.ledger.on_loss(loss())
    books.ledger.on_loss(loss(until_us=NOW_US, records=500))
    opened, closed = books.gaps
    assert opened["gap_id"] == closed["gap_id"]
    assert (opened["cause"], opened["until"]) == ("outbox_full", None)
    assert closed["since"] == opened["since"] == "2026-01-31T11:59:51.000000Z"
    assert closed["duration_seconds"] == 9


def test_loss_can_turn_out_to_have_begun_earlier() -> None:
    """What is known at the end is what the closing record says."""
    books = Books("42")
    books.ledger.on_loss(loss())
    earlier = msgspec.structs.replace(
        loss(until_us=NOW_US), since_us=NOW_US - 60_000_000
    )
    books.ledger.on_loss(earlier)
    assert books.gaps[1]["since"] == "2026-01-31T11:59:00.000000Z"
    assert books.gaps[1]["duration_seconds"] == 60


def test_loss_that_is_over_when_it_is_told_has_both_records() -> None:
    """A reader finds an opening to every closing."""
    books = Books("42")
    books.ledger.on_loss(loss(until_us=NOW_US))
    opened, closed = books.gaps
    assert (opened["gap_id"], opened["until"]) == (closed["gap_id"], None)
    assert closed["until"] == "2026-01-31T12:00:00.000000Z"


def test_losses_are_kept_apart() -> None:
    """A second loss is another gap, though the first one lasts."""
    books = Books("42")
    books.ledger.on_loss(loss(number=1))
    books.ledger.on_loss(loss(number=2))
    books.ledger.on_loss(loss(number=1, until_us=NOW_US))
    first, second, closed = books.gaps
    assert first["gap_id"] == closed["gap_id"] != second["gap_id"]


def test_loss_is_a_gap_of_the_account_whose_records_went() -> None:
    """No other account has one, and each gap tells of its own records."""
    books = Books("1", "2", "3")
    with structlog.testing.capture_logs() as lines:
        for number, client_id in enumerate("31"):
            books.ledger.on_loss(loss(number=number, client_id=client_id))
        for number, client_id in enumerate("31"):
            end = loss(NOW_US, 10 + number, number, client_id)
            books.ledger.on_loss(end)
    assert [gap["client_id"] for gap in books.gaps] == ["3", "1", "3", "1"]
    assert books.ledger.statistics.gaps["2", GapCause.OUTBOX_FULL] == 0
    told = [(one["client_id"], one.get("records_lost")) for one in lines]
    assert told == [("3", None), ("1", None), ("3", 10), ("1", 11)]


def test_loss_of_an_account_that_is_not_configured_is_a_line_in_the_log() -> None:
    """Nobody hears that account, and nobody would close its gap."""
    books = Books("1")
    with structlog.testing.capture_logs() as lines:
        books.ledger.on_loss(loss(client_id="2"))
        books.ledger.on_loss(loss(NOW_US, 5, client_id="2"))
    assert books.records == []
    assert books.ledger.statistics.open == {"1": 0}
    assert lines == [
        {
            "event": "gap.without_account",
            "log_level": "warning",
            "cause": "outbox_full",
            "ce_source": SOURCE + "2",
            "records_lost": 5,
        }
    ]


def test_loss_of_nobody_knows_whom_concerns_every_account() -> None:
    """Each has a gap of its own, as it isn't known whose records were lost."""
    books = Books("1", "2")
    books.ledger.on_loss(loss(client_id=None))
    books.ledger.on_loss(loss(until_us=NOW_US, client_id=None))
    assert [gap["client_id"] for gap in books.gaps] == ["1", "2", "1", "2"]
    assert len({gap["gap_id"] for gap in books.gaps}) == 2
    assert [record.key for record in books.records] == [b"1", b"2"] * 2


def test_gaps_wait_for_somebody_to_take_them() -> None:
    """What is found before the outbox is there comes first when it is."""
    books = Books("42")
    ledger = Ledger("jobs.gaps", {"42": SOURCE + "42"})
    gap_id = ledger.open("42", GapCause.OUTBOX_DAMAGED, None)
    ledger.connect(books.keep)
    assert books.left_open == {gap_id}
    ledger.close(gap_id, NOW_US)
    assert not books.left_open
    ends_us = [gap["until"] for gap in books.gaps]
    assert ends_us == [None, "2026-01-31T12:00:00.000000Z"]


def test_counts_are_by_account_and_cause() -> None:
    """Opened, open and closed gaps are counted, their seconds too."""
    books = Books("1", "2")
    statistics = books.ledger.statistics
    assert set(statistics.gaps.values()) == {0}
    assert len(statistics.gaps) == 2 * len(GapCause)
    gap_id = books.ledger.open("1", GapCause.DEAF, NOW_US)
    books.ledger.open("1", GapCause.DEAF, NOW_US)
    unknown = books.ledger.open("2", GapCause.FIRST_START, None)
    assert statistics.open == {"1": 2, "2": 1}
    books.ledger.close(gap_id, NOW_US + 2_500_000)
    books.ledger.close(unknown, NOW_US)
    assert statistics.gaps["1", GapCause.DEAF] == 2
    assert statistics.gaps["2", GapCause.FIRST_START] == 1
    assert sum(statistics.gaps.values()) == 3
    assert statistics.open == {"1": 1, "2": 0}
    assert statistics.seconds == {"1": 2.5, "2": 0}


def test_gap_has_one_line_at_each_end() -> None:
    """The log tells when it opens and when it closes, with what was lost."""
    books = Books("42")
    with structlog.testing.capture_logs() as lines:
        books.ledger.on_loss(loss())
        books.ledger.on_loss(loss(until_us=NOW_US, records=500))
    gap_id = books.gaps[0]["gap_id"]
    who = {"gap_id": gap_id, "cause": "outbox_full", "client_id": "42"}
    assert lines == [
        {
            **who,
            "event": "gap.opened",
            "log_level": "warning",
            "since": "2026-01-31T11:59:51.000000Z",
        },
        {
            **who,
            "event": "gap.closed",
            "log_level": "info",
            "duration_seconds": 9,
            "records_lost": 500,
        },
    ]


@pytest.mark.parametrize("rounds", [200])
def test_threads_may_tell_of_gaps_side_by_side(rounds: int) -> None:
    """No gap is lost or mixed up, and each opens before it closes."""
    books = Books("42")

    def tell(first: int) -> None:
        for number in range(first, first + rounds):
            books.ledger.on_loss(loss(number=number))
            books.ledger.on_loss(loss(number=number, until_us=NOW_US))

    threads = [threading.Thread(target=tell, args=(n * rounds,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    ends: dict[str, list[bool]] = {}
    for gap in books.gaps:
        ends.setdefault(gap["gap_id"], []).append(gap["until"] is None)
    assert len(ends) == 4 * rounds
    assert all(both == [True, False] for both in ends.values())
    assert books.ledger.statistics.open == {"42": 0}
    assert books.ledger.statistics.gaps["42", GapCause.OUTBOX_FULL] == 4 * rounds
