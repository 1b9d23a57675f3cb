"""What `make bench-board` makes of what was noted: sums, records, and the tables."""

from __future__ import annotations

import json
from collections import Counter

import msgspec
import pytest

from benchmarks.board.browsers import kinds_of
from benchmarks.board.figures import (
    BoardRun,
    BoardRuns,
    Fetched,
    Kind,
    Note,
    Ordinary,
    PageRun,
    Seen,
    Slow,
    growth_a_second,
    ordinary,
    percentiles_ms,
    slow,
)
from benchmarks.board.load import (
    EVENTS_A_JOB,
    PREVIEW_BYTES,
    WATCHED,
    Load,
    history_jobs,
)
from benchmarks.board.pictures import paths_of
from benchmarks.board.report import for_documents, markdown
from benchmarks.board.stream import Messages
from bridge.consumer.job_record import preview_bytes
from bridge.job_status import TERMINAL_STATUSES, JobStatusRecord, parse
from bridge.sandbox.previews import paint
from bridge.settings import BoardSettings
from tests.benchmarks.runs import MACHINE


_SECOND = 1_000_000


def note(arrived_us: int, *, late_us: int = 5_000, size: int = 100) -> Note:
    """A message that was made a while before it came; its newest record, twice that."""
    return Note(
        arrived_us=arrived_us,
        size=size,
        made_us=arrived_us - late_us,
        newest_us=arrived_us - 2 * late_us,
        lag=0,
        reading="live",
        browsers=1,
    )


def test_messages_are_found_however_they_are_cut() -> None:
    """The end of one may lie across two pieces; comments and `retry` are none."""
    text = (
        b"retry: 2\n\nevent: snapshot\ndata: {}\n\n: on\n\nevent: update\ndata: 1\n\n"
    )
    expected = [("snapshot", b"{}"), ("update", b"1")]
    for size in range(1, len(text) + 1):
        messages = Messages()
        found = [
            message
            for begin in range(0, len(text), size)
            for message in messages.take(text[begin : begin + size])
        ]
        assert found == expected, size


def test_ordinary_browsers_are_summed_up_within_the_time() -> None:
    """What came before and after counts for nobody, nor do slow ones."""
    quick = [note(at * _SECOND // 4, size=400) for at in range(-4, 12)]
    slower = [note(at * _SECOND, late_us=20_000) for at in range(2)]
    seen = [
        Seen(Kind.ORDINARY, quick),
        Seen(Kind.ORDINARY, slower),
        Seen(Kind.STOPPED, [note(1)]),
    ]

    found = ordinary(seen, 0, 2 * _SECOND)

    assert found.updates_a_second == (4 + 1) / 2
    assert found.fewest_a_second == 1
    assert found.update_bytes == 400
    assert found.bytes_a_second == (4 * 400 + 100) / 2
    assert found.sent_ms == (5.0, 20.0)
    assert found.age_ms == (10.0, 40.0)


def test_nothing_has_no_percentiles() -> None:
    """At rest no record is watched."""
    assert percentiles_ms([]) is None
    assert ordinary([Seen(Kind.ORDINARY)], 0, _SECOND).sent_ms is None


def test_old_messages_after_a_pause_are_counted() -> None:
    """Up to the first that was made less than a second ago; the worst pause counts."""
    pausing = Seen(
        Kind.PAUSING,
        [
            note(1 * _SECOND),
            note(8 * _SECOND, late_us=6 * _SECOND),
            note(8 * _SECOND + 1_000, late_us=5 * _SECOND),
            note(8 * _SECOND + 3_000),
            note(15 * _SECOND + 7_000),
        ],
        resumed_us=[8 * _SECOND, 15 * _SECOND],
    )
    stopped = Seen(Kind.STOPPED, [note(1)], was_ended=True)

    found = slow([pausing, stopped, Seen(Kind.ORDINARY)], 0)

    assert [one.kind for one in found] == [Kind.PAUSING, Kind.STOPPED]
    assert (found[0].stale, found[0].new_again_ms, found[0].ended) == (2, 7.0, 0)
    assert found[0].sent_ms == (5.0, 6000.0)
    # Its only message was made before the load.
    assert (found[1].updates, found[1].stale, found[1].ended) == (0, None, 1)


@pytest.mark.parametrize(
    ("sizes", "growth"),
    [([], 0.0), ([5], 0.0), ([0, 900, 100, 100], 0.0), ([9, 9, 1, 2, 3], 1.0)],
)
def test_growth_is_told_without_the_begin(sizes: list[int], growth: float) -> None:
    """What a load needs at once is no growth."""
    assert growth_a_second([*enumerate(map(int, sizes))]) == pytest.approx(growth)


@pytest.mark.parametrize(("browsers", "bad"), [(1, 0), (10, 1), (100, 10)])
def test_one_browser_in_ten_reads_badly(browsers: int, bad: int) -> None:
    """In three ways, as evenly as it goes."""
    kinds = Counter(kinds_of(browsers))
    assert kinds.total() == browsers
    assert kinds[Kind.ORDINARY] == browsers - bad
    each = [kinds[kind] for kind in (Kind.SLOW, Kind.PAUSING, Kind.STOPPED)]
    assert max(each) - min(each) <= 1


def test_each_job_has_its_events_in_order() -> None:
    """A job's first is no end, its last is one; all are what dryAPI may send."""
    load = Load(20, ["data:image/jpeg;base64,/9j/"])
    jobs: dict[bytes, list[JobStatusRecord]] = {}
    for index in range(20 * EVENTS_A_JOB * 3):
        key, value, headers = load.event(index, index)
        assert parse(value.decode()).value == value
        event = msgspec.json.decode(value, type=JobStatusRecord)
        jobs.setdefault(key, []).append(event)
        assert dict(headers)["ce_subject"] == key

    whole = [events for events in jobs.values() if len(events) == EVENTS_A_JOB]
    assert len(whole) >= 2 * 20
    for events in whole:
        ends = [event.status in TERMINAL_STATUSES for event in events]
        assert ends == [False] * (EVENTS_A_JOB - 1) + [True]
    assert max(map(len, jobs.values())) == EVENTS_A_JOB
    with_preview = sum(
        bool(event.preview) for events in jobs.values() for event in events
    )
    assert with_preview == pytest.approx(20 * EVENTS_A_JOB * 3 / 50, abs=2)


def test_what_was_there_fills_a_board() -> None:
    """Memory that grows under load is then no table that fills."""
    limits = BoardSettings()
    pictures = [stages[-1] for stages in paint(PREVIEW_BYTES).previews]
    previews = [
        msgspec.json.decode(value, type=JobStatusRecord).preview
        for _, value, _ in Load(1, pictures).history(1)
    ]
    shown = [preview for preview in previews if preview]

    assert (len(previews), len(shown)) == history_jobs()
    assert len(previews) > limits.max_jobs
    assert sum(map(preview_bytes, shown)) > limits.max_preview_bytes


def test_what_is_watched_says_when_it_was_written() -> None:
    """In its id, for whoever has no clock but its own."""
    key, value, _ = Load(1, []).watched(123)
    assert key.decode() == json.loads(value)["request_id"] == f"{WATCHED}123"


def test_previews_are_fetched_as_the_page_does() -> None:
    """By id and version; a job without one has no path."""
    shown: dict[str, object] = {"id": "a", "preview": {"version": 3, "bytes": 1}}
    snapshot = json.dumps({"jobs": [shown, {"id": "b", "preview": None}]}).encode()
    assert paths_of(snapshot) == ["/previews/a?v=3"]


def test_tables_have_a_row_for_each_run() -> None:
    """A run at rest has no delay; what is slow stands apart."""
    rest = _run(rate=0, delay_ms=None, slow=[])
    busy = _run(
        rate=5_000,
        delay_ms=(130.4, 300.0),
        slow=[Slow(Kind.PAUSING, 4, 50.0, (9.0, 6000.0), 20, 61.0, 0)],
    )
    page = PageRun(20.0, 1180, [60.0, 90.0], 40, 200, 4.0, 1.0, 2.0, 5_000)
    fetched = Fetched(412.0, 15_100.0)
    moment = "2026-11-29T16-47-37Z"
    runs = BoardRuns(moment, MACHINE, 4, [rest, busy], page, fetched)

    text = for_documents(runs)

    assert (
        "| 0 | 100 | 30 | 0.50 | 100 | 110 | 60.0 | 7 | 4.00 | 65.0 | 260 |  |  |"
        in text
    )
    assert "| 5,000 | 100 | 30 | 0.50 | 100 | 110 | 60.0 | 7 | 4.00 | " in text
    assert " | 65.0 | 260 | 130 | 300 |" in text
    assert (
        "| 5,000 | 100 | 4 | not for 6 s, then for 4 s | 50 | 9 | 6,000 | 20 | 61 | 0 |"
        in text
    )
    assert "- One browser too many got 503 in 2 of 2 runs." in text
    assert "Of 5,000 events/s only 4,000 came with 100 browsers." in text
    assert "59 frames/s, 0.1 tasks/s of 50 ms or more, the longest 90 ms" in text
    assert "0.20 cores, 0.05 for scripts and 0.10 for styles" in text
    assert "A preview of 15 KB that a browser fetches took 412 us" in text
    assert markdown(runs).startswith("# What a board costs")
    assert msgspec.json.decode(msgspec.json.encode(runs), type=BoardRuns) == runs


def _run(rate: int, delay_ms: tuple[float, float] | None, slow: list[Slow]) -> BoardRun:
    return BoardRun(
        rate=rate,
        browsers=100,
        seconds=30.0,
        events=rate * 24,
        cores=0.5,
        threads={},
        others_cores=0.0,
        rest_bytes=100 * 2**20,
        peak_bytes=110 * 2**20,
        series=[(0.0, 100 * 2**20)],
        growth_bytes_a_second=2**20,
        catch_up_seconds=3.0,
        lag=7,
        told=101,
        delay_ms=delay_ms,
        ordinary=Ordinary(4.0, 3.9, 65_000, 260_000, None, (1.0, 2.0)),
        slow=slow,
        refusal=503,
    )
