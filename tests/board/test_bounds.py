"""Tests of what a board lets go, and of how late it says that events are."""

from __future__ import annotations

import json
import tracemalloc
from datetime import UTC, datetime
from typing import Any

from bridge.board.board import Board, Bounds, Filter
from bridge.board.figures import Latencies
from bridge.kafka.reader import ConsumedRecord
from tests.board.records import Page, preview
from tests.consumer.dead_letters.letters import consumed as letter
from tests.consumer.dead_letters.letters import sent
from tests.consumer.gaps.ledger import consumed as gap
from tests.consumer.gaps.ledger import value as gap_value
from tests.consumer.records import START_MS, job_record, raw_record


_MIB = 1024 * 1024

# One that no reader would like to meet, in each field.
_HOSTILE = "</script><script>alert(1)</script>\x00\x1b[2J\u202e" * 300


def _made(**limits: Any) -> Board:
    return Board("jobs", Bounds(**limits), START_MS - 900_000)


def test_jobs_without_number_leave_memory_bounded() -> None:
    """Ids, texts and addresses of any length: what is kept doesn't grow with them."""
    board = _made(max_jobs=100)

    def flood(begin: int, count: int) -> None:
        for number in range(begin, begin + count):
            record = job_record(
                f"{number}{_HOSTILE}",
                _HOSTILE if number % 2 else "done",
                result_url=_HOSTILE,
                error_message=_HOSTILE,
                headers={"ce_source": b"/clients/" + _HOSTILE.encode()},
            )
            board.take_jobs([record], START_MS, number / 5_000)

    flood(0, 300)
    tracemalloc.start()
    try:
        flood(300, 1_000)
        grown, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # A hundred of some kilobytes, made anew since it was begun to look.
    assert grown < _MIB
    figures = board.figures(START_MS, 1.0, 1)
    assert (figures.jobs, figures.seen) == (100, 1_300)
    data, _ = board.snapshot(Filter(), figures)
    assert len(data) < _MIB


def test_an_open_gap_gives_way_to_no_other() -> None:
    """Not to a hundred that came later, nor does one of which no begin is known."""
    board = _made()
    long_ago = "2020-01-31T12:00:00Z"
    values = [
        gap_value("old", since=long_ago, until=None),
        gap_value("unknown", since=None, until=None),
        *(gap_value(f"g-{at}", since=long_ago) for at in range(150)),
    ]
    board.take_gaps([gap(value) for value in values], is_end=True)
    data, _ = board.snapshot(Filter(), board.figures(START_MS, 0.0, 0))
    shown = [one["id"] for one in json.loads(data)["gaps"]]
    assert len(shown) == 100
    assert shown[0] == "unknown"
    assert "old" in shown


def test_a_preview_of_twenty_megabytes_is_passed_over() -> None:
    """In an event and on the topic of previews: it isn't kept, and the job says so."""
    board = _made()
    data = b"\xff\xd8\xff\xe0\x00\x10" + bytes(20 * _MIB)
    record = job_record("a", preview=preview(data))
    on_its_topic = raw_record(data, key=b"a")
    tracemalloc.start()
    try:
        board.take_jobs([record], START_MS, 0.0)
        board.take_previews([on_its_topic])
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept < _MIB
    assert board.picture("a") is None
    data, _ = board.snapshot(Filter(), board.figures(START_MS, 0.0, 1))
    assert b'"preview_note":"too large to be shown"' in data


def test_tiny_pictures_without_number_are_bounded() -> None:
    """Each costs more than its bytes, which counts too."""
    board = _made(max_preview_bytes=_MIB)
    for number in range(3_000):
        key = f"job-{number}".encode()
        board.take_previews([raw_record(b"GIF89a" + bytes(7), key=key)])
    kept = sum(board.picture(f"job-{number}") is not None for number in range(3_000))
    assert 900 < kept < 1_100


def test_gaps_and_reasons_without_number_are_bounded() -> None:
    """A page gets a hundred gaps, and a hundred reasons with the rest together."""
    board = _made()
    board.take_gaps(
        [gap(gap_value(f"g-{n}", until=None)) for n in range(11_000)], is_end=True
    )
    for number in range(150):
        board.take_letters([letter(sent(_HOSTILE.encode(), f"r-{number}"))])
    figures = board.figures(START_MS, 0.0, 1)
    data, _ = board.snapshot(Filter(), figures)
    assert data.count(b'"cause"') == 100
    assert data.count(b'"reason"') == 101
    assert len(data) < _MIB


def test_an_erased_job_is_gone_with_its_picture() -> None:
    """Whether it had ended, still ran, or came in the same run; it may begin anew."""
    board = _made()
    image = preview()
    figures = board.figures(START_MS, 0.0, 0)
    board.take_jobs([job_record("a", preview=image)], START_MS, 0.0)
    board.take_jobs([job_record("b", "done")], START_MS, 0.0)
    snapshot, view = board.snapshot(Filter(), figures)
    page = Page(snapshot)
    erased = [raw_record(None, key=key) for key in (b"a", b"b", b"c", b"never")]
    board.take_jobs([job_record("c", preview=image), *erased], START_MS, 0.0)
    update, view = board.update(view, figures)
    page.take(update)
    assert page.jobs == {}
    assert [board.picture(one) for one in "abc"] == [None] * 3
    board.take_jobs([job_record("a")], START_MS, 0.0)
    page.take(board.update(view, figures)[0])
    assert page.jobs["a"]["preview"] is None
    assert board.figures(START_MS, 0.0, 0).in_flight == 1


def _read_at(at_ms: int, origin: bytes = b"socket") -> ConsumedRecord:
    time = datetime.fromtimestamp(at_ms / 1000, UTC).isoformat()
    headers = {"ce_time": time.encode(), "bridge_origin": origin}
    return raw_record(b"{}", headers=headers, at_ms=START_MS - 5)


def test_lateness_is_from_the_socket_to_here() -> None:
    """Half were faster than the median; what was replayed is no measure."""
    latencies = Latencies()
    run = [_read_at(START_MS - n) for n in range(1, 101)]
    latencies.add([*run, _read_at(0, b"replay")], START_MS)
    p50, p99 = latencies.percentiles(START_MS)
    assert p50 is not None
    assert p99 is not None
    assert 48 <= p50 <= 54
    assert 96 <= p99 <= 100


def test_lateness_is_that_of_the_last_seconds() -> None:
    """Nothing is said where nothing came."""
    latencies = Latencies()
    assert latencies.percentiles(START_MS) == (None, None)
    latencies.add([_read_at(START_MS - 3)], START_MS)
    assert latencies.percentiles(START_MS + 9_000) == (3.0, 3.0)
    assert latencies.percentiles(START_MS + 11_000) == (None, None)


def test_the_memory_of_a_flood_is_bounded() -> None:
    """200,000 samples would take megabytes."""
    latencies = Latencies()
    flood = [_read_at(START_MS - 2)] * 2_000
    tracemalloc.start()
    try:
        for _ in range(100):
            latencies.add(flood, START_MS)
        kept_bytes, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept_bytes < 500_000
