"""What is read out of a dead letter's headers, whoever wrote them."""

from __future__ import annotations

import pytest

from bridge.consumer.dead_letters.letter import received_at_us
from tests.consumer.dead_letters.letters import Sent, consumed


@pytest.mark.parametrize(
    ("time", "expected"),
    [
        (b"2026-01-31T12:00:00.000007Z", 1_769_860_800_000_007),
        (b"2026-01-31T13:00:00.999999+01:00", 1_769_860_800_999_999),
        (b"yesterday", 5_000),
        (b"\xff", 5_000),
        (b"", 5_000),
        (b"0001-01-01T00:00:00Z", 0),
    ],
)
def test_the_time_of_reading_is_exact(time: bytes, expected: int) -> None:
    """To the microsecond; what is no time gives way to the record's own."""
    record = consumed(Sent(b"x", headers={"ce_time": time}, timestamp_ms=5))
    assert received_at_us(record) == expected
