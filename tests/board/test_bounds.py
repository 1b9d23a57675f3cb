"""Tests of what a board drops, so that its memory is bounded, and of latencies."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from datetime import UTC, datetime

from bridge.board.board import Latencies
from bridge.kafka.reader import ConsumedRecord
from tests.board.records import preview
from tests.board.test_board import figures, made, page_of, taken
from tests.consumer.dead_letters.letters import consumed as letter
from tests.consumer.dead_letters.letters import sent
from tests.consumer.gaps.ledger import consumed as gap
from tests.consumer.gaps.ledger import value as gap_value
from tests.consumer.records import START_MS, job_record, raw_record


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
