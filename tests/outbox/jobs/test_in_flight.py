"""Which jobs are in flight, as far as committed events tell."""

from __future__ import annotations

import pytest
from bridge.outbox.jobs.in_flight import Jobs
from bridge.outbox.jobs.order import Order

from bridge.events.record import Record
from bridge.outbox.statistics import OutboxStatistics
from bridge.outbox.values import JobInFlight
from tests.outbox.making import event, record, source_of


def _learn(jobs: Jobs, records: list[Record]) -> None:
    Order(jobs).learn(records)


def _names(jobs: Jobs, account: int = 7) -> list[str]:
    return [job.request_id for job in jobs.of(source_of(account))]


def test_a_job_is_in_flight_from_its_first_event_to_its_last() -> None:
    """What is known of it is what its latest event told."""
    jobs = Jobs()
    _learn(jobs, [event("a", "processing", 5)])
    assert jobs.of(source_of(7)) == [JobInFlight("a", "processing", None, 5)]
    _learn(jobs, [event("b", at_us=6), event("a", at_us=7, progress="45.50")])
    assert jobs.count(source_of(7)) == 2
    assert jobs.of(source_of(7))[1] == JobInFlight("a", "in_progress", "45.50", 7)
    _learn(jobs, [event("a", "done", 8), event("b", "error", 8)])
    assert jobs.of(source_of(7)) == []
    assert jobs.count(source_of(7)) == 0


def test_ends_are_counted_once_and_by_account() -> None:
    """Neither what a process before has committed nor a second end counts."""
    jobs = Jobs()
    order = Order(jobs)
    _learn(jobs, [event("z", "done", 1)])
    order.judge([event("a", at_us=2), event("b", "error", 3), event("a", "done", 4)])
    assert jobs.finished(source_of(7)) == 0, "nothing is committed yet"
    order.committed()
    order.judge([event("a", "done", 5), event("c", "done", 6, account=8)])
    order.committed()
    assert (jobs.finished(source_of(7)), jobs.finished(source_of(8))) == (2, 1)
    assert jobs.finished(source_of(9)) == 0


def test_accounts_are_apart() -> None:
    """One request id may name jobs of two accounts; nobody sees the other's."""
    jobs = Jobs()
    _learn(
        jobs, [event("a", at_us=1, account=1), event("a", "processing", 2, account=2)]
    )
    _learn(jobs, [event("a", "done", 3, account=1), event("b", at_us=4, account=2)])
    assert jobs.of(source_of(1)) == []
    assert _names(jobs, 2) == ["a", "b"]
    assert (jobs.count(source_of(3)), jobs.of(source_of(3))) == (0, [])


def test_other_records_are_no_jobs() -> None:
    """Dead letters and gap records have keys as well."""
    jobs = Jobs()
    _learn(jobs, [record("a", topic="jobs.dlq"), record(None)])
    assert jobs.accounts == {}


def test_too_many_jobs_push_out_those_not_heard_of_for_longest() -> None:
    """Of all accounts together, and it is counted."""
    statistics = OutboxStatistics()
    jobs = Jobs(3, 60, statistics)
    _learn(jobs, [event("a", at_us=1), event("b", at_us=2, account=8)])
    _learn(jobs, [event("c", at_us=3), event("a", at_us=4), event("d", at_us=5)])
    assert (_names(jobs), _names(jobs, 8)) == (["c", "a", "d"], [])
    _learn(jobs, [event("b", at_us=6, account=8), event("e", at_us=7, account=8)])
    assert (_names(jobs), _names(jobs, 8)) == (["d"], ["b", "e"])
    assert statistics.forgotten_jobs == 3


def test_a_job_not_heard_of_for_too_long_is_forgotten() -> None:
    """Its end was never told: `error` isn't pushed."""
    statistics = OutboxStatistics()
    jobs = Jobs(9, 10, statistics)
    _learn(jobs, [event("a", at_us=1_000_000), event("b", at_us=2_000_000, account=8)])
    _learn(jobs, [event("c", at_us=3_000_000)])
    jobs.expire(12_000_000)
    assert (_names(jobs), _names(jobs, 8)) == (["c"], ["b"])
    assert statistics.forgotten_jobs == 1
    _learn(jobs, [event("a", at_us=13_000_000)])
    assert _names(jobs) == ["c", "a"]


@pytest.mark.parametrize("jump_us", [-80_000_000, 80_000_000])
def test_a_clock_that_is_set_forgets_no_job_early(jump_us: int) -> None:
    """What was heard of before it is judged by the time that has passed."""
    now = 0.0
    jobs = Jobs(keep_seconds=10, clock=lambda: now)

    def look() -> None:
        jobs.expire(100_000_000 + int(now * 1_000_000) + (jump_us if now > 1 else 0))

    _learn(jobs, [event("a", at_us=100_000_000)])
    look()
    now = 2.0
    _learn(jobs, [event("b", at_us=102_000_000 + jump_us)])
    look()
    now = 9.0
    look()
    assert _names(jobs) == ["a", "b"]
    now = 12.5
    look()
    # The time of a clock that was set back has yet to come.
    assert _names(jobs) == ([] if jump_us > 0 else ["a", "b"])
