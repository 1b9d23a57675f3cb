"""A closed gap waits for what becomes of its jobs, and its last record says it."""

from __future__ import annotations

import threading
from collections import Counter

import pytest
import structlog

from bridge.record import Loss, Origin
from bridge.recovery.gap import Gap, GapCause
from bridge.recovery.ledger import Ledger
from tests.recovery.books import NOW_US, SOURCE, Books


_HOUR_US = 3600 * 1_000_000
_MINUTE_US = 60 * 1_000_000

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


def test_gap_has_a_third_record_when_it_is_settled() -> None:
    """It is the second one with what became of the jobs, and nothing is left of it."""
    books = Books("42")
    gap_id = gap_of(books)
    books.heal([gap_id], _ENDPOINT)
    books.heal([gap_id], _WEBHOOK)
    books.heal([gap_id], _ENDPOINT)
    assert set(books.remembered) == {gap_id}
    assert len(books.records) == 2
    books.ledger.settle(gap_id, 0)
    assert books.gaps[2] == {
        **books.gaps[1],
        "healed_by_status_endpoint": 2,
        "healed_by_webhook": 1,
        "unknown": 0,
    }
    assert not books.remembered
    assert books.records[2].envelope == books.records[0].envelope


def test_gap_with_unknown_jobs_is_written_again_when_one_is_healed() -> None:
    """It stays remembered until none is unknown; the same number is no news."""
    books = Books("42")
    gap_id = gap_of(books)
    books.ledger.settle(gap_id, 2)
    books.ledger.settle(gap_id, 2)
    assert outcomes(books)[2:] == [(0, 0, 2)]
    assert set(books.remembered) == {gap_id}
    books.heal([gap_id], _WEBHOOK)
    books.ledger.settle(gap_id, 1)
    assert outcomes(books)[-1] == (0, 1, 1)
    # It was heard of as one that goes on.
    books.ledger.settle(gap_id, 0)
    assert outcomes(books)[-1] == (0, 1, 0)
    assert not books.remembered


def test_gap_of_which_nothing_more_will_be_learned_is_forgotten() -> None:
    """The next process need not know of it, though jobs are unknown."""
    books = Books("42")
    first, second = gap_of(books), gap_of(books)
    books.ledger.settle(first, 2, final=True)
    books.ledger.settle(second, 2)
    assert set(books.remembered) == {second}
    with structlog.testing.capture_logs() as lines:
        books.ledger.settle(second, 2, final=True)
    assert outcomes(books)[-1] == (0, 0, 2)
    assert not books.remembered
    assert not lines


def test_healed_job_is_written_at_once_where_the_gap_was_settled() -> None:
    """Nobody else would: a job that began and ended in it was never unknown."""
    books = Books("42")
    gap_id = gap_of(books)
    books.ledger.settle(gap_id, 0)
    books.heal([gap_id], _WEBHOOK)
    assert outcomes(books)[2:] == [(0, 0, 0), (0, 1, 0)]
    assert not books.remembered


def test_what_is_no_gap_any_more_is_passed_over() -> None:
    """Whoever is late breaks nothing, and counts nothing."""
    books = Books("42")
    open_id = books.ledger.open("42", GapCause.DEAF, None)
    books.ledger.settle(open_id, 0)
    books.ledger.settle("gone", 1)
    books.ledger.healed(["gone"], _WEBHOOK)
    assert len(books.records) == 1
    assert books.ledger.statistics.healed["42", _WEBHOOK] == 0


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


def test_who_follows_gets_each_closed_gap_once() -> None:
    """Those of before at once, those of losses too, and open ones not."""
    books = Books("42")
    before, after = gap_of(books), books.ledger.open("42", GapCause.DEAF, None)
    told: list[Gap] = []
    books.ledger.follow(told.append)
    assert [gap.gap_id for gap in told] == [before]
    books.ledger.close(after, NOW_US)
    books.ledger.on_loss(Loss(1, "overflow", SOURCE + "42", NOW_US, NOW_US, 1))
    assert [gap.gap_id for gap in told[:2]] == [before, after]
    assert [gap.cause.value for gap in told] == ["deaf", "deaf", "overflow"]
    assert all(gap.until_us is not None and not gap.is_settled for gap in told)


def test_who_follows_may_settle_at_once() -> None:
    """The record of the end stands before that."""
    books = Books("42")
    books.ledger.follow(lambda gap: books.ledger.settle(gap.gap_id, 0))
    gap_of(books)
    assert outcomes(books) == [(None, None, None)] * 2 + [(0, 0, 0)]


def test_known_job_is_of_each_gap_since_it_was_heard_of() -> None:
    """What is over was open then, or came later; what is open may have its end."""
    books = Books("42", "other")
    first = gap_of(books, NOW_US - 100, NOW_US - 50)
    second = gap_of(books, NOW_US - 40, NOW_US - 30)
    now_open = books.ledger.open("42", GapCause.REFUSED, NOW_US - 10)
    books.ledger.open("other", GapCause.REFUSED, NOW_US - 10)

    def of_job_heard_of(us: int) -> tuple[str, ...]:
        return books.ledger.healable("42", us, None)

    assert of_job_heard_of(NOW_US - 51) == (first, second, now_open)
    assert of_job_heard_of(NOW_US - 50) == (second, now_open)
    assert of_job_heard_of(NOW_US - 30) == (now_open,)
    books.ledger.settle(first, 1)
    books.ledger.settle(second, 0)
    # Of the second one all jobs that were in flight are determined.
    assert of_job_heard_of(NOW_US - 51) == (first, now_open)
    assert books.ledger.healable("nobody", 0, None) == ()


def test_job_that_was_never_heard_of_is_of_the_gaps_it_ended_in() -> None:
    """Settled or not; of one that ended at nobody knows when nothing can be said."""
    books = Books("42", "other")
    first = gap_of(books, NOW_US - 100, NOW_US - 50)
    second = gap_of(books, None, NOW_US - 30)
    now_open = books.ledger.open("42", GapCause.REFUSED, NOW_US - 40)
    books.ledger.open("other", GapCause.REFUSED, None)
    for settled in (False, True):
        if settled:
            books.ledger.settle(first, 1)
            books.ledger.settle(second, 0)
        of_end = [
            books.ledger.healable("42", None, NOW_US + us)
            for us in (-101, -100, -50, -40, -30, 0, 1)
        ]
        assert of_end == [
            (second,),
            (first, second),
            (first, second),
            (second, now_open),
            (second, now_open),
            (now_open,),
            (),
        ]
    assert books.ledger.healable("42", None, None) == ()


def test_job_that_ended_in_a_gap_is_of_it_though_a_webhook_told_of_it_since() -> None:
    """Its first webhook came late as well: the job is known, and ended in the gap."""
    books = Books("42")
    gap_id = gap_of(books, NOW_US - 100, NOW_US - 50)
    gap_of(books, NOW_US - 40, NOW_US - 30)
    for settled in (False, True):
        if settled:
            books.ledger.settle(gap_id, 0)
        assert books.ledger.healable("42", NOW_US - 20, NOW_US - 60) == (gap_id,)
        assert books.ledger.healable("42", NOW_US - 20, NOW_US - 45) == ()


def test_job_of_two_gaps_counts_in_both_and_once_in_all() -> None:
    """Metrics count jobs, records those of a gap."""
    books = Books("42", "other")
    gap_ids = [gap_of(books), gap_of(books)]
    now_open = books.ledger.open("42", GapCause.DEAF, None)
    books.heal([*gap_ids, now_open], _ENDPOINT)
    for gap_id in gap_ids:
        books.ledger.settle(gap_id, 1)
    books.ledger.close(now_open, NOW_US)
    books.ledger.settle(now_open, 0)
    assert [told for told in outcomes(books) if told[0] is not None] == [
        (1, 0, 1),
        (1, 0, 1),
        (1, 0, 0),
    ]
    statistics = books.ledger.statistics
    assert statistics.healed == {
        ("42", _ENDPOINT): 1,
        ("42", _WEBHOOK): 0,
        ("other", _ENDPOINT): 0,
        ("other", _WEBHOOK): 0,
    }
    assert statistics.settled == {"42": 3, "other": 0}
    assert statistics.unknown == {"42": 2, "other": 0}
    books.ledger.settle(gap_ids[0], 0)
    assert statistics.settled["42"] == 3
    assert statistics.unknown["42"] == 1


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


def test_settled_gap_is_forgotten_after_a_day_and_an_hour() -> None:
    """Webhooks are tried for a day; its last record says the same again."""
    books = Books("42")
    old = gap_of(books, NOW_US - 9, NOW_US)
    unsettled = gap_of(books, NOW_US - 9, NOW_US)
    books.ledger.settle(old, 2)
    books.now_us += 25 * _HOUR_US - 1
    young = gap_of(books, None, books.now_us)
    assert set(books.remembered) == {old, unsettled, young}
    # It looks once a minute.
    books.now_us += _MINUTE_US
    books.ledger.settle(young, 1)
    assert set(books.remembered) == {unsettled, young}
    assert books.gaps[-1]["gap_id"] == old
    assert outcomes(books)[-1] == (0, 0, 2)
    assert books.ledger.statistics.unknown["42"] == 1
    assert books.ledger.healable("42", NOW_US - 1, None) == (unsettled, young)
    count = len(books.records)
    books.ledger.settle(old, 1)
    assert len(books.records) == count


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


def test_gap_that_nobody_takes_yet_waits_with_what_became_of_it() -> None:
    """Records stay in order, and what may be forgotten is."""
    books = Books("42")
    ledger = Ledger("jobs.gaps", {"42": SOURCE + "42"})
    gap_id = ledger.open("42", GapCause.OUTBOX_DAMAGED, None)
    ledger.close(gap_id, NOW_US)
    ledger.settle(gap_id, 0)
    ledger.connect(books.keep)
    assert [gap.get("unknown") for gap in books.gaps] == [None, None, 0]
    assert not books.remembered
