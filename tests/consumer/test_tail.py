"""What is known of jobs after records have come."""

from __future__ import annotations

import pytest

from bridge.consumer.tail import Job, JobTable
from tests.consumer.records import START_MS, job_record, raw_record


def only(table: JobTable) -> Job:
    """The one job of a table."""
    (job,) = table.newest(10)
    return job


def test_the_latest_record_of_a_job_is_shown() -> None:
    """Status, progress and place are the last record's, the age is the job's."""
    table = JobTable()
    table.add(
        [
            job_record("a", "processing", offset=5),
            job_record(
                "a", "in_progress", offset=6, at_ms=START_MS + 1_500, progress="45.50"
            ),
        ],
        0.0,
    )
    job = only(table)
    assert (job.status, job.progress) == ("in_progress", 45.5)
    assert (job.topic, job.partition, job.offset, job.events) == ("jobs", 2, 6, 2)
    assert job.age_ms(START_MS + 4_000) == 4_000
    assert table.by_status == {"in_progress": 1}


def test_a_finished_job_keeps_the_time_that_it_took() -> None:
    """The age stops at the terminal record, and what was said before stays."""
    table = JobTable()
    table.add(
        [
            job_record("a", "in_progress", progress="90", preview="QUJDRA=="),
            job_record(
                "a", "done", at_ms=START_MS + 2_000, result_url="https://r.example/a"
            ),
        ],
        0.0,
    )
    job = only(table)
    assert job.is_over
    assert job.age_ms(START_MS + 60_000) == 2_000
    assert job.progress == 90.0
    assert job.preview_bytes == 4
    assert job.result_url == "https://r.example/a"


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("45.50", 45.5),
        (12, 12.0),
        ("140", 100.0),
        ("-3", 0.0),
        ("NaN", None),
        ("1e999", None),
        ("half", None),
        (None, None),
    ],
)
def test_progress_is_a_percentage_or_unknown(said: object, shown: float | None) -> None:
    """Numbers and decimal strings are read, bounds are kept, the rest is unknown."""
    table = JobTable()
    table.add([job_record("a", "in_progress", progress=said)], 0.0)
    assert only(table).progress == shown


@pytest.mark.parametrize(
    "value",
    [
        b"not json",
        b"[1, 2]",
        b'{"status": 7}',
        b'{"status": "\xff"}',
        b"[" * 5_000,
        b"",
        None,
    ],
)
def test_a_record_that_is_no_job_status_is_shown_as_such(value: bytes | None) -> None:
    """Whatever a topic holds, the table goes on and says that it can't be read."""
    table = JobTable()
    table.add([raw_record(value), job_record("b", "done")], 0.0)
    assert table.by_status == {"unreadable": 1, "done": 1}


def test_running_jobs_are_preferred_and_rows_keep_their_order() -> None:
    """Where there is room for a few, running ones are among them, newest first."""
    table = JobTable()
    for number in range(6):
        table.add([job_record(f"job-{number}", "processing")], 0.0)
    table.add([job_record(f"job-{number}", "done") for number in (2, 4, 5)], 0.0)
    assert [job.request_id for job in table.newest(4)] == [
        "job-5",
        "job-3",
        "job-1",
        "job-0",
    ]
    table.add([job_record("job-1", "in_progress")], 0.0)
    assert [job.request_id for job in table.newest(4)][1:] == [
        "job-3",
        "job-1",
        "job-0",
    ]
    assert table.newest(0) == []


def test_the_number_of_jobs_is_bounded() -> None:
    """The jobs that were over first go first; the running ones stay."""
    table = JobTable(max_jobs=3)
    table.add([job_record("running", "processing")], 0.0)
    for number in range(10):
        table.add([job_record(f"job-{number}", "done")], 0.0)
    assert len(table) == 3
    assert {job.request_id for job in table.newest(9)} == {"running", "job-8", "job-9"}
    assert table.by_status == {"done": 2, "processing": 1}
    assert table.events == 11


def test_the_rate_is_that_of_the_last_seconds() -> None:
    """Events count for five seconds; a young table is not measured over five."""
    table = JobTable()
    table.add([], 100.0)
    assert table.rate(100.0) == 0.0
    table.add([job_record("a", "processing")] * 20, 100.5)
    assert table.rate(101.0) == pytest.approx(20.0)
    table.add([job_record("a", "processing")] * 30, 104.0)
    assert table.rate(105.0) == pytest.approx(10.0)
    assert table.rate(108.0) == pytest.approx(6.0)
    assert table.rate(110.0) == 0.0
