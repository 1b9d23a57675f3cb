"""What heals: dryAPI's answers and webhooks go in, unless the socket was faster."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec import structs

from bridge.events.record import Record
from bridge.outbox import Outbox
from bridge.outbox.values import Held, JobInFlight, LeftGap, Spent
from tests.outbox.healing import NOON_US, answer, delivery, open_jobs, origins
from tests.outbox.leaving import FOR_EVER, found, gap_value, standing
from tests.outbox.making import (
    Log,
    event,
    eventually,
    record,
    running,
    source_of,
    threaded,
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A directory for an outbox."""
    return tmp_path / "outbox"


def _find(outbox: Outbox, job: str) -> JobInFlight:
    known = outbox.jobs.find(source_of(7), job)
    assert known is not None
    return known


def _begin(outbox: Outbox, *jobs: str) -> None:
    """Let jobs begin, and a gap."""
    open_jobs(outbox)
    outbox.offer([event(job, progress="5") for job in jobs])
    outbox.keep(record("7", gap_value(1), topic="jobs.gaps"), opens="1")
    eventually(lambda: outbox.drained)


# -- The status endpoint -------------------------------------------------------


def test_an_answer_about_a_job_that_was_silent_since_is_written(path: Path) -> None:
    """It reaches the relay, the job has ended, and its gap tells that it is healed."""
    with running(path, keep_jobs_seconds=FOR_EVER) as outbox, Log(outbox) as log:
        _begin(outbox, "a", "b")
        assert outbox.heal(answer(_find(outbox, "a"), "error", "1", "9")).result(10)
        assert outbox.jobs.find(source_of(7), "a") is None
        # The same once more: the job is no longer in flight.
        again = JobInFlight("a", "in_progress", "5", 1)
        assert not outbox.heal(answer(again, "error", "1")).result(10)
        eventually(lambda: outbox.statistics.acknowledged == 3)
    assert origins(log)[2:] == [("a", "status-endpoint")]
    assert found(path).left_gaps == (LeftGap(gap_value(1), 1),)


def test_whatever_was_offered_before_an_answer_wins(path: Path) -> None:
    """Though it is still in memory, and in the same transaction."""
    with running(path, keep_jobs_seconds=FOR_EVER) as outbox:
        outbox.offer([event("a", progress="5"), event("b", progress="5")])
    with standing(path) as outbox:
        seen = [_find(outbox, job) for job in "ab"]
        outbox.offer([event("a", "done", 2)])
        futures = [outbox.heal(answer(job)) for job in seen]
        # What comes after the answer comes late.
        outbox.offer([event("b", progress="6")])
        with threaded(outbox):
            assert [future.result(10) for future in futures] == [False, False]
            # Nobody could say what was offered before it was asked, and what after.
            assert _find(outbox, "b") == JobInFlight("b", "in_progress", "6", 1)


@pytest.mark.parametrize(
    "changed",
    [
        {"status": "processing"},
        {"progress": "4"},
        {"progress": None},
        {"last_seen_us": 0},
    ],
)
def test_an_answer_is_for_the_job_as_it_was(
    path: Path, changed: dict[str, str | int | None]
) -> None:
    """Anything else that was known of it is known no longer."""
    with running(path, keep_jobs_seconds=FOR_EVER) as outbox:
        _begin(outbox, "a")
        job = structs.replace(_find(outbox, "a"), **changed)
        assert not outbox.heal(answer(job)).result(10)
        assert not outbox.heal(answer(structs.replace(job, request_id="z"))).result(10)
        assert outbox.jobs.find(source_of(7), "a") is not None


def test_an_answer_that_goes_on_leaves_the_job_in_flight(path: Path) -> None:
    """The next answer is for the job as this one left it."""
    with running(path, keep_jobs_seconds=FOR_EVER) as outbox:
        _begin(outbox, "a")
        goes_on = answer(_find(outbox, "a"), "in_progress", at_us=7)
        assert outbox.heal(goes_on).result(10)
        job = _find(outbox, "a")
        assert (job.status, job.progress, job.last_seen_us) == ("in_progress", "5", 7)
        assert not outbox.heal(goes_on).result(10)
        assert outbox.heal(answer(job)).result(10)


def test_a_dead_letter_of_an_answer_is_written_in_any_case(path: Path) -> None:
    """It tells nothing of the job that could be older than the stream."""
    with running(path, keep_jobs_seconds=FOR_EVER) as outbox, Log(outbox) as log:
        _begin(outbox, "a")
        letter = structs.replace(answer(_find(outbox, "a")).record, status=None)
        stale = answer(JobInFlight("gone", "processing", None, 0))
        assert outbox.heal(structs.replace(stale, record=letter)).result(10)
        eventually(lambda: outbox.statistics.acknowledged == 2)
        assert outbox.jobs.count(source_of(7)) == 1
    assert origins(log) == [("a", "socket"), ("a", "status-endpoint")]


# -- Webhooks ------------------------------------------------------------------


def test_a_webhook_is_held_until_it_is_let_go(path: Path) -> None:
    """Its record goes to the relay only then, whole, and its gap is told."""
    with running(path, keep_jobs_seconds=FOR_EVER) as outbox, Log(outbox) as log:
        _begin(outbox)
        one = delivery("d-1", "a", due_us=7, ended_us=5)
        assert outbox.take(one).result(10)
        (held,) = outbox.held(10).result(10)
        assert held == Held(held.place, one.record, 7, 5)
        assert outbox.statistics.held == 1
        assert log.rows == {}
        assert outbox.release(held.place, ["1"]).result(10)
        assert not outbox.release(held.place, ["1"]).result(10)
        assert outbox.held(10).result(10) == []
        eventually(lambda: outbox.statistics.acknowledged == 1)
    assert [row.value for row in log.rows["jobs", 0]] == [one.record.value]
    assert found(path).left_gaps == (LeftGap(gap_value(1), 0, 1),)


def test_no_delivery_counts_twice(path: Path) -> None:
    """Not in one transaction, not in another process; another account's is another."""
    with standing(path) as outbox:
        one = delivery("d-1", "a")
        futures = [outbox.take(one) for one in (one, one, delivery("d-2", "a"))]
        with threaded(outbox):
            assert [future.result(10) for future in futures] == [True, False, True]
    with running(path) as outbox:
        assert not outbox.take(one).result(10)
        assert outbox.take(delivery("d-1", "a", account=8)).result(10)
        assert outbox.take(delivery("\ud800", "a")).result(10)
        assert len(outbox.held(10).result(10)) == outbox.statistics.held == 4


def test_held_ones_come_in_the_order_in_which_they_are_due(path: Path) -> None:
    """Whenever they were taken, and by however wrong a clock."""
    due = [5, 3, 10**30, 4, -1]
    with running(path) as outbox:
        futures = [
            outbox.take(delivery(f"{number}", f"{number}", due_us=due_us))
            for number, due_us in enumerate(due)
        ]
        assert all(future.result(10) for future in futures)
        held = outbox.held(3).result(10)
        assert [one.due_us for one in held] == [-1, 3, 4]
        assert len(outbox.held(99).result(10)) == 5
        assert outbox.held(99).result(10)[-1].due_us == 2**63 - 1


def test_a_webhook_is_written_if_it_tells_more(path: Path) -> None:
    """The first end of a job wins; that it begins matters while nothing is known."""
    rows = 0
    wrong = []
    with running(path, keep_jobs_seconds=FOR_EVER) as outbox:
        for heard, status, needed in (
            ([], "done", True),
            ([], "processing", True),
            (["processing"], "done", True),
            (["processing"], "processing", False),
            (["in_progress"], "error", True),
            (["in_progress"], "processing", False),
            (["in_progress", "done"], "error", False),
            (["in_progress", "error"], "processing", False),
            (["done"], "done", False),
        ):
            job = f"{heard}-{status}"
            outbox.take(delivery(job, job, status)).result(10)
            (held,) = outbox.held(9).result(10)
            # Offered, and perhaps not on disk yet.
            outbox.offer([event(job, told, 2) for told in heard])
            written = outbox.release(held.place, ()).result(10)
            eventually(lambda: outbox.drained)
            rows += len(heard) + needed
            found = written, outbox.statistics.held, outbox.statistics.rows
            if found != (needed, 0, rows):
                wrong.append((heard, status, found))
    assert not wrong


def test_a_dead_letter_of_a_webhook_is_written_in_any_case(path: Path) -> None:
    """Its job may have ended long ago."""
    with running(path, keep_jobs_seconds=FOR_EVER) as outbox:
        outbox.offer([event("a", "done")])
        one = delivery("d", "a")
        letter = structs.replace(one.record, status=None)
        assert outbox.take(structs.replace(one, record=letter)).result(10)
        (held,) = outbox.held(1).result(10)
        assert outbox.release(held.place, ()).result(10)


def test_all_that_a_record_has_is_held(path: Path) -> None:
    """It is what was taken when another process lets it go."""
    one = delivery("d", "a")
    whole = Record(
        topic="jobs.dlq",
        key=None,
        value=b"\x00\xff",
        received_at_us=NOON_US,
        envelope=one.record.envelope,
        extra=(("a", b"b"), ("c", b"")),
        importance=one.record.importance,
        progress="1.50",
    )
    with running(path) as outbox:
        assert outbox.take(structs.replace(one, record=whole)).result(10)
    with running(path) as outbox:
        (held,) = outbox.held(1).result(10)
        assert held.record == whole
        assert type(held.record.importance) is type(whole.importance)


# -- Calls ---------------------------------------------------------------------


def test_calls_are_remembered_by_account(path: Path) -> None:
    """The last word of each counts, also in the next process."""
    with running(path) as outbox:
        outbox.spend({"a": Spent(1, 5), "b": Spent(2, 7)})
        outbox.spend({"a": Spent(1, 6)})
    with running(path) as outbox:
        assert outbox.memory.spent == {"a": Spent(1, 6), "b": Spent(2, 7)}
        outbox.spend({"b": Spent(9, 0)})
    assert found(path).spent == {"a": Spent(1, 6), "b": Spent(9, 0)}


# -- Gaps ----------------------------------------------------------------------


def test_a_gap_that_is_told_again_keeps_what_was_healed(path: Path) -> None:
    """Its value is replaced, until it is closed."""
    with running(path, keep_jobs_seconds=FOR_EVER) as outbox:
        _begin(outbox, "a", "b")
        assert outbox.heal(answer(_find(outbox, "a"), "done", "1")).result(10)
        outbox.keep(record("7", gap_value(2), topic="jobs.gaps"), opens="1")
        assert outbox.heal(answer(_find(outbox, "b"), "done", "1")).result(10)
        assert found(path).left_gaps == (LeftGap(gap_value(2), 2),)
        outbox.keep(record("7", gap_value(3), topic="jobs.gaps"), closes="1")
    assert found(path).left_gaps == ()
