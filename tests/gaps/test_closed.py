"""A closed gap waits for what becomes of its jobs, and its last record says it."""

from __future__ import annotations

import threading
from collections import Counter

import pytest
import structlog

from bridge.events.record import Origin
from bridge.gaps.gap import Gap, GapCause
from bridge.outbox.values import Loss
from tests.gaps.books import NOW_US, SOURCE, Books


_ENDPOINT = Origin.STATUS_ENDPOINT
_WEBHOOK = Origin.WEBHOOK


def gap_of(
    books: Books, since_us: int | None = NOW_US - 9, until_us: int = NOW_US - 1
) -> str:
    """Open a gap of account 42 with three jobs, and close it."""
    gap_id = books.ledger.open("42", GapCause.DEAF, since_us, jobs_in_flight=3)
    books.ledger.close(gap_id, until_us)
    return gap_id


def outcomes(books: Books) -> list[tuple[int | None, int | None, int | None]]:
    """Give what each record says of jobs: by endpoint, by webhook, unknown."""
    names = ("healed_by_status_endpoint", "healed_by_webhook", "unknown")
    return [
        (gap.get(names[0]), gap.get(names[1]), gap.get(names[2])) for gap in books.gaps
    ]


@pytest.mark.parametrize("known", [None, 5])
def test_jobs_in_flight_are_told_at_the_end_where_they_were_not_before(
    known: int | None,
) -> None:
    """A loss begins where nobody can ask; what was known stays."""
    books = Books("42")
    books.jobs_in_flight["42"] = 7
    gap_id = books.ledger.open("42", GapCause.DEAF, None, jobs_in_flight=known)
    books.ledger.close(gap_id, NOW_US)
    books.ledger.on_loss(Loss(1, "overflow", SOURCE + "42", NOW_US, None, 1))
    books.ledger.on_loss(Loss(1, "overflow", SOURCE + "42", NOW_US, NOW_US, 1))
    counts = [gap["jobs_in_flight"] for gap in books.gaps]
    assert counts == [known, known or 7, None, 7]


def test_settled_gap_is_a_line_and_a_warning_where_something_is_unknown() -> None:
    """The log has the numbers of the record; a correction is another line."""
    books = Books("42")
    gap_id = gap_of(books)
    books.heal([gap_id], _ENDPOINT)
    with structlog.testing.capture_logs() as lines:
        books.ledger.settle(gap_id, 2)
        books.ledger.settle(gap_id, 0)
    line = {
        "event": "gap.settled",
        "gap_id": gap_id,
        "cause": "deaf",
        "client_id": "42",
        "jobs_in_flight": 3,
        "healed_by_status_endpoint": 1,
        "healed_by_webhook": 0,
    }
    assert lines == [
        {**line, "log_level": "warning", "unknown": 2},
        {**line, "log_level": "info", "unknown": 0},
    ]


def test_of_too_many_gaps_the_oldest_are_forgotten() -> None:
    """A thousand of an account are remembered, however many come."""
    books = Books("42")
    gap_of(books)
    with structlog.testing.capture_logs():
        gap_ids = [gap_of(books) for _ in range(1001)]
    assert list(books.remembered) == gap_ids[1:]
    assert books.ledger.healable("42", NOW_US - 9, None) == tuple(gap_ids[1:])
    told: list[Gap] = []
    books.ledger.follow(told.append)
    assert [gap.gap_id for gap in told] == gap_ids[1:]


def test_threads_may_heal_and_settle_side_by_side() -> None:
    """Each job is counted, and each gap's last record has its count."""
    books = Books("42")
    heard: Counter[str] = Counter()
    gap_ids = [gap_of(books) for _ in range(5)]

    def heal() -> None:
        for number in range(200):
            books.ledger.healed([gap_ids[number % 5]], _WEBHOOK)

    def settle() -> None:
        for number in range(200):
            books.ledger.settle(gap_ids[number % 5], 200 - number)

    threads = [threading.Thread(target=work) for work in (heal, settle, heal, settle)]
    with structlog.testing.capture_logs():
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    for gap in books.gaps:
        heard[gap["gap_id"]] = gap.get("healed_by_webhook", 0)
    assert heard == dict.fromkeys(gap_ids, 80)
    assert books.ledger.statistics.healed["42", _WEBHOOK] == 400
