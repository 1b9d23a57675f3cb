"""Whatever payload comes: one record that keeps the contract, or one dead letter."""

from __future__ import annotations

import hashlib
from io import BytesIO
from typing import Any

import pytest
from hypothesis import example, given, settings
from PIL import Image

from bridge.errors import DeadLetterReason
from bridge.events.intake import strip_preview
from bridge.events.job_status import TERMINAL_STATUSES, Change
from bridge.events.record import Importance, Record
from bridge.pusher.protocol import ChannelEvent
from tests.rules.drawing import EVENTS, MAX_BYTES, MAX_PREVIEW_BYTES, frame_of
from tests.rules.images import KINDS
from tests.rules.intake import Outlet
from tests.rules.reader import UnfitError, judge


MODES = ("inline", "drop", "topic")

_TAKEN = {
    Change.PREVIEW_OMITTED,
    Change.PREVIEW_MOVED,
    Change.PREVIEW_INVALID,
    Change.PREVIEW_TOO_LARGE,
}


def outlet_for(previews: str, **options: Any) -> Outlet:
    """Give an intake with limits that drawn events cross now and then."""
    limits = {
        "max_value_bytes": MAX_BYTES,
        "max_dead_letter_bytes": MAX_BYTES,
        "max_preview_bytes": MAX_PREVIEW_BYTES,
    }
    return Outlet(previews=previews, **{**limits, **options})


def changes_of(record: Record) -> set[Change]:
    """Read which changes the record names."""
    words = dict(record.extra).get("bridge_normalized")
    return {Change(word) for word in words.decode().split(",")} if words else set()


def reason_of(record: Record) -> DeadLetterReason:
    """Read why a dead letter is one."""
    return DeadLetterReason(dict(record.extra)["bridge_reason"].decode())


def check_image(record: Record, job: Record) -> None:
    """Check an image against its job's record, with another library's eyes."""
    digest = hashlib.sha256(record.value).hexdigest().encode()
    assert dict(record.extra)["bridge_preview_sha256"] == digest
    assert dict(job.extra)["bridge_preview_sha256"] == digest
    assert record.envelope.ce_type == "dev.dryapi.request.preview"
    assert record.importance is Importance.PICTURE
    assert record.status is None
    assert len(record.value) <= MAX_PREVIEW_BYTES
    with Image.open(BytesIO(record.value)) as picture:
        picture.load()
        assert picture.format == KINDS[record.envelope.content_type]


def check_beside(records: list[Record], job: Record) -> None:
    """Check what an event brought beside its record, which comes last."""
    assert len(records) <= 1
    for record in records:
        assert record.key == job.key
        if record.topic == "jobs.previews":
            assert Change.PREVIEW_MOVED in changes_of(job)
            check_image(record, job)
            continue
        assert record.topic == "jobs.dlq"
        assert record.importance is Importance.PICTURE
        assert record.envelope.kind == "preview"
        assert record.envelope.ce_type == "dev.dryapi.bridge.dead-letter"
        wanted = {
            DeadLetterReason.INVALID_PREVIEW: Change.PREVIEW_INVALID,
            DeadLetterReason.TOO_LARGE: Change.PREVIEW_TOO_LARGE,
        }[reason_of(record)]
        assert wanted in changes_of(job)


def check_job(record: Record) -> None:
    """Check a record of a job as a reader would."""
    value = judge(record.value)
    assert record.key is not None
    assert record.key.decode() == value["request_id"]
    assert (record.status, record.progress) == (value["status"], value["progress"])
    assert len(record.value) <= MAX_BYTES
    taken = changes_of(record) & _TAKEN
    assert len(taken) <= 1
    assert not taken or value["preview"] is None
    importance = Importance.EVENT
    if value["status"] in TERMINAL_STATUSES:
        importance = Importance.TERMINAL
    elif value["status"] == "in_progress" and value["preview"] is not None:
        importance = Importance.PREVIEW
    assert record.importance is importance


def is_fit(received: ChannelEvent) -> bool:
    """Ask the judge whether an event conforms as it came."""
    if not isinstance(received.data, str):
        return False
    try:
        judge(received.data.encode("utf-8", "surrogatepass"))
    except UnfitError:
        return False
    return True


@pytest.mark.parametrize("mode", MODES)
@settings(max_examples=150)
@given(received=EVENTS)
def test_every_event_is_one_record_that_conforms_or_one_dead_letter(
    mode: str, received: ChannelEvent
) -> None:
    """Beside it there is at most its preview, and the counts say the same."""
    outlet = outlet_for(mode)
    *beside, record = outlet.take(received)
    statistics = outlet.intake.statistics
    if record.topic == "jobs":
        check_job(record)
        check_beside(beside, record)
        assert mode == "topic" or not beside
        letters = [one for one in beside if one.topic == "jobs.dlq"]
        assert statistics.previews == len(beside) - len(letters)
        assert sum(statistics.preview_dead_letters.values()) == len(letters)
        assert statistics.accepted == 1
        assert not sum(statistics.dead_letters.values())
        return
    assert beside == []
    assert record.topic == "jobs.dlq"
    original = (
        received.data.encode("utf-8", "surrogatepass")
        if isinstance(received.data, str)
        else received.original
    )
    assert record.value == original[:MAX_BYTES]
    # What conforms is refused only for its size.
    reason = reason_of(record)
    assert not is_fit(received) or reason is DeadLetterReason.TOO_LARGE
    assert statistics.dead_letters[reason] == 1
    assert statistics.accepted == statistics.previews == 0


@settings(max_examples=300)
@given(received=EVENTS)
@example(
    frame_of(
        '{"request_id":"a","status":"done","preview":[],"result_url":"","progress":1}',
        is_ascii=True,
    )
)
def test_an_event_passes_untouched_exactly_if_it_conforms(
    received: ChannelEvent,
) -> None:
    """In both directions; what was changed passes untouched the next time."""
    outlet = outlet_for("inline", max_value_bytes=10**9)
    [record] = outlet.take(received)
    is_untouched = record.topic == "jobs" and not record.extra
    assert is_untouched == is_fit(received)
    if record.topic != "jobs":
        return
    if is_untouched:
        assert isinstance(received.data, str)
        assert record.value == received.data.encode()
    [again] = outlet.take(frame_of(record.value.decode(), is_ascii=False))
    assert (again.value, again.extra) == (record.value, ())


@settings(max_examples=200)
@given(received=EVENTS)
def test_settings_and_dropping_change_the_preview_and_nothing_else(
    received: ChannelEvent,
) -> None:
    """Each setting gives the same record, all its members and their order included."""
    unbounded = {"max_value_bytes": 10**9, "max_dead_letter_bytes": 10**9}
    inline, drop, topic = (
        outlet_for(mode, **unbounded).take(received)[-1] for mode in MODES
    )
    if inline.topic == "jobs.dlq" or judge(inline.value)["preview"] is None:
        assert inline == drop == topic
        assert strip_preview(inline) is None
        return
    value = judge(inline.value)
    without = judge(drop.value)
    assert without == {**value, "preview": None}
    assert list(without) == list(value)
    assert drop.value == topic.value
    assert changes_of(drop) - changes_of(inline) == {Change.PREVIEW_OMITTED}
    assert changes_of(inline) < changes_of(topic)
    stripped = strip_preview(inline)
    if inline.importance is Importance.PREVIEW:
        assert stripped is not None
        assert stripped.value == drop.value
        assert stripped.importance is Importance.EVENT
        assert changes_of(stripped) - changes_of(inline) == {Change.PREVIEW_DROPPED}
    else:
        assert stripped is None
