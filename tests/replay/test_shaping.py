"""What becomes of a dead letter's payload, without a Kafka."""

from __future__ import annotations

from pathlib import Path

from bridge.consumer.dead_letters import Shaped
from bridge.consumer.dead_letters.letter import as_letter
from bridge.replay.shaping import Shaping
from bridge.settings import OutboxSettings, Settings
from tests.consumer.dead_letters.letters import Sent, consumed, payload, sent


def shape(letter: Sent, **more: object) -> Shaped | str:
    """Make what a bridge with the usual settings makes of a letter."""
    settings = Settings(outbox=OutboxSettings(dir=Path("/nowhere")), **more)  # type: ignore[arg-type]
    return Shaping(settings, "jobs.dlq").shape(as_letter(consumed(letter, offset=7)))


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
