"""Each gap is written down when it opens and when it closes, once."""

from __future__ import annotations

import threading

import pytest
import structlog

from bridge.events.record import Envelope, Importance, Record
from bridge.gaps.gap import GapCause
from bridge.gaps.ledger import Ledger
from bridge.outbox.values import Loss
from bridge.pusher.coverage import Cause, Interruption
from tests.gaps.books import NOW_US, SOURCE, Books


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
    # Each of its causes is counted from the start.
    assert set(books.ledger.statistics.gaps) == {("42", cause) for cause in GapCause}
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


def at(seconds: int) -> int:
    """Give a moment so many seconds after noon."""
    return NOW_US + seconds * 1_000_000


def test_clock_that_is_set_back_breaks_nothing() -> None:
    """An end before its begin is told as the clock showed it; no sum goes down."""
    books = Books("42", proved_us={"42": at(600)})
    hearing = books.begin("42")
    hearing.subscribed(at(0))
    hearing.interrupted(Interruption(Cause.SUSPENDED, at(5), until_us=at(-5)))
    hearing.interrupted(Interruption(Cause.DISCONNECTED, at(-9)))
    hearing.subscribed(at(-7))
    assert [
        (gap["cause"], gap["since"][11:19], gap["until"][11:19])
        for gap in books.gaps[1::2]
    ] == [
        ("crashed", "12:10:00", "12:00:00"),
        ("suspended", "12:00:05", "11:59:55"),
        ("disconnected", "11:59:51", "11:59:53"),
    ]
    assert books.ledger.statistics.seconds == {"42": 2}
