"""
The promise to readers, kept by everything that comes in: each event is told once.

The judge is `tests.job_status.test_contract`'s: the published schema, read with the
`jsonschema` library; images are read with Pillow.
"""

from __future__ import annotations

import hashlib
import json
from io import BytesIO
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from bridge.errors import DeadLetterReason
from bridge.job_status import TERMINAL_STATUSES, Change
from bridge.pusher.protocol import ChannelEvent, decode
from bridge.record import Importance, Record
from tests.job_status.test_contract import (
    JSON_VALUES,
    MAX_BYTES,
    OBJECTS,
    PREVIEWS,
    TEXTS,
    UnfitError,
    conforming_members,
    events,
    judge,
)
from tests.previews.images import KINDS
from tests.test_intake import RECEIVED_AT_US, Outlet


# A third of the images that are drawn are larger, some of each kind but AVIF.
MAX_PREVIEW_BYTES = 640

MODES = ("inline", "drop", "topic")

_TAKEN = {
    Change.PREVIEW_OMITTED,
    Change.PREVIEW_MOVED,
    Change.PREVIEW_INVALID,
    Change.PREVIEW_TOO_LARGE,
}


@st.composite
def pictured(draw: st.DrawFn) -> str:
    """Draw the text of an event that conforms and has a preview."""
    members = dict(draw(conforming_members()))
    members["preview"] = draw(PREVIEWS)
    more = draw(st.sampled_from(["", ',"more":1e999', ',"preview":null']))
    inner = ",".join(f'"{name}":{literal}' for name, literal in members.items())
    return f"{{{inner}{more}}}"


# What upstream may send.
PAYLOADS = pictured() | pictured() | events() | TEXTS | OBJECTS | JSON_VALUES


def frame_of(data: object, *, is_ascii: bool) -> ChannelEvent:
    """Send a payload through a frame, as a publisher writes it."""
    received = _received(data, is_ascii=is_ascii)
    assert isinstance(received, ChannelEvent)
    return received


def _received(data: object, *, is_ascii: bool) -> object:
    frame = {"event": "request.status.updated", "channel": "c", "data": data}
    return decode(json.dumps(frame, ensure_ascii=is_ascii))


# What the frame itself can't hold (NaN beside it) isn't drawn.
EVENTS = st.builds(_received, PAYLOADS, is_ascii=st.booleans()).filter(
    lambda received: isinstance(received, ChannelEvent)
)


def outlet_for(previews: str, **options: Any) -> Outlet:
    """Give an intake with limits that drawn events cross now and then."""
    limits = {
        "max_value_bytes": MAX_BYTES,
        "max_dead_letter_bytes": MAX_BYTES,
        "max_preview_bytes": MAX_PREVIEW_BYTES,
    }
    return Outlet(
        previews=previews, preview_topic="jobs.previews", **{**limits, **options}
    )


def records_of(outlet: Outlet, *received: ChannelEvent) -> list[Record]:
    """Give the records of one run."""
    outlet.intake.accept(received, RECEIVED_AT_US)
    [run] = outlet.runs
    return run


def changes_of(record: Record) -> set[Change]:
    """Read what the record says was changed."""
    told = dict(record.extra).get("bridge_normalized")
    return {Change(word) for word in told.decode().split(",")} if told else set()


def check_preview(record: Record, job: Record) -> None:
    """Check an image against its job's record, with another library's eyes."""
    digest = hashlib.sha256(record.value).hexdigest().encode()
    assert dict(record.extra)["bridge_preview_sha256"] == digest
    assert dict(job.extra)["bridge_preview_sha256"] == digest
    assert record.key == job.key
    assert record.envelope.ce_type == "dev.dryapi.request.preview"
    assert record.importance is Importance.PICTURE
    assert record.status is None
    assert len(record.value) <= MAX_PREVIEW_BYTES
    with Image.open(BytesIO(record.value)) as picture:
        picture.load()
        assert picture.format == KINDS[record.envelope.content_type]


def check_beside(records: list[Record], job: Record) -> None:
    """Check what an event brought beside its record, which comes last."""
    changes = changes_of(job)
    assert len(records) <= 1
    for record in records:
        if record.topic == "jobs.previews":
            assert Change.PREVIEW_MOVED in changes
            check_preview(record, job)
            continue
        reason = DeadLetterReason(dict(record.extra)["bridge_reason"].decode())
        wanted = {
            DeadLetterReason.INVALID_PREVIEW: Change.PREVIEW_INVALID,
            DeadLetterReason.TOO_LARGE: Change.PREVIEW_TOO_LARGE,
        }[reason]
        assert record.topic == "jobs.dlq"
        assert record.key == job.key
        assert wanted in changes


def check_job(record: Record) -> dict[str, Any]:
    """Check a record of a job as a reader would."""
    value = judge(record.value)
    assert record.key is not None
    assert record.key.decode() == value["request_id"]
    assert len(record.value) <= MAX_BYTES
    is_terminal = value["status"] in TERMINAL_STATUSES
    assert (record.importance is Importance.TERMINAL) is is_terminal
    changes = changes_of(record)
    assert len(changes & _TAKEN) <= 1
    if changes & _TAKEN:
        assert value["preview"] is None
        assert record.importance is not Importance.PREVIEW
    return value


def is_fit(received: ChannelEvent) -> bool:
    """Ask the judge whether an event conforms as it came."""
    data = received.data
    if not isinstance(data, str):
        return False
    try:
        judge(data.encode("utf-8", "surrogatepass"))
    except UnfitError:
        return False
    return True


@pytest.mark.parametrize("mode", MODES)
@settings(max_examples=150)
@given(received=EVENTS)
def test_every_event_is_one_record_that_validates_or_one_dead_letter(
    mode: str, received: ChannelEvent
) -> None:
    """Beside it there is at most its preview, and the counts say the same."""
    outlet = outlet_for(mode)
    *beside, record = records_of(outlet, received)
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
    # What conforms is refused for its size alone.
    reason = DeadLetterReason(dict(record.extra)["bridge_reason"].decode())
    assert not is_fit(received) or reason is DeadLetterReason.TOO_LARGE
    assert statistics.dead_letters[reason] == 1
    assert statistics.accepted == statistics.previews == 0


@settings(max_examples=150)
@given(received=EVENTS)
def test_settings_differ_in_the_preview_alone(received: ChannelEvent) -> None:
    """What becomes of an event, and all else in it, is the same in each setting."""
    unbounded = {"max_value_bytes": 10**9, "max_dead_letter_bytes": 10**9}
    inline, drop, topic = (
        records_of(outlet_for(mode, **unbounded), received)[-1] for mode in MODES
    )
    if inline.topic == "jobs.dlq":
        assert inline == drop == topic
        return
    value = judge(inline.value)
    assert judge(drop.value) == judge(topic.value) == {**value, "preview": None}
    taken = changes_of(drop) - changes_of(inline)
    if value["preview"] is None:
        assert inline == drop == topic
    else:
        assert taken == {Change.PREVIEW_OMITTED}
        assert changes_of(inline) < changes_of(topic)
        assert drop.value == topic.value
    if is_fit(received):
        assert isinstance(received.data, str)
        assert inline.value == received.data.encode()
        assert inline.extra == ()


@pytest.mark.parametrize("mode", MODES)
@settings(max_examples=50)
@given(received=st.lists(EVENTS, min_size=1, max_size=8))
def test_a_run_of_events_is_accounted_for_whole_and_in_order(
    mode: str, received: list[ChannelEvent]
) -> None:
    """A run gives what its events give one by one, each of them once."""
    outlet = outlet_for(mode)
    run = records_of(outlet, *received)
    singles = [records_of(outlet_for(mode), one) for one in received]
    assert run == [record for records in singles for record in records]
    statistics = outlet.intake.statistics
    refused = sum(statistics.dead_letters.values())
    assert statistics.accepted + refused == len(received)
    apart = statistics.previews + sum(statistics.preview_dead_letters.values())
    assert len(run) == len(received) + apart
