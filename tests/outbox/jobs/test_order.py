"""An event that doesn't come where it should in its job's life is marked or refused."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest
from bridge.outbox.jobs.in_flight import Jobs
from bridge.outbox.jobs.order import Order
from bridge.outbox.rows.table import checksum

from bridge.events import dead_letter, header_names
from bridge.events.record import Importance, Record
from bridge.outbox import Outbox, OutboxDirectory
from bridge.settings import OutboxSettings
from tests.outbox.making import (
    event,
    eventually,
    fresh,
    open_jobs,
    read_all,
    source_of,
    spread,
    stored,
    threaded,
    undone,
)


def _refused(record: Record) -> Record:
    return dead_letter.late(record, topic="jobs.dlq", max_bytes=1000)


def _mark(record: Record) -> str | None:
    mark = dict(record.extra).get(header_names.BRIDGE_ANOMALY)
    return None if mark is None else mark.decode()


def _commit(order: Order, *records: Record) -> list[str | None]:
    """Give the mark of each record, or the topic of another one's."""
    written, sums = order.judge(records)
    order.committed()
    assert sums == [checksum(each.key, each.value, None) for each in written]
    return [each.topic if each.topic != "jobs" else _mark(each) for each in written]


def _progress(*told: str | None) -> list[Record]:
    """Make an event of one job for each; no two have the same bytes."""
    return [
        msgspec.structs.replace(one, value=one.value + b" " * number)
        for number, one in enumerate(event("a", progress=each) for each in told)
    ]


def _marks_of(events: Sequence[Record]) -> list[str | None]:
    together = _commit(Order(Jobs()), *events)
    order = Order(Jobs())
    # In one transaction or in many, it is the same.
    assert [mark for each in events for mark in _commit(order, each)] == together
    return together


def test_previews_on_a_topic_of_their_own_tell_events_apart() -> None:
    """Their events have the same bytes, and another digest in a header."""
    one, other = (
        msgspec.structs.replace(
            event("a", progress="5"),
            extra=((header_names.BRIDGE_PREVIEW_SHA256, digest),),
        )
        for digest in (b"00", b"01")
    )
    assert _marks_of([one, other, other, one]) == [None, None, "duplicate", None]


@pytest.mark.parametrize(
    ("told", "marked"),
    [
        (("45.50", "9.50"), [1]),
        (("9.50", "45.50", "45.5", "045.500"), []),
        (("10", "9.99"), [1]),
        # Nothing is said, nothing taken back.
        (("50", None, "49"), [2]),
        ((None, "0"), []),
        # Until it is where it was, all of it steps back.
        (("60", "5", "30", "59.9", "60", "61"), [1, 2, 3]),
        # Doubles would call these equal.
        (("0." + "1" * 30, "0." + "1" * 29 + "0"), [1]),
        (("1" * 32, "1" * 31 + "0"), [1]),
        (("1" * 31 + "0", "1" * 32), []),
    ],
)
def test_less_progress_is_a_regression(
    told: tuple[str | None, ...], marked: list[int]
) -> None:
    """Decimals are compared as decimals, with the highest that was ever told."""
    marks = _marks_of(_progress(*told))
    assert [number for number, mark in enumerate(marks) if mark] == marked
    assert {mark for mark in marks if mark} <= {"regression"}


def test_it_follows_where_that_is_wanted() -> None:
    """With `after_terminal = "publish"`, marked; the job stays where it ended."""
    order = Order(Jobs())
    assert _commit(order, event("a", "done"), event("a", "done")) == [
        None,
        "regression",
    ]
    assert _commit(order, event("a"), event("a", "error")) == ["regression"] * 2
    assert order.jobs.of(source_of(7)) == []
    assert order.jobs.statistics.anomalies == {"duplicate": 0, "regression": 3}
    assert order.jobs.statistics.late == 0


def test_a_job_that_was_forgotten_begins_anew() -> None:
    """Nobody knows any more how far it was; its end is its end all the same."""
    order = Order(Jobs(max_jobs=2), _refused)
    begun = [event(name, at_us=n, progress="50") for n, name in enumerate("abc")]
    assert _commit(order, *begun) == [None] * 3
    assert _commit(order, event("a", progress="20")) == [None]
    assert _commit(order, event("b", "done")) == [None]
    assert _commit(order, event("b")) == ["jobs.dlq"]


def test_other_records_are_not_judged() -> None:
    """Dead letters and gap records have keys too, and stay what they are."""
    order = Order(Jobs(), _refused)
    assert _commit(order, event("a", "done")) == [None]
    letter = _refused(event("a"))
    written, _ = order.judge([letter, letter])
    assert list(written) == [letter, letter]
    assert order.is_idle


def _pictured(job: str, status: str, kind: str, progress: str) -> list[Record]:
    """Make an event with a preview on a topic of its own, as the intake does."""
    told = event(job, status, progress=progress)
    envelope = msgspec.structs.replace(
        told.envelope, ce_type=kind, content_type="image/png"
    )
    picture = msgspec.structs.replace(
        told,
        topic="jobs.previews",
        value=b"image",
        envelope=envelope,
        importance=Importance.PICTURE,
        status=None,
        progress=None,
    )
    return [picture, told]


def _commit_pictures(order: Order, *sizes: int) -> list[list[tuple[str, bytes]]]:
    """Commit four events with previews in parts of so many records."""
    records = [
        *_pictured("a", "in_progress", header_names.PREVIEW_TYPE, "50"),
        *_pictured("a", "done", header_names.PREVIEW_TYPE, "100"),
        *_pictured("a", "in_progress", header_names.PREVIEW_TYPE, "60"),
        *_pictured("b", "in_progress", header_names.PREVIEW_TYPE, "60"),
    ]
    found = []
    for size in sizes:
        written, _ = order.judge(records[:size])
        del records[:size]
        order.committed()
        found += [(each.topic, each.value) for each in written]
    return [found[at : at + 2] for at in range(0, len(found), 2)]


@pytest.mark.parametrize("sizes", [(8,), (5, 3), (4, 4), (1,) * 8])
def test_a_late_event_s_preview_goes_with_it(sizes: tuple[int, ...]) -> None:
    """Of a job that has ended the topic of previews keeps what its end showed."""
    order = Order(Jobs(), _refused)
    found = _commit_pictures(order, *sizes)
    assert [[topic for topic, _ in pair] for pair in found] == [
        ["jobs.previews", "jobs"],
        ["jobs.previews", "jobs"],
        ["jobs.dlq", "jobs.dlq"],
        ["jobs.previews", "jobs"],
    ]
    assert found[2][0] == ("jobs.dlq", b"image")
    assert order.jobs.statistics.late == 2


def test_a_late_event_that_is_published_keeps_its_preview() -> None:
    """Both stand on their topics; the preview bears no mark."""
    order = Order(Jobs())
    found = _commit_pictures(order, 8)
    assert [topic for pair in found for topic, _ in pair] == [
        "jobs.previews",
        "jobs",
    ] * 4
    assert order.jobs.statistics.anomalies["regression"] == 1


def test_a_dead_letter_of_a_preview_is_not_judged() -> None:
    """It is one already, whenever it comes."""
    order = Order(Jobs(), _refused)
    _commit(order, event("a", "done"))
    letter, _ = _pictured("a", "done", header_names.DEAD_LETTER_TYPE, "60")
    written, _ = order.judge([letter])
    assert list(written) == [letter]


def test_it_is_counted_once_it_is_committed(tmp_path: Path) -> None:
    """What is undone and tried again counts once, and is judged as before."""
    events = [event("a"), event("a"), event("a", "done"), event("a")]
    with stored(tmp_path / "outbox.sqlite3") as store:
        open_jobs(store)
        statistics = store.jobs.statistics
        for _ in range(2):
            with undone(store):
                store.append(events[:2])
                store.append(events[2:])
            assert statistics.anomalies == {"duplicate": 0, "regression": 0}
        with store.transaction():
            store.append(events[:2])
            store.append(events[2:])
        assert statistics.anomalies == {"duplicate": 1, "regression": 1}
        marks = [dict(row.extra).get("bridge_anomaly") for row in read_all(store)]
    assert marks == [None, b"duplicate", None, b"regression"]


def test_a_running_outbox_asks_for_dead_letters(tmp_path: Path) -> None:
    """They go where they say, and are counted; accepted records are accepted."""
    settings = OutboxSettings(dir=tmp_path)
    with (
        OutboxDirectory(tmp_path) as directory,
        threaded(outbox := Outbox(directory, settings, refuse_late=_refused)),
    ):
        outbox.open_topic("jobs", spread(1), fresh(1), None).result(10)
        outbox.open_topic("jobs.dlq", spread(1), fresh(1), None).result(10)
        outbox.offer([event("a"), event("a", "done"), event("a"), event("a", "error")])
        eventually(lambda: outbox.drained)
        eventually(lambda: outbox.statistics.committed == 4)
        counts = outbox.statistics
        assert (counts.accepted, counts.late) == (4, 2)
        letters = outbox.read("jobs.dlq", 0, 0, 9, 10**6).result(10)
        assert [letter.value for letter in letters] == [
            event("a").value,
            event("a", "error").value,
        ]
        assert len(outbox.read("jobs", 0, 0, 9, 10**6).result(10)) == 2
