"""Tests of what a board knows, and of the messages that say it."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.board.board import Board, Bounds, Latencies
from bridge.kafka.reader import ConsumedRecord
from tests.board.records import JPEG, Page, preview
from tests.consumer.letters import consumed as letter
from tests.consumer.letters import sent
from tests.consumer.records import START_MS, job_record, raw_record
from tests.consumer.test_gaps import consumed as gap
from tests.consumer.test_gaps import settled
from tests.consumer.test_gaps import value as gap_value


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


_MIB = 1024 * 1024

# A text that no reader expects, in each field.
_HOSTILE = "</script><script>alert(1)</script>\x00\x1b[2J\u202e" * 300


def kept_bytes(action: Callable[[], object]) -> int:
    """Return how much memory is still used after an action."""
    tracemalloc.start()
    try:
        action()
        return tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()


def test_any_number_of_jobs_leaves_memory_bounded() -> None:
    """Ids, texts and addresses of any length: what is kept doesn't grow with them."""
    board = made(max_jobs=100)

    def flood(first: int, count: int) -> None:
        for number in range(first, first + count):
            record = job_record(
                f"{number}{_HOSTILE}",
                _HOSTILE if number % 2 else "done",
                result_url=_HOSTILE,
                error_message=_HOSTILE,
                headers={"ce_source": b"/clients/" + _HOSTILE.encode()},
            )
            board.take_jobs([record], START_MS, number / 5_000)
            board.update(figures(board))

    flood(0, 300)
    # A hundred jobs of some kilobytes, all of them new since then.
    assert kept_bytes(lambda: flood(300, 1_000)) < _MIB
    assert figures(board)["seen"] == 1_300
    assert len(page_of(board).jobs) == 100
    assert len(board.snapshot(figures(board))) < _MIB


def test_an_open_gap_is_never_left_out_for_others() -> None:
    """Not for a hundred later ones, nor if its start is unknown."""
    board = made()
    long_ago = "2020-01-31T12:00:00Z"
    values = [
        gap_value("old", since=long_ago, until=None),
        gap_value("unknown", since=None, until=None),
        *(gap_value(f"g-{at}", since=long_ago) for at in range(150)),
    ]
    board.take_gaps([gap(value) for value in values], is_end=True)
    shown = [one["gap_id"] for one in page_of(board).gaps]
    assert len(shown) == 100
    assert shown[0] == "unknown"
    assert "old" in shown


def test_a_preview_of_twenty_megabytes_is_ignored() -> None:
    """In an event and on the previews' topic: it isn't kept, and the job says so."""
    board = made()
    data = b"\xff\xd8\xff\xe0\x00\x10" + bytes(20 * _MIB)
    record = job_record("a", preview=preview(data))
    on_its_topic = raw_record(data, key=b"a")

    def take() -> None:
        taken(board, record)
        board.take_previews([on_its_topic])

    assert kept_bytes(take) < _MIB
    assert board.picture("a") is None
    assert page_of(board).jobs["a"]["preview_note"] == "too large to show"


def test_any_number_of_tiny_previews_is_bounded() -> None:
    """Each costs more than its bytes, which counts too; its job notes the loss."""
    board = made(max_preview_bytes=_MIB)
    taken(board, job_record("job-0"))
    for number in range(3_000):
        key = f"job-{number}".encode()
        board.take_previews([raw_record(b"GIF89a" + bytes(7), key=key)])
    kept = sum(board.picture(f"job-{number}") is not None for number in range(3_000))
    assert 900 < kept < 1_100
    job = page_of(board).jobs["job-0"]
    assert (job.get("preview"), job["preview_note"]) == (None, "no longer kept")


def test_any_number_of_gaps_and_reasons_is_bounded() -> None:
    """A page gets a hundred gaps, and a hundred reasons with the rest as one."""
    board = made()
    board.take_gaps(
        [gap(gap_value(f"g-{n}", until=None)) for n in range(11_000)], is_end=True
    )
    for number in range(150):
        board.take_dead_letters([letter(sent(_HOSTILE.encode(), f"r-{number}"))])
    page = page_of(board)
    assert (len(page.gaps), len(page.dead_letters)) == (100, 101)
    assert len(board.snapshot(figures(board))) < _MIB


def test_an_erased_job_is_gone_with_its_picture() -> None:
    """Whether it ended, still ran, or came in the same run; its id may come again."""
    board = made()
    image = preview()
    taken(board, job_record("a", preview=image), job_record("b", "done"))
    page = page_of(board)
    erased = [raw_record(None, key=key) for key in (b"a", b"b", b"c", b"never")]
    taken(board, job_record("c", preview=image), *erased)
    page.take(board.update(figures(board)))
    assert page.jobs == {}
    assert [board.picture(one) for one in "abc"] == [None] * 3
    taken(board, job_record("a"))
    page.take(board.update(figures(board)))
    assert "preview" not in page.jobs["a"]
    assert figures(board)["in_flight"] == 1


def _read_at(at_ms: int, origin: bytes = b"socket") -> ConsumedRecord:
    time = datetime.fromtimestamp(at_ms / 1000, UTC).isoformat()
    headers = {"ce_time": time.encode(), "bridge_origin": origin}
    return raw_record(b"{}", headers=headers, at_ms=START_MS - 5)


def test_latency_is_from_the_socket_to_the_board() -> None:
    """Of the last ten seconds; replayed events don't count."""
    latencies = Latencies()
    assert latencies.percentiles(START_MS) == (None, None)
    run = [_read_at(START_MS - n) for n in range(1, 101)]
    latencies.add([*run, _read_at(0, b"replay")], START_MS)
    p50, p99 = latencies.percentiles(START_MS)
    assert p50 is not None
    assert p99 is not None
    assert 48 <= p50 <= 54
    assert 96 <= p99 <= 100
    latencies.add([_read_at(START_MS)], START_MS + 3)
    assert latencies.percentiles(START_MS + 10_002) == (3.0, 3.0)
    assert latencies.percentiles(START_MS + 11_000) == (None, None)


def test_latencies_of_a_flood_are_bounded() -> None:
    """200,000 samples would take megabytes."""
    latencies = Latencies()
    flood = [_read_at(START_MS - 2)] * 2_000

    def add() -> None:
        for _ in range(100):
            latencies.add(flood, START_MS)

    assert kept_bytes(add) < 500_000
