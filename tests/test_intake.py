"""Every event that was read becomes one record, on `jobs` or among the dead letters."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest

from bridge.errors import DeadLetterReason
from bridge.intake import Intake, lighten
from bridge.job_status import Change
from bridge.pusher.protocol import ChannelEvent, decode
from bridge.record import Envelope, Importance, Origin, Record


RECEIVED_AT_US = 1_700_000_000_000_001
SOURCE = "https://api.dryapi.dev/clients/42"


def event(data: object) -> ChannelEvent:
    """Give the event that a frame with this data becomes."""
    name, channel = "request.status.updated", "private-client.42"
    frame = json.dumps({"event": name, "channel": channel, "data": data})
    return ChannelEvent(event=name, channel=channel, data=data, text=frame)


def status(**members: Any) -> str:
    """Write a conforming payload with some members changed."""
    return json.dumps(
        {
            "request_id": "job-1",
            "status": "in_progress",
            "preview": None,
            "result_url": None,
            "progress": "45.50",
            **members,
        }
    )


class Outlet:
    """Keeps what an intake offers, run by run."""

    def __init__(self, **options: Any) -> None:
        self.runs: list[list[Record]] = []
        self.intake = Intake(
            ce_source=SOURCE,
            topic="jobs",
            dead_letter_topic="jobs.dlq",
            offer=self.runs.append,
            **options,
        )

    def accept(self, *payloads: object) -> list[Record]:
        """Give the records of one run of events with these payloads."""
        self.intake.accept([event(data) for data in payloads], RECEIVED_AT_US)
        return self.runs[-1]


def test_conforming_event_becomes_a_record() -> None:
    """Key, value, time and shared headers are those of the design."""
    [record] = Outlet().accept(status())
    assert record == Record(
        topic="jobs",
        key=b"job-1",
        value=status().encode(),
        received_at_us=RECEIVED_AT_US,
        envelope=Envelope(
            ce_source=SOURCE,
            ce_type="dev.dryapi.request.status.updated",
            origin="socket",
            content_type="application/json",
        ),
        importance=Importance.EVENT,
        status="in_progress",
        progress="45.50",
    )


@pytest.mark.parametrize(
    ("payload", "importance"),
    [
        (status(), Importance.EVENT),
        (status(preview="p"), Importance.PREVIEW),
        (status(preview="p" * 9000), Importance.PREVIEW),
        (json.loads(status(preview="p")), Importance.PREVIEW),
        (status(preview="p", x=1), Importance.PREVIEW),
        (status(status="processing"), Importance.EVENT),
        (status(status="processing", preview="p"), Importance.EVENT),
        (status(status="done", preview="p"), Importance.TERMINAL),
        (status(status="done"), Importance.TERMINAL),
        (status(status="error"), Importance.TERMINAL),
        ("no status", Importance.EVENT),
    ],
)
def test_importance_says_what_goes_first(
    payload: object, importance: Importance
) -> None:
    """A job's end outlives its middle, and that outlives a preview."""
    [record] = Outlet().accept(payload)
    assert record.importance is importance


@pytest.mark.parametrize(
    ("payload", "status_and_progress"),
    [
        (status(status="processing", progress=None), ("processing", None)),
        (status(status="done", progress="100"), ("done", "100")),
        (status(preview="p" * 9000), ("in_progress", "45.50")),
        (status(progress=7), ("in_progress", "7.00")),
        ('{"request_id":"a","status":"error"}', ("error", None)),
        (status(status="sleeping"), (None, None)),
    ],
)
def test_record_says_where_its_job_stands(
    payload: object, status_and_progress: tuple[str | None, str | None]
) -> None:
    """Status and progress are those of the value; a dead letter is no job's."""
    [record] = Outlet().accept(payload)
    assert (record.status, record.progress) == status_and_progress


def test_lightened_record_has_lost_its_preview_and_says_so() -> None:
    """Value, header and importance change; everything else stays."""
    [record] = Outlet().accept(status(preview="p"))
    assert lighten(record) == Record(
        topic="jobs",
        key=b"job-1",
        value=status().encode(),
        received_at_us=RECEIVED_AT_US,
        envelope=record.envelope,
        extra=(("bridge_normalized", b"preview_dropped"),),
        importance=Importance.EVENT,
        status="in_progress",
        progress="45.50",
    )


def test_lightened_record_keeps_what_was_changed_before() -> None:
    """The header lists the dropped preview after the other changes."""
    [record] = Outlet().accept(status(preview="p", progress=1))
    lightened = lighten(record)
    assert lightened is not None
    assert lightened.extra == (
        ("bridge_normalized", b"progress_number,preview_dropped"),
    )
    assert lighten(lightened) is None


def test_only_what_has_a_preview_of_its_middle_is_lightened() -> None:
    """Terminal events and dead letters are whole or not at all."""
    payloads = [status(), status(status="done", preview="p"), "bad"]
    assert [lighten(record) for record in Outlet().accept(*payloads)] == [None] * 3


def test_run_is_offered_once_and_in_order() -> None:
    """One run of events is one list, dead letters in their place."""
    outlet = Outlet()
    payloads = [status(request_id="a"), "bad", status(request_id="b"), status()]
    records = outlet.accept(*payloads)
    assert outlet.runs == [records]
    assert [record.topic for record in records] == ["jobs", "jobs.dlq", "jobs", "jobs"]
    assert [record.value for record in records] == [text.encode() for text in payloads]
    assert records[0].envelope is records[2].envelope


def test_empty_run_offers_nothing() -> None:
    """Without events nothing is handed on."""
    outlet = Outlet()
    outlet.intake.accept([], RECEIVED_AT_US)
    assert outlet.runs == []


def test_changes_are_told_in_a_header() -> None:
    """A normalised event names what was changed; others have no such header."""
    first, second = Outlet().accept(json.loads(status(progress=1)), status())
    assert first.extra == (("bridge_normalized", b"data_not_string,progress_number"),)
    assert json.loads(first.value)["progress"] == "1.00"
    assert second.extra == ()


def test_dead_letter_has_bytes_key_and_reason() -> None:
    """An event that doesn't conform keeps its bytes, its job and why."""
    payload = status(status="sleeping")
    message = b"status is a string that is none of processing, in_progress, done, error"
    [record] = Outlet().accept(payload)
    assert record == Record(
        topic="jobs.dlq",
        key=b"job-1",
        value=payload.encode(),
        received_at_us=RECEIVED_AT_US,
        envelope=Envelope(
            ce_source=SOURCE,
            ce_type="dev.dryapi.bridge.dead-letter",
            origin="socket",
            content_type="application/json",
        ),
        extra=(
            ("bridge_reason", b"unknown_status"),
            ("__connect.errors.stage", b"VALUE_CONVERTER"),
            (
                "__connect.errors.exception.class.name",
                b"bridge.errors.InvalidEventError",
            ),
            ("__connect.errors.exception.message", message),
        ),
    )


@pytest.mark.parametrize(
    ("payload", "reason", "key", "content_type"),
    [
        ("not json", "not_json", None, "application/octet-stream"),
        (status()[:-1], "not_json", b"job-1", "application/octet-stream"),
        ("[1]", "not_an_object", None, "application/json"),
        (5, "not_an_object", None, "application/json"),
        ("{}", "missing_request_id", None, "application/json"),
        (status(status="x"), "unknown_status", b"job-1", "application/json"),
        (status(preview=5), "invalid_field", b"job-1", "application/json"),
        (
            status(result_url="x" * 5000),
            "too_large",
            b"job-1",
            "application/octet-stream",
        ),
        (
            '{"request_id":"a","x":' + "[" * 99 + "]" * 99 + "}",
            "too_deep",
            b"a",
            "application/octet-stream",
        ),
    ],
)
def test_each_reason_has_its_key_and_content_type(
    payload: object, reason: str, key: bytes | None, content_type: str
) -> None:
    """The key is there where one can be found; JSON is called JSON if it is."""
    outlet = Outlet(max_value_bytes=4000)
    [record] = outlet.accept(payload)
    assert record.extra[0] == ("bridge_reason", reason.encode())
    assert record.key == key
    assert record.envelope.content_type == content_type
    assert record.envelope.ce_type == "dev.dryapi.bridge.dead-letter"
    assert outlet.intake.statistics.dead_letters[DeadLetterReason(reason)] == 1


def test_large_dead_letter_keeps_its_first_part() -> None:
    """Above the limit the beginning is kept, with size and digest of the whole."""
    payload = status(preview="x" * 5000, status="sleeping")
    [record] = Outlet(max_dead_letter_bytes=1000).accept(payload)
    assert record.value == payload.encode()[:1000]
    assert record.key == b"job-1"
    assert record.envelope.content_type == "application/octet-stream"
    assert record.extra[-3:] == (
        ("bridge_truncated", b"true"),
        ("bridge_original_size", str(len(payload)).encode()),
        ("bridge_sha256", hashlib.sha256(payload.encode()).hexdigest().encode()),
    )


def test_dead_letter_of_exactly_the_limit_is_whole() -> None:
    """What just fits is not cut."""
    payload = status(status="sleeping")
    [record] = Outlet(max_dead_letter_bytes=len(payload)).accept(payload)
    assert record.value == payload.encode()
    assert not {name for name, _ in record.extra} & {"bridge_truncated"}


def test_dead_letter_of_an_object_has_the_frame_s_own_bytes() -> None:
    """A payload that was no string is kept as the frame wrote it."""
    data = '{"status" : "sleeping",  "n": 1.50, "request_id": "job-1"}'
    frame = f'{{"event":"request.status.updated","channel":"c","data":{data}}}'
    received = decode(frame)
    assert isinstance(received, ChannelEvent)
    outlet = Outlet()
    outlet.intake.accept([received], RECEIVED_AT_US)
    [[record]] = outlet.runs
    assert record.value == data.encode()
    assert record.key == b"job-1"


def test_counts_add_up() -> None:
    """Every event is accepted or one dead letter; changes are counted beside."""
    outlet = Outlet(origin=Origin.REPLAY)
    outlet.accept(status(), "bad", status(progress=1), "worse", "[]")
    outlet.accept('{"request_id":"a","status":"done","progress":2}')
    statistics = outlet.intake.statistics
    assert statistics.accepted == 3
    assert {k: n for k, n in statistics.dead_letters.items() if n} == {
        DeadLetterReason.NOT_JSON: 2,
        DeadLetterReason.NOT_AN_OBJECT: 1,
    }
    assert {k: n for k, n in statistics.normalized.items() if n} == {
        Change.PROGRESS_NUMBER: 2,
        Change.MISSING_FIELD: 1,
    }
    assert statistics.accepted + sum(statistics.dead_letters.values()) == 6
    assert {record.envelope.origin for run in outlet.runs for record in run} == {
        "replay"
    }


def test_message_in_the_header_is_short_and_tells_no_contents() -> None:
    """No payload brings its contents into a header."""
    secret = "https://a.example/?signature=hush" * 50
    outlet = Outlet()
    records = outlet.accept(
        status(status=secret), status(progress=secret), status(preview=[secret]), secret
    )
    for record in records:
        headers = dict(record.extra)
        assert len(headers["__connect.errors.exception.message"]) <= 300
        assert all(b"hush" not in value for value in headers.values())
