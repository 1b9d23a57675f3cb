"""What jobs do, and what their events say."""

from __future__ import annotations

import json
from datetime import datetime
from itertools import pairwise
from typing import Any

import msgspec
import pytest

from bridge.sandbox.addresses import Addresses
from bridge.sandbox.config import SandboxConfig
from bridge.sandbox.jobs import Job, JobBook, JobRequest
from bridge.sandbox.previews import STAGES, Pictures
from bridge.sandbox.statistics import Statistics


_PICTURES = Pictures(
    previews=(tuple(f"data:{stage}" for stage in range(STAGES)),),
    jpegs=(tuple(b"%d" % stage for stage in range(STAGES)),),
    results=(b"result",),
)


def _book(**options: Any) -> tuple[JobBook, Statistics]:
    config = SandboxConfig(seed=7, **options)
    statistics = Statistics()
    addresses = Addresses("http://s", config.app)
    return JobBook(config, _PICTURES, addresses, statistics), statistics


def _run(book: JobBook, job: Job) -> list[dict[str, Any]]:
    events = []
    while not job.finished:
        data = book.advance(job)
        if data is not None:
            events.append(json.loads(data))
    return events


def test_a_job_goes_from_processing_to_done() -> None:
    """Its events have upstream's members and nothing else, in the right order."""
    book, statistics = _book(fail=0)
    job = book.start(JobRequest(steps=30))
    assert job.status == "pending"
    events = _run(book, job)
    names = ["request_id", "status", "preview", "result_url", "progress"]
    assert all(list(event) == names for event in events)
    assert {event["request_id"] for event in events} == {job.request_id}
    statuses = [event["status"] for event in events]
    assert statuses == ["processing", *["in_progress"] * 30, "done"]
    first, *middle, last = events
    assert (first["preview"], first["progress"]) == (None, "0.00")
    assert (last["preview"], last["progress"]) == (None, "100.00")
    assert last["result_url"].startswith(f"http://s/results/{job.request_id}.jpg?")
    assert all(event["result_url"] is None for event in [first, *middle])
    stages = [int(event["preview"].removeprefix("data:")) for event in middle]
    assert stages == sorted(stages)
    assert (stages[0], stages[-1]) == (0, STAGES - 1)
    assert (statistics.jobs_started, statistics.jobs_done) == (1, 1)
    assert statistics.jobs_running == 0


@pytest.mark.parametrize("steps", [1, 2, 30, 10_000])
def test_progress_rises_with_every_step(steps: int) -> None:
    """Each event's progress is above the one before, up to the longest job."""
    book, _ = _book(fail=0)
    events = _run(book, book.start(JobRequest(steps=steps)))
    progress = [float(event["progress"]) for event in events]
    assert len(events) == steps + 2
    if steps < 10_000:
        assert all(one < other for one, other in pairwise(progress))
    # Two decimals are too few to tell 10,000 steps apart.
    assert progress == sorted(progress)
    assert all(
        event["progress"] == f"{float(event['progress']):.2f}" for event in events
    )


def test_a_failure_is_never_pushed() -> None:
    """A failing job ends after some events without one that tells of it."""
    book, statistics = _book()
    for _ in range(20):
        job = book.start(JobRequest(steps=5, fail=True))
        events = _run(book, job)
        assert job.status == "error"
        assert events[0]["status"] == "processing"
        assert all(event["status"] == "in_progress" for event in events[1:])
        assert len(events) <= 6
    assert statistics.jobs_failed == 20


def test_the_share_of_failures_is_kept() -> None:
    """About as many jobs fail as were asked for."""
    book, statistics = _book(fail=0.25)
    for _ in range(2_000):
        _run(book, book.start(JobRequest(steps=1)))
    assert 400 < statistics.jobs_failed < 600
    assert statistics.jobs_done + statistics.jobs_failed == 2_000


def test_finished_jobs_are_forgotten_in_order() -> None:
    """The book keeps as many finished jobs as it may, and every running one."""
    book, _ = _book(keep_finished_jobs=3)
    running = book.start()
    finished = [book.start(JobRequest(steps=0, fail=False)) for _ in range(10)]
    for job in finished:
        _run(book, job)
    known = [book.get(job.request_id) for job in finished]
    assert known == [*[None] * 7, *finished[-3:]]
    assert book.get(running.request_id) is running


def test_previews_and_stamp_can_be_chosen() -> None:
    """Without previews all are null; the stamp is one more member, a UTC time."""
    book, _ = _book(previews=False, stamp=True, fail=0)
    events = _run(book, book.start())
    assert all(event["preview"] is None for event in events)
    stamps = [event["sandbox_emitted_at"] for event in events]
    assert stamps == sorted(stamps)
    assert all(stamp.endswith("Z") and len(stamp) == 27 for stamp in stamps)
    datetime.fromisoformat(stamps[0])


def test_a_seed_repeats_the_jobs() -> None:
    """Two books with one seed start the same jobs."""
    ids = [[_book()[0].start().request_id for _ in range(1)] for _ in range(2)]
    assert ids[0] == ids[1]


@pytest.mark.parametrize(
    "body",
    ['{"steps":-1}', '{"steps":10001}', '{"interval_seconds":-1}', '{"steps":"a"}'],
)
def test_requests_out_of_range_are_refused(body: str) -> None:
    """A request that makes no sense is a decoding error, as a wrong type is."""
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(body, type=JobRequest)
