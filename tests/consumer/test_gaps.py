"""Records of gaps as the bridge's own ledger writes them, and as others might."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import pytest

from bridge.consumer.gaps import (
    Choice,
    Folded,
    InvalidGapError,
    Overview,
    State,
    as_gap,
)
from bridge.events.record import Origin
from bridge.gaps.gap import GapCause
from bridge.kafka.reader import ConsumedRecord
from tests.gaps.books import NOW_US, Books


def value(gap_id: str = "g-1", **members: Any) -> bytes:
    """Make the value of a gap that was open for 7.25 s, with some members changed."""
    plain = {
        "gap_id": gap_id,
        "cause": "disconnected",
        "client_id": "client-42",
        "since": "2026-01-31T12:00:00.000000Z",
        "until": "2026-01-31T12:00:07.250000Z",
        "duration_seconds": 7.25,
        "close_code": 1006,
        "jobs_in_flight": 3,
    }
    return json.dumps(plain | members).encode()


def settled(gap_id: str = "g-1", unknown: int = 0, **members: Any) -> bytes:
    """Make one of which it is known what became of its jobs."""
    counts = {"healed_by_status_endpoint": 2, "healed_by_webhook": 1}
    return value(gap_id, **counts | {"unknown": unknown} | members)


def consumed(value: bytes | None, offset: int = 0) -> ConsumedRecord:
    """Give it as it is read from a topic."""
    return ConsumedRecord(
        topic="jobs.gaps",
        partition=0,
        offset=offset,
        timestamp_ms=NOW_US // 1000,
        key=b"client-42",
        value=value,
        headers={},
    )


def records(values: Sequence[bytes | None]) -> list[ConsumedRecord]:
    """Give them in their order."""
    return [consumed(value, offset) for offset, value in enumerate(values)]


def values_of_ledger() -> list[bytes]:
    """Give what the bridge writes of three gaps."""
    books = Books("client-42", "client-7")
    ledger = books.ledger
    books.jobs_in_flight["client-42"], books.jobs_in_flight["client-7"] = 4, 0
    first = ledger.open("client-42", GapCause.STOPPED, NOW_US - 60_000_000)
    ledger.close(first, NOW_US - 55_500_000)
    (closed,) = ledger.unresolved("client-42")
    books.heal([first], Origin.STATUS_ENDPOINT)
    books.heal([first], Origin.WEBHOOK)
    ledger.resolve(closed, 2)
    second = ledger.open("client-7", GapCause.FIRST_START, None)
    ledger.close(second, NOW_US - 30_000_000)
    del books.jobs_in_flight["client-42"]
    ledger.open("client-42", GapCause.DEAF, NOW_US)
    books.heal([first], Origin.WEBHOOK)
    ledger.resolve(closed, 1)
    return [record.value for record in books.records]


def overview_of(
    *values: bytes | None, most: int = 100, choice: Choice | None = None
) -> Overview:
    """Fold records of these values."""
    folded = Folded(most)
    for record in records(values):
        folded.take(record)
    return folded.overview(choice or Choice())


def ids(overview: Overview) -> list[str]:
    """Give the gaps in the order in which they are shown."""
    return [gap.gap_id for gap in overview.gaps]


def test_record_that_comes_twice_takes_nothing_back() -> None:
    """A late write can follow what came after it."""
    opened, closed, told = value(until=None), value(), settled(unknown=2)
    corrected = settled(unknown=1)
    for order in (
        [opened, closed, opened],
        [opened, closed, told, closed, opened, corrected, closed],
    ):
        [gap] = overview_of(*order).gaps
        assert gap.state is not State.OPEN
    assert gap.unknown == 1


@pytest.mark.parametrize(
    "more",
    [
        {"cause": "solar_flare", "mood": {"deep": [1, {}]}},
        {"jobs_in_flight": None, "since": None},
        {"since": "2026-01-31T14:00:00+02:00"},
    ],
)
def test_gap_of_another_version_is_a_gap(more: dict[str, Any]) -> None:
    """Other causes, other members and other ways to write a time are read."""
    gap = as_gap(consumed(value(**more)))
    assert gap.cause == more.get("cause", "disconnected")
    assert gap.since in {None, datetime(2026, 1, 31, 12, tzinfo=UTC)}


@pytest.mark.parametrize(
    "bad",
    [
        None,
        b"",
        b"[]",
        b"{}",
        b"\xff",
        b"[" * 100_000,
        json.dumps({"request_id": "job-1", "status": "done"}).encode(),
        value(gap_id=""),
        value(gap_id="g" * 501),
        value(client_id=7),
        value(since="2026-01-31T12:00:00"),
        value(since="soon"),
        value(until="0001-01-01T00:00:00+14:00"),
        value(jobs_in_flight=-1),
        value(jobs_in_flight=2**54),
        value(unknown=1.5),
        value().replace(b"client-42", b"\xff\xfe"),
    ],
)
def test_what_isnt_a_gap_is_counted_and_named(bad: bytes | None) -> None:
    """Whatever program wrote it, the gaps around it are shown."""
    overview = overview_of(value(), bad, value("g-2"))
    assert len(overview.gaps) == 2
    assert overview.invalid == 1
    [(place, reason)] = overview.named
    assert (place, bool(reason)) == ("jobs.gaps-0@1", True)
    with pytest.raises(InvalidGapError):
        as_gap(consumed(bad))


def test_memory_is_bounded_by_the_latest_gaps() -> None:
    """Those that came first are left out, which is reported."""
    values = [value(f"g-{number}") for number in range(12)]
    overview = overview_of(*values, value("g-11", until=None), most=10)
    assert set(ids(overview)) == {f"g-{number}" for number in range(2, 12)}
    assert overview.left_out == 2
