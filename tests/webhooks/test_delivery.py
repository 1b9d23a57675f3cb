"""What webhooks say, and what becomes of those that say nothing."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from bridge.webhooks.delivery import Event, delivery_of, read
from hypothesis import example, given
from hypothesis import strategies as st

from bridge.outbox.values import Delivery
from tests.rules.reader import judge
from tests.webhooks.making import (
    SOURCE,
    body_of,
    completed,
    failed,
    make_of,
    processing,
)


_ENDED_US = 1_800_000_000_000_000
_RECEIVED_AT_US = _ENDED_US + 700_000
_NOW_US = 5_000_000
_HOLD_US = 10_000_000


def _delivery(body: bytes) -> Delivery | None:
    return delivery_of(
        read(body),
        make_of(),
        received_at_us=_RECEIVED_AT_US,
        now_us=_NOW_US,
        hold_us=_HOLD_US,
    )


def _kept(body: bytes) -> Delivery:
    delivery = _delivery(body)
    assert delivery is not None
    return delivery


def _reason(delivery: Delivery) -> str:
    return dict(delivery.record.extra)["bridge_reason"].decode()


# -- Jobs -------------------------------------------------------------------------


_EMPTY = {
    "request_id": "job-1",
    "preview": None,
    "result_url": None,
    "progress": None,
}
_OF_TYPE = {**_EMPTY, "job_type": "txt2img"}


@pytest.mark.parametrize(
    ("event", "data", "ended_us", "value"),
    [
        (
            "job.processing",
            processing(),
            None,
            {"status": "processing", "started_at": "2027-01-15T07:59:50.000Z"},
        ),
        # What the socket doesn't say is passed on.
        (
            "job.completed",
            completed(),
            _ENDED_US,
            {
                "status": "done",
                "result_url": "https://storage.dryapi.dev/results/job-1.png?s=1",
                "completed_at": "2027-01-15T08:00:00.000Z",
                "processing_time_ms": 10_000,
            },
        ),
        # The socket never says `error`.
        (
            "job.failed",
            failed(),
            _ENDED_US,
            {
                "status": "error",
                "error_code": "WORKER_TIMEOUT",
                "error_message": "The worker did not answer in time.",
                "failed_at": "2027-01-15T08:00:00.000Z",
            },
        ),
    ],
)
def test_a_webhook_is_the_event_of_the_socket(
    event: str, data: object, ended_us: int | None, value: dict[str, Any]
) -> None:
    """It is held, whether its job has ended or not."""
    delivery = _kept(body_of(event, data, delivery_id="d-1"))
    record = delivery.record
    assert json.loads(record.value) == _OF_TYPE | value
    assert (delivery.delivery_id, delivery.ended_us) == ("d-1", ended_us)
    assert (record.topic, record.key) == ("jobs", b"job-1")
    assert record.status == value["status"]
    assert (record.envelope.ce_source, record.envelope.origin) == (SOURCE, "webhook")
    assert (record.received_at_us, record.extra) == (_RECEIVED_AT_US, ())
    assert delivery.due_us == _NOW_US + _HOLD_US


def test_a_job_that_has_failed_without_a_reason() -> None:
    """What dryAPI doesn't say is null."""
    delivery = _kept(body_of("job.failed", {"job_request_id": "job-1"}))
    nothing = {"status": "error", "error_code": None, "error_message": None}
    assert json.loads(delivery.record.value) == _EMPTY | nothing
    assert (delivery.record.status, delivery.ended_us) == ("error", None)


def test_what_is_not_known_is_passed_on_as_it_is() -> None:
    """Numbers keep their digits; a preview and a progress are the socket's alone."""
    data = json.dumps(completed(preview="AAAA", progress=1) | {"request_id": "x"})
    more = '"cost":1.10000000000000000001,"more":{"a":[1,null]}'
    raw = body_of("job.completed", {}).replace(b"{}", f"{data[:-1]},{more}}}".encode())
    value = _kept(raw).record.value
    assert more.encode() in value
    told = json.loads(value)
    assert (told["preview"], told["progress"]) == (None, None)
    assert told["request_id"] == "job-1"
    assert "previous_status" not in told


@pytest.mark.parametrize("status", [..., None, "completed", "", 7, ["done"]])
def test_the_event_decides_where_the_status_says_nothing(status: object) -> None:
    """A status that is missing or unknown contradicts nothing."""
    data = {k: v for k, v in completed(status=status).items() if v is not ...}
    assert _kept(body_of("job.completed", data)).record.status == "done"


@pytest.mark.parametrize(
    ("event", "data"),
    [
        ("job.completed", completed(status="error")),
        ("job.completed", completed(status="processing")),
        ("job.failed", failed(status="done")),
        ("job.processing", processing(status="done")),
    ],
)
def test_a_contradiction_is_a_dead_letter(event: str, data: object) -> None:
    """Neither event nor status is believed, and nothing is lost."""
    body = body_of(event, data)
    delivery = _kept(body)
    assert read(body).event is Event.UNREADABLE
    assert (delivery.record.topic, delivery.record.value) == ("jobs.dlq", body)


def test_a_member_of_another_type_is_a_dead_letter() -> None:
    """The contract's own rules hold for webhooks, too."""
    delivery = _kept(body_of("job.completed", completed(result_url=7)))
    assert _reason(delivery) == "invalid_field"
    assert (delivery.record.key, delivery.due_us) == (b"job-1", _NOW_US)


def test_a_message_that_is_too_long_is_a_dead_letter() -> None:
    """What Kafka wouldn't take is cut, as any other."""
    body = body_of("job.failed", failed(error_message="x" * 1_000_000))
    assert _reason(_kept(body)) == "too_large"


# -- When it ended ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("2027-01-15T08:00:00Z", _ENDED_US),
        ("2027-01-15T08:00:00.000000Z", _ENDED_US),
        ("2027-01-15T08:00:00.000001+00:00", _ENDED_US + 1),
        ("2027-01-15T10:00:00+02:00", _ENDED_US),
        ("2027-01-15t08:00:00z", _ENDED_US),
        ("1969-12-31T23:59:59.5Z", -500_000),
        ("0001-01-01T00:00:00+23:59", -62_135_683_140_000_000),
        ("2027-01-15T08:00:00", None),
        ("2027-01-15", None),
        ("2027-02-30T08:00:00Z", None),
        ("yesterday", None),
        ("", None),
        (1_800_000_000, None),
        (None, None),
        ({}, None),
    ],
)
def test_the_moment_of_the_end(written: object, expected: int | None) -> None:
    """RFC 3339 with an offset is read; all else is not known, and loses nothing."""
    done = _kept(body_of("job.completed", completed(completed_at=written)))
    error = _kept(body_of("job.failed", failed(failed_at=written)))
    assert (done.ended_us, error.ended_us) == (expected, expected)
    assert (done.record.status, error.record.status) == ("done", "error")


@given(st.datetimes(timezones=st.just(UTC)))
def test_every_moment_is_read_to_the_microsecond(moment: datetime) -> None:
    """What Python writes is read, exactly."""
    body = body_of("job.failed", failed(failed_at=moment.isoformat()))
    us = (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
    assert read(body).ended_us == us


# -- Ids --------------------------------------------------------------------------


@pytest.mark.parametrize("given_id", [..., None, "", 7, {}, "x" * 129, "a\nb", "\0"])
def test_a_delivery_without_a_usable_id_is_known_by_its_body(given_id: object) -> None:
    """Its event is no worse for that; the same body is the same delivery."""
    body = body_of("job.completed", completed(), delivery_id=given_id)
    delivery = _kept(body)
    assert delivery.delivery_id == f"sha256:{hashlib.sha256(body).hexdigest()}"
    assert delivery.record.status == "done"


# -- Events that make no record -----------------------------------------------------


def test_the_dashboards_test_makes_no_record() -> None:
    """It is known by the body, whatever else that holds."""
    anything: list[object] = [{}, None, [1], ...]
    for data in anything:
        body = body_of("webhook.validation", data, delivery_id=...)
        assert read(body).event is Event.VALIDATION
        assert _delivery(body) is None


@pytest.mark.parametrize("name", ["job.paused", "JOB.COMPLETED", "other", ""])
def test_an_event_of_the_future_makes_no_record(name: str) -> None:
    """Its name is kept for the log, and it is no dead letter."""
    body = body_of(name, completed())
    assert (read(body).event, read(body).name) == (Event.OTHER, name)
    assert _delivery(body) is None


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "not_json"),
        (b"no JSON", "not_json"),
        (b'{"event":"job.completed"', "not_json"),
        (b'\xff{"event":"job.completed"}', "not_json"),
        (b'{"event":"job.completed","data":{"x":"\xff"}}', "not_json"),
        (b"\xef\xbb\xbf{}", "not_json"),
        (b"[" * 100_000, "too_deep"),
        (b'{"data":' * 50_000 + b"1" + b"}" * 50_000, "too_deep"),
        (b"[]", "not_an_object"),
        (b"null", "not_an_object"),
        (b"{}", "missing_request_id"),
        (b'{"event":7}', "missing_request_id"),
        (b'{"event":"job.completed"}', "missing_request_id"),
        (b'{"event":"job.completed","data":"{}"}', "missing_request_id"),
        (b'{"event":"job.completed","data":{}}', "missing_request_id"),
        (b'{"event":"job.failed","data":{"job_request_id":7}}', "missing_request_id"),
        (b'{"event":"job.failed","data":{"job_request_id":""}}', "missing_request_id"),
    ],
)
def test_what_makes_no_sense_is_a_dead_letter(body: bytes, reason: str) -> None:
    """Its bytes are kept as they came, at once, with the reason."""
    delivery = _kept(body)
    assert read(body).event is Event.UNREADABLE
    assert (delivery.record.topic, delivery.record.status) == ("jobs.dlq", None)
    assert (delivery.record.value, _reason(delivery)) == (body, reason)
    assert (delivery.due_us, delivery.ended_us) == (_NOW_US, None)
    assert delivery.delivery_id == f"sha256:{hashlib.sha256(body).hexdigest()}"


# -- Anything -----------------------------------------------------------------------

_json = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8)
    ),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=8,
)
_status = st.sampled_from(["done", "error", "processing", "in_progress", "pending"])
_data = st.fixed_dictionaries(
    {},
    optional={
        "job_request_id": st.text(max_size=300) | _json,
        "status": _status | _json,
        "completed_at": st.text(max_size=30) | _json,
        "result_url": _json,
        "error_code": _json,
        "more": _json,
    },
)
_bodies = st.fixed_dictionaries(
    {},
    optional={
        "event": st.sampled_from(list(Event)) | _json,
        "delivery_id": st.text(max_size=150) | _json,
        "data": _data | _json,
    },
).map(lambda body: json.dumps(body).encode())


@given(st.binary(max_size=60) | _bodies | _bodies.map(lambda body: body[:-1]))
@example(rb'{"event":"job.failed","data":{"job_request_id":"a\ud800"}}')
@example(rb'{"event":"job.failed","data":{"job_request_id":"a","x":"\ud800"}}')
@example(b'{"event":"job.failed","data":{"job_request_id":"a","x":1e999}}')
def test_anything_signed_becomes_one_record_or_is_known_to_need_none(
    body: bytes,
) -> None:
    """Nothing is raised; what is on `jobs` conforms, and all else is a dead letter."""
    webhook = read(body)
    assert 0 < len(webhook.delivery_id) <= 128
    webhook.delivery_id.encode()
    delivery = _delivery(body)
    if webhook.event in {Event.VALIDATION, Event.OTHER}:
        assert delivery is None
        return
    assert delivery is not None
    record = delivery.record
    if record.status is None:
        assert record.topic == "jobs.dlq"
        assert delivery.due_us == _NOW_US
        if webhook.event is Event.UNREADABLE:
            assert record.value == body
    else:
        assert record.topic == "jobs"
        judge(record.value)
        assert delivery.due_us == _NOW_US + _HOLD_US
