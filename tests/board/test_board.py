"""Tests of what a board knows, and of what it tells whom."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.board.board import Board, Bounds, Filter
from bridge.board.figures import Figures
from bridge.kafka.reader import ConsumedRecord
from tests.board.records import JPEG, Page, preview
from tests.consumer.dead_letters.letters import consumed as letter
from tests.consumer.dead_letters.letters import sent
from tests.consumer.gaps.ledger import consumed as gap
from tests.consumer.gaps.ledger import settled
from tests.consumer.gaps.ledger import value as gap_value
from tests.consumer.records import START_MS, job_record, raw_record


# Before the moment of the records of gaps that the suite makes.
_SINCE_MS = START_MS - 900_000


def made(**limits: Any) -> Board:
    """Make a board that reads, with some limits changed."""
    board = Board("jobs", Bounds(**limits), _SINCE_MS)
    board.standings["jobs"].has_begun = True
    return board


def taken(board: Board, *records: ConsumedRecord) -> None:
    """Have a board take records of jobs."""
    board.take_jobs(records, START_MS, 0.0)


def figures(board: Board) -> Figures:
    """Give a board's figures."""
    return board.figures(START_MS, 0.0, 1)


def page_of(board: Board, wanted: Filter | None = None) -> Page:
    """Give what a browser that comes now is shown."""
    return Page(board.snapshot(wanted or Filter(), figures(board))[0])


def test_a_job_is_as_its_records_tell() -> None:
    """The latest record counts, and what it leaves out was said before."""
    board = made()
    taken(
        board,
        job_record("a", "processing", at_ms=START_MS - 5_000, progress="10"),
        job_record("a", progress="45.50", preview=preview(), at_ms=START_MS - 3_000),
        job_record("a", "done", at_ms=START_MS - 1_000, result_url="https://r/a?s=1"),
    )
    job = page_of(board).jobs["a"]
    shown = job.pop("preview")
    assert job == {
        "id": "a",
        "account": "client-42",
        "status": "done",
        "progress": 45.5,
        "first_ms": START_MS - 5_000,
        "last_ms": START_MS - 1_000,
        "ended_ms": START_MS - 1_000,
        "events": 3,
        "preview_note": None,
        "result_url": None,
        "has_result": True,
        "error": None,
        "origin": "socket",
    }
    assert (shown["type"], shown["bytes"]) == ("image/jpeg", len(JPEG))


def test_a_job_that_ended_stays_so() -> None:
    """What comes late is counted, and changes nothing else."""
    board = made()
    taken(board, job_record("a", "error", error_code="OOM", error_message="<b>"))
    taken(board, job_record("a", "in_progress", progress="3"))
    job = page_of(board).jobs["a"]
    assert (job["status"], job["error"], job["events"]) == ("error", "OOM: <b>", 2)
    assert board.figures(START_MS, 0.0, 0).in_flight == 0


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


def test_an_address_is_shown_where_it_is_one_of_the_web(
    subtests: pytest.Subtests,
) -> None:
    """And only where a setting says so; that there is a result is told anyway."""
    for url, shown in _ADDRESSES:
        with subtests.test(url=url, shown=shown):
            board = made(shows_results=True)
            taken(board, job_record("a", "done", result_url=url))
            job = page_of(board).jobs["a"]
            assert (job["result_url"], job["has_result"]) == (shown, True)


_NOTES: list[tuple[dict[str, Any], str | None]] = [
    ({"preview": "no picture"}, "no image"),
    ({"preview": "data:image/svg+xml,<svg onload='x()'/>"}, "no image"),
    ({"preview": "https://elsewhere/p.jpg"}, "an address, and no image"),
    ({"preview": preview(b"\xff\xd8\xff" + bytes(70_000))}, "too large"),
    ({"headers": {"bridge_normalized": b"preview_omitted"}}, "not published"),
    ({"headers": {"bridge_normalized": b"preview_moved"}}, "on its own topic"),
    ({"headers": {"bridge_normalized": b"encoded_twice"}}, None),
    ({}, None),
]


def test_a_preview_that_is_not_shown_is_explained(subtests: pytest.Subtests) -> None:
    """In a few words, where there is anything to say."""
    for said, note in _NOTES:
        with subtests.test(said=said, note=note):
            board = made(max_preview_bytes=1024 * 1024)
            taken(board, job_record("a", **said))
            job = page_of(board).jobs["a"]
            assert job["preview"] is None
            assert (job["preview_note"] or "").startswith(note or "")
            assert (job["preview_note"] is None) == (note is None)


def test_previews_of_a_topic_of_their_own_find_their_jobs() -> None:
    """Whichever of the two comes first; what is no image is none there either."""
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
    assert jobs["first"]["preview"]["type"] == "image/gif"
    assert jobs["second"]["preview"]["bytes"] == len(picture)
    assert jobs["third"]["preview"] is None
    found = board.picture("second")
    assert found is not None
    assert found.data == picture


def test_events_of_older_jobs_push_no_newer_one_out() -> None:
    """The grid shows those that began last, and stands still while they go on."""
    board = made(shown_jobs=2)
    for moment, request_id in enumerate(("first", "second", "third", "first", "first")):
        taken(board, job_record(request_id, at_ms=START_MS - 10_000 + moment))
    page = page_of(board)
    assert set(page.jobs) == {"second", "third"}
    assert page.matching == 3


def test_jobs_that_have_no_room_are_let_go() -> None:
    """Ended ones first, as long as they are more than a quarter of all."""
    board = made(max_jobs=8)
    taken(board, *[job_record(f"ended-{n}", "done") for n in range(4)])
    taken(board, *[job_record(f"run-{n}") for n in range(20)])
    assert set(page_of(board).jobs) == {
        *("ended-2", "ended-3"),
        *(f"run-{n}" for n in range(14, 20)),
    }
    shown = figures(board)
    assert (shown.jobs, shown.seen, shown.in_flight) == (8, 24, 6)


def test_a_filter_is_by_status_and_id() -> None:
    """Any of the statuses, and a part of the id; `matching` counts those not shown."""
    board = made(shown_jobs=2)
    taken(
        board,
        *[job_record(f"a-{n}", "pending", at_ms=START_MS - n) for n in range(5)],
        *[job_record(f"b-{n}", "done") for n in range(3)],
    )
    page = page_of(board, Filter(frozenset({"pending", "error"}), "a-"))
    assert list(page.jobs) == ["a-0", "a-1"]
    assert page.matching == 5
    assert page_of(board, Filter(text="b-2")).matching == 1
    assert page_of(board, Filter(text="c")).jobs == {}


def test_gaps_are_told_once_all_were_read() -> None:
    """One that was closed long ago must not look open meanwhile."""
    board = made()
    _, view = board.snapshot(Filter(), figures(board))
    board.take_gaps([gap(gap_value("g-1", until=None))], is_end=False)
    assert page_of(board).gaps == []
    board.take_gaps([gap(settled("g-1", unknown=2)), gap(b"x")], is_end=True)
    told = json.loads(board.update(view, figures(board))[0])
    assert told["gaps"] == page_of(board).gaps
    (shown,) = told["gaps"]
    assert (shown["settled"], shown["unknown"]) == (True, 2)
    assert shown["until_ms"] - shown["since_ms"] == 7_250


def test_a_dead_letters_signature_is_not_shown() -> None:
    """Of an example's text, error and key, unless a setting shows results."""
    url = "https://r.example/a.png?signature=CANARY"
    value = json.dumps({"request_id": "a", "status": "done", "result_url": url})
    for spelling in (value, value.replace("/", "\\/")):
        dead = letter(sent(spelling.encode(), key=f"{url}&k", message=f"late: {url}"))
        board, open_board = made(), made(shows_results=True)
        for one in (board, open_board):
            one.take_letters([dead])
        (hidden,), (shown,) = page_of(board).letters, page_of(open_board).letters
        assert "r.example" in hidden["example"]["text"]
        assert "CANARY" not in json.dumps(hidden)
        assert json.dumps(shown).count("CANARY") == 3


_FILTERS = st.sampled_from(
    [
        Filter(),
        Filter(frozenset({"done"})),
        Filter(frozenset({"pending", "in_progress"})),
        Filter(text="1"),
        Filter(text="nobody"),
    ]
)
_STEPS = st.one_of(
    st.lists(
        st.tuples(
            st.sampled_from([f"job-{n}" for n in range(9)]),
            st.sampled_from(["pending", "in_progress", "done", "error"]),
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
        board.take_letters([letter(sent(b"{}"))])
    elif step == "preview":
        board.take_previews([raw_record(b"GIF89a" + bytes(9), key=b"job-1")])
    else:
        taken(
            board,
            *[
                job_record(key, status, at_ms=START_MS + at, preview=image)
                for key, status, at, image in step
            ],
        )


@given(_FILTERS, st.lists(st.tuples(_STEPS, st.booleans()), max_size=25))
def test_updates_lead_to_what_a_new_snapshot_shows(
    wanted: Filter, steps: list[tuple[Any, bool]]
) -> None:
    """Whatever comes, and however many moments a browser misses."""
    board = made(max_jobs=6, shown_jobs=2, max_preview_bytes=1024 * 1024)
    data, view = board.snapshot(wanted, figures(board))
    page = Page(data)
    for step, is_told in [*steps, ("letter", True)]:
        _step(board, step)
        if is_told:
            data, view = board.update(view, figures(board))
            page.take(data)
            assert vars(page) == vars(page_of(board, wanted))
            assert view.shown == set(page.jobs)


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
def test_bytes_of_any_kind_are_taken(
    records: list[tuple[bytes | None, bytes | None, int, dict[str, bytes]]],
) -> None:
    """In every field of a record of each topic: what is told of them is JSON."""
    board = made(shows_results=True)
    run = [
        raw_record(value, key=key, at_ms=at_ms, headers=headers)
        for key, value, at_ms, headers in records
    ]
    taken(board, *run)
    board.take_previews(run)
    board.take_gaps(run, is_end=True)
    board.take_letters(run)
    page = page_of(board)
    assert all(0 <= job["last_ms"] <= START_MS for job in page.jobs.values())


def test_a_value_in_a_registrys_frame_is_read() -> None:
    """Its prefix is taken off, as everywhere."""
    board = made()
    value = b"\x00\x00\x00\x00\x07" + b'{"request_id": "a", "status": "done"}'
    taken(board, raw_record(value, key=b"a"))
    assert page_of(board).jobs["a"]["status"] == "done"
