"""Of each gap the last record counts, and what isn't a gap stops nothing."""

from __future__ import annotations

import json
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
from tests.consumer.gaps.ledger import (
    consumed,
    records,
    settled,
    value,
)


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
    """A late write can stand behind what came after it."""
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
    """Whoever wrote it, the gaps around it are shown."""
    overview = overview_of(value(), bad, value("g-2"))
    assert len(overview.gaps) == 2
    assert overview.invalid == 1
    [(place, reason)] = overview.named
    assert (place, bool(reason)) == ("jobs.gaps-0@1", True)
    with pytest.raises(InvalidGapError):
        as_gap(consumed(bad))


def test_memory_is_bounded_by_the_latest_gaps() -> None:
    """Those that came first are left out, and that is told."""
    values = [value(f"g-{number}") for number in range(12)]
    overview = overview_of(*values, value("g-11", until=None), most=10)
    assert set(ids(overview)) == {f"g-{number}" for number in range(2, 12)}
    assert overview.left_out == 2
