"""Tests of what a board knows, and of the messages that say it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.board.board import Board, Bounds
from bridge.kafka.reader import ConsumedRecord
from tests.board.records import JPEG, Page, preview
from tests.consumer.dead_letters.letters import consumed as letter
from tests.consumer.dead_letters.letters import sent
from tests.consumer.gaps.ledger import consumed as gap
from tests.consumer.gaps.ledger import settled
from tests.consumer.gaps.ledger import value as gap_value
from tests.consumer.records import START_MS, job_record, raw_record


def made(**bounds: Any) -> Board:
    """Make a board that reads since before the suite's gaps, with some bounds set."""
    board = Board("jobs", Bounds(**bounds), START_MS - 900_000)
    board.topics["jobs"].has_started = True
    return board


def taken(board: Board, *records: ConsumedRecord) -> None:
    """Have a board take records of jobs."""
    board.take_jobs(records, START_MS, 0.0)


def figures(board: Board) -> dict[str, Any]:
    """Return a board's figures."""
    return board.figures(START_MS, 0.0)


def page_of(board: Board) -> Page:
    """Return what a browser that connects now is shown."""
    return Page(board.snapshot(figures(board)))


def test_a_job_is_as_its_records_say() -> None:
    """The latest record counts, and what it leaves out an earlier one said."""
    board = made()
    taken(
        board,
        job_record("a", "processing", at_ms=START_MS - 5_000, progress="10"),
        job_record("a", progress="45.50", preview=preview(), at_ms=START_MS - 3_000),
        job_record("a", "done", at_ms=START_MS - 1_000, result_url="https://r/a?s=1"),
    )
    job = page_of(board).jobs["a"]
    picture = board.picture("a")
    assert picture is not None
    assert (picture.content_type, picture.data) == ("image/jpeg", JPEG)
    # What isn't known is left out.
    assert job == {
        "id": "a",
        "account": "client-42",
        "status": "done",
        "progress": 45.5,
        "first_ms": START_MS - 5_000,
        "last_ms": START_MS - 1_000,
        "ended_ms": START_MS - 1_000,
        "preview": picture.version,
        "has_result": True,
        "origin": "socket",
    }


def test_a_job_that_ended_stays_ended() -> None:
    """A late record changes no more than its time."""
    board = made()
    taken(board, job_record("a", "error", error_code="OOM", error_message="<b>"))
    taken(board, job_record("a", "in_progress", progress="3"))
    job = page_of(board).jobs["a"]
    assert (job["status"], job["error"]) == ("error", "OOM: <b>")
    assert figures(board)["in_flight"] == 0


_ADDRESSES: list[tuple[str, str | None]] = [
    ("https://r.example/a?sig=1", "https://r.example/a?sig=1"),
    ("HTTP://r.example/a", "HTTP://r.example/a"),
    ("javascript:alert(1)", None),
    ("data:text/html,x", None),
    (" https://r.example", None),
    ("https://r.example/\u202e", None),
    ("https://r.example/\x00", None),
    ("https://" + "r" * 5_000, None),
]


def test_a_result_is_shown_if_it_is_a_web_address(subtests: pytest.Subtests) -> None:
    """And only if a setting says so; that there is a result is always shown."""
    for url, shown in _ADDRESSES:
        with subtests.test(url=url):
            for shows_results in (True, False):
                board = made(shows_results=shows_results)
                taken(board, job_record("a", "done", result_url=url))
                job = page_of(board).jobs["a"]
                assert job["has_result"]
                assert job.get("result_url") == (shown if shows_results else None)


def test_no_signature_is_shown() -> None:
    """In a dead letter's text, error and key, and in a job's error, unless set."""
    url = "https://r.example/a.png?signature=CANARY"
    value = json.dumps({"request_id": "a", "status": "done", "result_url": url})
    for spelling in (value, value.replace("/", "\\/")):
        dead = letter(sent(spelling.encode(), key=f"{url}&k", message=f"late: {url}"))
        for shows_results, times in ((False, 0), (True, 3)):
            board = made(shows_results=shows_results)
            board.take_dead_letters([dead])
            (shown,) = page_of(board).dead_letters
            assert "r.example" in shown["text"]
            assert json.dumps(shown).count("CANARY") == times
    board = made()
    taken(board, job_record("a", "error", error_message=f"no upload to {url}"))
    assert page_of(board).jobs["a"]["error"].startswith("no upload to https://r.ex")
    assert "CANARY" not in json.dumps(page_of(board).jobs)


_NOTES: list[tuple[dict[str, Any], str | None]] = [
    ({"preview": "no picture"}, "not an image"),
    ({"preview": "data:image/svg+xml,<svg onload='x()'/>"}, "not an image"),
    ({"preview": "https://elsewhere/p.jpg"}, "a URL, not an image"),
    ({"preview": preview(b"\xff\xd8\xff" + bytes(70_000))}, "too large to show"),
    ({"headers": {"bridge_normalized": b"preview_omitted"}}, "not published"),
    ({"headers": {"bridge_normalized": b"preview_moved"}}, "on its own topic"),
    ({"headers": {"bridge_normalized": b"encoded_twice"}}, None),
    ({}, None),
]


def test_a_preview_that_is_not_shown_is_explained(subtests: pytest.Subtests) -> None:
    """In a few words, if there is a reason."""
    for fields, note in _NOTES:
        with subtests.test(note=note):
            board = made(max_preview_bytes=1024 * 1024)
            taken(board, job_record("a", **fields))
            job = page_of(board).jobs["a"]
            assert "preview" not in job
            assert job.get("preview_note") == note


def test_previews_of_their_own_topic_find_their_jobs() -> None:
    """Whichever comes first; what isn't an image isn't shown there either."""
    board = made()
    picture = b"GIF89a" + bytes(20)
    board.take_previews([raw_record(picture, key=b"first", topic="jobs.previews")])
    taken(board, job_record("first"), job_record("second"), job_record("third"))
    board.take_previews(
        [
            raw_record(picture, key=b"second", topic="jobs.previews"),
            raw_record(b"<svg/>", key=b"third", topic="jobs.previews"),
            raw_record(None, key=b"third", topic="jobs.previews"),
            raw_record(picture, key=None, topic="jobs.previews"),
        ]
    )
    jobs = page_of(board).jobs
    for name in ("first", "second"):
        found = board.picture(name)
        assert found is not None
        assert (found.version, found.data) == (jobs[name]["preview"], picture)
    assert "preview" not in jobs["third"]


def test_jobs_beyond_the_limit_are_evicted() -> None:
    """Ended ones first, as long as they are more than a quarter of all."""
    board = made(max_jobs=8)
    taken(board, *[job_record(f"ended-{n}", "done") for n in range(4)])
    taken(board, *[job_record(f"run-{n}") for n in range(20)])
    assert set(page_of(board).jobs) == {
        *("ended-2", "ended-3"),
        *(f"run-{n}" for n in range(14, 20)),
    }
    assert [figures(board)[each] for each in ("seen", "in_flight")] == [24, 6]


def test_gaps_are_shown_once_all_were_read() -> None:
    """One that closed long ago must not look open meanwhile."""
    board = made()
    board.take_gaps([gap(gap_value("g-1", until=None))], is_end=False)
    assert page_of(board).gaps == []
    board.take_gaps([gap(settled("g-1", unknown=2)), gap(b"x")], is_end=True)
    message = json.loads(board.update(figures(board)))
    (shown,) = message["gaps"]
    assert page_of(board).gaps == [shown]
    assert (shown["gap_id"], shown["unknown"]) == ("g-1", 2)
    assert shown["until"].startswith("2026-01-31T12:00:07.25")
    assert "gaps" not in json.loads(board.update(figures(board)))


_STEPS = st.one_of(
    st.lists(
        st.tuples(
            st.sampled_from([f"job-{n}" for n in range(9)]),
            st.sampled_from(["pending", "in_progress", "done", "error", None]),
            st.integers(-50, 5),
            st.sampled_from([None, preview(), "no image", preview(bytes(9))]),
        ),
        max_size=6,
    ),
    st.sampled_from(["gap", "letter", "preview", "settled"]),
)


def _step(board: Board, step: Sequence[Any]) -> None:
    if step == "gap":
        board.take_gaps([gap(gap_value("g-1", until=None))], is_end=False)
    elif step == "settled":
        board.take_gaps([gap(settled("g-1"))], is_end=True)
    elif step == "letter":
        board.take_dead_letters([letter(sent(b"{}"))])
    elif step == "preview":
        board.take_previews([raw_record(b"GIF89a" + bytes(9), key=b"job-1")])
    else:
        run = [
            job_record(key, status, at_ms=START_MS + at, preview=image)
            if status
            else raw_record(None, key=key.encode())
            for key, status, at, image in step
        ]
        taken(board, *run)


@given(st.lists(st.tuples(_STEPS, st.booleans()), max_size=25), st.integers(0, 24))
def test_updates_lead_to_what_a_new_snapshot_shows(
    steps: list[tuple[Any, bool]], connects_at: int
) -> None:
    """From a snapshot of any moment between two updates, whatever is read."""
    board = made(max_jobs=6, max_preview_bytes=1024 * 1024)
    page: Page | None = None
    for number, (step, is_update_due) in enumerate([*steps, ("letter", True)]):
        if number == min(connects_at, len(steps)):
            page = page_of(board)
        _step(board, step)
        if is_update_due:
            update = board.update(figures(board))
            if page is not None:
                page.take(update)
                assert vars(page) == vars(page_of(board))
            assert not board.has_changes()
    assert page is not None


@given(
    st.lists(
        st.tuples(
            st.none() | st.binary(max_size=40),
            st.none() | st.binary(max_size=200),
            st.integers(-(2**63), 2**63 - 1),
            st.dictionaries(
                st.sampled_from(
                    [
                        "bridge_normalized",
                        "bridge_origin",
                        "bridge_reason",
                        "ce_source",
                        "ce_subject",
                        "ce_time",
                    ]
                ),
                st.binary(max_size=60),
            ),
        ),
        max_size=8,
    )
)
def test_records_of_any_bytes_are_taken(
    records: list[tuple[bytes | None, bytes | None, int, dict[str, bytes]]],
) -> None:
    """In every field of a record of each topic: the messages are JSON."""
    board = made(shows_results=True)
    run = [
        raw_record(value, key=key, at_ms=at_ms, headers=headers)
        for key, value, at_ms, headers in records
    ]
    taken(board, *run)
    board.take_previews(run)
    board.take_gaps(run, is_end=True)
    board.take_dead_letters(run)
    page = page_of(board)
    assert all(0 <= job["last_ms"] <= START_MS for job in page.jobs.values())


def test_a_schema_registrys_prefix_is_removed() -> None:
    """As by every reader."""
    board = made()
    value = b"\x00\x00\x00\x00\x07" + b'{"request_id": "a", "status": "done"}'
    taken(board, raw_record(value, key=b"a"))
    assert page_of(board).jobs["a"]["status"] == "done"
