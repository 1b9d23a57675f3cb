"""What is read out of a dead letter's headers, whoever wrote them."""

from __future__ import annotations

import pytest

from bridge.consumer.dead_letters.letter import NO_REASON, as_letter, received_at_us
from bridge.consumer.dead_letters.overview import OTHER_REASONS, Reasons
from bridge.consumer.texts import utc
from tests.consumer.dead_letters.letters import Sent, consumed, sent


def test_a_bridges_letter_tells_everything() -> None:
    """Reason, message, place and identity."""
    letter = as_letter(consumed(sent(b"{}", "not_json", ce_id="a-1"), offset=7))
    assert (letter.reason, letter.place, letter.ce_id) == (
        "not_json",
        "jobs.dlq-0@7",
        "a-1",
    )
    assert letter.message.startswith("progress is an array")
    assert not letter.is_truncated


@pytest.mark.parametrize("headers", [{}, {"bridge_reason": b""}])
def test_a_strangers_letter_has_no_reason(headers: dict[str, bytes]) -> None:
    """Also where the header is there and empty."""
    letter = as_letter(consumed(Sent(b"x", headers=headers)))
    assert (letter.reason, letter.message, letter.ce_id) == (NO_REASON, "", None)


def test_a_class_stands_in_for_a_message() -> None:
    """Kafka Connect doesn't always have one."""
    name = b"org.apache.kafka.connect.errors.DataException"
    headers = {"__connect.errors.exception.class.name": name}
    assert as_letter(consumed(Sent(b"x", headers=headers))).message == name.decode()


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


def test_other_peoples_words_have_a_bound() -> None:
    """Beyond a hundred reasons the rest is counted together."""
    reasons = Reasons()
    for number in range(150):
        reasons.take(as_letter(consumed(sent(b"{}", f"r-{number}"))))
    counts = {one.reason: one.count for one in reasons.most_frequent()}
    assert len(counts) == 101
    assert counts[OTHER_REASONS] == 50


def test_an_example_says_how_its_value_begins() -> None:
    """Bytes that are no text are shown as escapes, and no more than fit a few lines."""
    reasons = Reasons()
    reasons.take(as_letter(consumed(sent(b"\x1b<b>\xff" + b"x" * 9_000, "r"))))
    (reason,) = reasons.most_frequent()
    assert reason.text.startswith("\\x1b<b>\\xffx")
    assert len(reason.text) == 500


@pytest.mark.parametrize(
    ("timestamp_ms", "text"),
    [(1_769_860_800_999, "2026-01-31T12:00:00Z"), (10**18, "1000000000000000000")],
)
def test_a_time_is_shown_in_utc(timestamp_ms: int, text: str) -> None:
    """A number that is no time is shown as it is."""
    assert utc(timestamp_ms) == text
