"""What a consumer counts and measures."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from bridge.kafka.reading.reader import ConsumedRecord
from tests.local_run.ledger import Ledger, percentile


_NOW_SECONDS = 1_700_000_000.0


def record(value: bytes | None) -> ConsumedRecord:
    """A record with this value."""
    return ConsumedRecord("jobs", 0, 0, 0, b"a", value, {})


def emitted(seconds_ago: float) -> ConsumedRecord:
    """A record with the sandbox's stamp."""
    moment = datetime.fromtimestamp(_NOW_SECONDS - seconds_ago, UTC)
    text = moment.isoformat(timespec="microseconds").replace("+00:00", "Z")
    return record(f'{{"status":"done","sandbox_emitted_at":"{text}"}}'.encode())


def test_delays_go_from_the_stamp_to_the_reading() -> None:
    """Every record counts, and the stamped ones are measured."""
    ledger = Ledger()
    assert ledger.recent() is None
    ledger.observe([emitted(0.010), record(b'{"status":"done"}')], _NOW_SECONDS)
    ledger.observe([emitted(0.030), record(None)], _NOW_SECONDS)
    assert ledger.consumed == 4
    assert ledger.delays() == pytest.approx([0.010, 0.030], abs=1e-5)
    assert ledger.recent() == pytest.approx((0.010, 0.030), abs=1e-5)


def test_recent_delays_are_the_latest_thousand() -> None:
    """What was slow long ago doesn't show any more."""
    ledger = Ledger()
    ledger.observe([emitted(9.0)] * 500, _NOW_SECONDS)
    ledger.observe([emitted(0.004)] * 1_000, _NOW_SECONDS)
    assert ledger.recent() == pytest.approx((0.004, 0.004), abs=1e-5)


@pytest.mark.parametrize(
    ("percent", "value"), [(1, 1), (50, 50), (99, 99), (99.5, 100), (100, 100)]
)
def test_percentiles_are_values_that_occurred(percent: float, value: float) -> None:
    """By nearest rank, as the field's tools report them."""
    assert percentile([float(n) for n in range(1, 101)], percent) == value
    assert percentile([7.0], percent) == 7.0
