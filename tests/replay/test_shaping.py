"""What becomes of a dead letter's payload, without a Kafka."""

from __future__ import annotations

from pathlib import Path

import pytest

from bridge.consumer.dead_letters import Shaped
from bridge.consumer.dead_letters.letter import as_letter
from bridge.events.record import Origin
from bridge.replay.shaping import Shaping
from bridge.settings import OutboxSettings, Settings
from tests.consumer.dead_letters.letters import SOURCE, Sent, consumed, payload, sent


def shape(letter: Sent, **more: object) -> Shaped | str:
    """Make what a bridge with the usual settings makes of a letter."""
    settings = Settings(outbox=OutboxSettings(dir=Path("/nowhere")), **more)  # type: ignore[arg-type]
    return Shaping(settings, "jobs.dlq").shape(as_letter(consumed(letter, offset=7)))


def test_a_valid_payload_passes_untouched() -> None:
    """Its bytes, its account and the moment of its reading are those of the letter."""
    letter = sent(payload("job-1"), ce_id="a-1")
    shaped = shape(letter)
    assert isinstance(shaped, Shaped)
    assert (shaped.key, shaped.status) == (b"job-1", "done")
    (record,) = shaped.records
    assert (record.topic, record.key, record.value) == (
        "jobs",
        b"job-1",
        letter.value,
    )
    assert record.received_at_us == letter.timestamp_ms * 1000 + 123
    assert record.envelope.ce_source == SOURCE
    assert record.envelope.origin == Origin.REPLAY
    assert dict(record.extra) == {
        "bridge_replayed_from": b"jobs.dlq-0@7",
        "bridge_replayed_ce_id": b"a-1",
        "bridge_anomaly": b"replayed",
    }
    # The outbox must not take it for a job in flight.
    assert (record.status, record.progress) == (None, None)


def test_halves_of_pairs_are_repaired_as_on_the_socket() -> None:
    """A dead letter keeps them as bytes that UTF-8 doesn't have."""
    text = '{"request_id": "job-1", "status": "done", "note": "\ud800"}'
    shaped = shape(sent(text.encode("utf-8", "surrogatepass")))
    assert isinstance(shaped, Shaped)
    (record,) = shaped.records
    assert "\ufffd" in record.value.decode()
    assert dict(record.extra)["bridge_normalized"] == b"invalid_unicode,missing_field"


def test_a_preview_of_its_own_is_marked_as_well() -> None:
    """Both records say which letter they come from."""
    pixel = (
        "data:image/gif;base64,R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7"
    )
    event = payload("job-1", "in_progress", preview=pixel)
    shaped = shape(sent(event, ce_id="a-1"), previews="topic")
    assert isinstance(shaped, Shaped)
    assert [record.topic for record in shaped.records] == ["jobs.previews", "jobs"]
    for record in shaped.records:
        assert dict(record.extra)["bridge_replayed_ce_id"] == b"a-1"


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (b"", "not_json"),
        (b"\xff", "not_json"),
        (b"[1]", "not_an_object"),
        (b'{"status": "done"}', "missing_request_id"),
        (b'{"request_id": "job-1", "status": "asleep"}', "unknown_status"),
    ],
)
def test_what_is_still_invalid_has_its_reason_of_now(value: bytes, reason: str) -> None:
    """Whatever an older version called it."""
    assert shape(sent(value, "too_deep")) == reason
