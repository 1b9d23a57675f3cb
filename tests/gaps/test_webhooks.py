"""What dryAPI's webhooks become, and how each is answered."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import structlog
from hypothesis import example, given, settings
from hypothesis import strategies as st
from trio.testing import MockClock

from bridge.gaps.webhook import Event, read
from bridge.outbox.values import Delivery
from bridge.settings import Secret
from tests.gaps.books import SOURCE
from tests.gaps.webhooks import (
    CLIENT_ID,
    NOW,
    NOW_US,
    PATH,
    MemoryOutbox,
    Receiving,
    body_of,
    completed,
    failed,
    processing,
    signed,
)
from tests.rules.reader import judge


_HOLD_US = 10_000_000


@pytest.fixture
def log() -> Iterator[list[Any]]:
    """Return the lines that are logged."""
    with structlog.testing.capture_logs() as lines:
        yield lines


async def _kept(body: bytes) -> Delivery:
    """Post a signed webhook; return what is on disk when it is answered."""
    outbox = MemoryOutbox()
    receiving = Receiving(outbox, now=NOW, max_body_bytes=10**7)
    # These headers aren't signed: the body's event and id count.
    headers = {
        **receiving.headers(body),
        "X-DryAPI-Event": "webhook.validation",
        "X-DryAPI-Delivery-Id": "forged",
    }
    assert (await receiving.post(body, headers)).json() == {"status": "taken"}
    (delivery,) = outbox.deliveries
    return delivery


def _reason(delivery: Delivery) -> str:
    return dict(delivery.record.extra)["bridge_reason"].decode()


# -- Content ---------------------------------------------------------------------------

_EVENT = {"request_id": "job-1", "preview": None, "result_url": None, "progress": None}


@pytest.mark.parametrize(
    ("event", "data", "ended_us", "value"),
    [
        (
            "job.processing",
            processing(),
            None,
            {"status": "processing", "started_at": "2027-01-15T07:59:50.000Z"},
        ),
        # Members that the socket doesn't send are passed on.
        (
            "job.completed",
            completed(preview="AAAA", progress=1) | {"request_id": "x"},
            NOW_US,
            {
                "status": "done",
                "result_url": "https://storage.dryapi.dev/results/job-1.png?s=1",
                "completed_at": "2027-01-15T08:00:00.000Z",
                "processing_time_ms": 10_000,
            },
        ),
        (
            "job.failed",
            failed(),
            NOW_US,
            {
                "status": "error",
                "error_code": "WORKER_TIMEOUT",
                "error_message": "The worker did not answer in time.",
                "failed_at": "2027-01-15T08:00:00.000Z",
            },
        ),
        (
            "job.failed",
            {"job_request_id": "job-1", "job_type": "txt2img"},
            None,
            {"status": "error", "error_code": None, "error_message": None},
        ),
    ],
)
async def test_webhook_becomes_the_event_of_the_socket(
    autojump_clock: MockClock,
    event: str,
    data: object,
    ended_us: int | None,
    value: dict[str, Any],
) -> None:
    """It is on disk when it is answered, and is held for the grace period."""
    delivery = await _kept(body_of(event, data, delivery_id="d-1"))
    record = delivery.record
    assert json.loads(record.value) == _EVENT | {"job_type": "txt2img"} | value
    assert (record.topic, record.key) == ("jobs", b"job-1")
    assert record.status == value["status"]
    assert (record.envelope.ce_source, record.envelope.origin) == (
        SOURCE + CLIENT_ID,
        "webhook",
    )
    assert (record.received_at_us, record.extra) == (NOW_US, ())
    assert (delivery.delivery_id, delivery.ended_us) == ("d-1", ended_us)
    assert delivery.due_us == NOW_US + _HOLD_US


async def test_unknown_members_are_passed_on_as_they_are() -> None:
    """Numbers keep their digits. A status that is unknown contradicts nothing."""
    more = '"cost":1.10000000000000000001,"more":{"a":[1,null]}'
    for status in (None, "completed", "", 7, ["done"]):
        data = f"{json.dumps(completed(status=status))[:-1]},{more}}}"
        body = body_of("job.completed", {}).replace(b"{}", data.encode())
        record = (await _kept(body)).record
        assert record.status == "done"
        assert more.encode() in record.value


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("2027-01-15T08:00:00.000001+00:00", NOW_US + 1),
        ("2027-01-15T10:00:00+02:00", NOW_US),
        ("1969-12-31T23:59:59.5Z", -500_000),
        ("0001-01-01T00:00:00+23:59", -62_135_683_140_000_000),
        ("2027-01-15T08:00:00", None),
        ("2027-02-30T08:00:00Z", None),
        (1_800_000_000, None),
        ({}, None),
    ],
)
def test_end_of_a_job(written: object, expected: int | None) -> None:
    """RFC 3339 with an offset is read; any other value is an unknown time."""
    for webhook in (
        read(body_of("job.completed", completed(completed_at=written))),
        read(body_of("job.failed", failed(failed_at=written))),
    ):
        assert (webhook.is_terminal, webhook.ended_us) == (True, expected)


@pytest.mark.parametrize("given_id", [..., None, "", 7, {}, "x" * 129, "a\nb", "\0"])
def test_digest_replaces_an_unusable_delivery_id(given_id: object) -> None:
    """The same body is the same delivery."""
    body = body_of("job.completed", completed(), delivery_id=given_id)
    digest = hashlib.sha256(body).hexdigest()
    assert read(body).delivery_id == f"sha256:{digest}"
    assert read(body).event is Event.COMPLETED


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "not_json"),
        (b'{"event":"job.completed"', "not_json"),
        (b'{"event":"job.completed","data":{"x":"\xff"}}', "not_json"),
        (b'{"data":' * 50_000 + b"1" + b"}" * 50_000, "too_deep"),
        (b"[]", "not_an_object"),
        (b'{"event":7}', "missing_request_id"),
        (b'{"event":"job.completed","data":"{}"}', "missing_request_id"),
        (b'{"event":"job.failed","data":{"job_request_id":7}}', "missing_request_id"),
        (b'{"event":"job.failed","data":{"job_request_id":""}}', "missing_request_id"),
        # A status that contradicts the event.
        (body_of("job.completed", completed(status="error")), "missing_request_id"),
        (body_of("job.failed", failed(status="done")), "missing_request_id"),
        (body_of("job.processing", processing(status="done")), "missing_request_id"),
    ],
)
async def test_unreadable_body_is_a_dead_letter(
    autojump_clock: MockClock, log: list[Any], body: bytes, reason: str
) -> None:
    """Its bytes are kept, due at once; dryAPI has no reason to repeat it."""
    outbox = MemoryOutbox()
    receiving = Receiving(outbox, now=NOW, max_body_bytes=10**7)
    for outcome in ("taken", "known"):
        assert (await receiving.post(body)).json() == {"status": outcome}
    (delivery,) = outbox.deliveries
    record = delivery.record
    assert (record.topic, record.status, record.value) == ("jobs.dlq", None, body)
    assert _reason(delivery) == reason
    assert (delivery.due_us, delivery.ended_us) == (NOW_US, None)
    assert receiving.events() == {"unreadable": 1}
    assert {line["event"] for line in log} == {"webhook.unreadable"}


async def test_readable_webhook_that_does_not_conform_is_a_dead_letter(
    autojump_clock: MockClock,
) -> None:
    """The rules for events hold for webhooks too."""
    for data, reason in (
        (completed(result_url=7), "invalid_field"),
        (completed(text="x" * 1_000_000), "too_large"),
    ):
        delivery = await _kept(body_of("job.completed", data))
        assert _reason(delivery) == reason
        assert (delivery.record.topic, delivery.due_us) == ("jobs.dlq", NOW_US)


# -- Answers ---------------------------------------------------------------------------


async def test_repeated_delivery_counts_once() -> None:
    """Each is answered with 2xx, also if it is signed again."""
    outbox = MemoryOutbox()
    receiving = Receiving(outbox, now=NOW)
    body = body_of("job.completed", completed())
    outcomes = []
    for _ in range(3):
        answer = await receiving.post(body)
        outcomes.append((answer.status_code, answer.json()["status"]))
        receiving.now += 60
    assert outcomes == [(200, "taken"), (200, "known"), (200, "known")]
    assert len(outbox.deliveries) == 1
    assert receiving.outcomes() == {"taken": 1, "known": 2}
    assert receiving.events() == {"job.completed": 1}
    # The last time of a job's end, repeated or not; this isn't one.
    await receiving.post(body_of("job.processing", processing()))
    last_us = NOW_US + 120_000_000
    assert receiving.statistics.last_terminal_at_us == {CLIENT_ID: last_us}


async def test_what_needs_no_record_needs_no_disk(log: list[Any]) -> None:
    """The dashboard's test and unknown events get 200 though the outbox is closed."""
    outbox = MemoryOutbox()
    outbox.trouble = "closed"
    receiving = Receiving(outbox, now=NOW)
    anything: list[object] = [{}, None, [1], ...]
    for data in anything:
        answer = await receiving.post(body_of("webhook.validation", data))
        assert (answer.status_code, answer.json()) == (200, {"status": "validation"})
    for name in ("job.paused" + "!" * 500, "JOB.COMPLETED", "other", ""):
        answer = await receiving.post(body_of(name, completed()))
        assert (answer.status_code, answer.json()) == (200, {"status": "other_event"})
    forged = body_of("webhook.validation", {})
    answer = await receiving.post(forged, signed(forged, NOW, secret="guessed"))
    assert answer.status_code == 401
    assert receiving.events() == {"webhook.validation": 4, "other": 4}
    names = [line["webhook_event"] for line in log if "webhook_event" in line]
    assert names == ["job.paused" + "!" * 90, "JOB.COMPLETED", "other", ""]


async def test_refusal_is_a_bare_status(log: list[Any]) -> None:
    """The sender doesn't learn what is wrong; the log names it, and no secret."""
    receiving = Receiving(MemoryOutbox(), now=NOW)
    body = body_of("job.completed", completed())
    right = receiving.headers(body)
    wrong = [
        {},
        right | {"X-DryAPI-Timestamp": "soon"},
        right | {"X-DeAPI-Timestamp": str(NOW)},
        right | {"X-DryAPI-Signature": "sha256=" + "0" * 64},
        signed(body, NOW - 400, secret="whsec_made-up-42"),
    ]
    answers = [await receiving.post(body, headers) for headers in wrong]
    assert {each.status_code for each in answers} == {401}
    assert len({tuple(each.headers.items()) for each in answers}) == 1
    assert {each.content for each in answers} == {b""}
    reasons = ["missing_header", "malformed_header", "repeated_header"]
    reasons += ["wrong_signature", "too_old"]
    assert receiving.outcomes() == dict.fromkeys(reasons, 1)
    assert [line["reason"] for line in log] == reasons
    assert "compare webhook.secret" in log[3]["hint"]
    assert "compare this machine's clock" in log[4]["hint"]
    assert "whsec_made-up" not in str(log)
    assert right["X-DryAPI-Signature"] not in str(log)


@pytest.mark.parametrize(
    "path", ["/", "/webhooks", f"{PATH}/", f"{PATH}/42", f"{PATH}/42/x", "/metrics"]
)
@pytest.mark.parametrize("host", ["bridge", "[", "a:b:c", ""])
async def test_single_account_has_one_path(path: str, host: str) -> None:
    """No other is redirected to it, whatever the Host header is."""
    outbox = MemoryOutbox()
    receiving = Receiving(outbox)
    body = body_of("job.completed", completed())
    headers = receiving.headers(body) | {"Host": host}
    assert (await receiving.post(body, headers, path=path)).status_code == 404
    assert outbox.deliveries == []
    assert (await receiving.post(body, headers)).status_code == 200
    answer = await receiving.http.put(PATH, content=body, headers=headers)
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")


async def test_each_account_has_its_path_and_secret(log: list[Any]) -> None:
    """The path of one account is refused with the secret of another."""
    outbox = MemoryOutbox()
    receiving = Receiving(outbox, "a", "b@c=d,e.f;g")
    body = body_of("job.completed", completed(), delivery_id="the same")
    for client_id in ("a", "b@c=d,e.f;g"):
        path = f"{PATH}/{client_id}"
        answer = await receiving.post(body, path=path, client_id=client_id)
        assert answer.json() == {"status": "taken"}
        assert receiving.outcomes(client_id) == {"taken": 1}
    sources = [one.record.envelope.ce_source for one in outbox.deliveries]
    assert sources == [SOURCE + "a", SOURCE + "b@c=d,e.f;g"]
    answer = await receiving.post(body, path=f"{PATH}/a", client_id="b@c=d,e.f;g")
    assert answer.status_code == 401
    log.clear()
    for path in (PATH, f"{PATH}/c", f"{PATH}/{'c' * 5000}", f"{PATH}/a/", "/"):
        answer = await receiving.post(body, path=path, client_id="a")
        assert (answer.status_code, answer.content) == (404, b"")
    assert receiving.statistics.unknown_account == 5
    assert {line["reason"] for line in log} == {"unknown_account"}
    assert f"path is {PATH}/{{client_id}}" in log[0]["hint"]
    assert max(len(line["path"]) for line in log) == 100


async def test_secret_is_rotated_without_a_restart(tmp_path: Path) -> None:
    """The file is read for each webhook and may contain several secrets."""
    file = tmp_path / "secret"
    file.write_text("old")
    receiving = Receiving(MemoryOutbox(), secret=Secret.from_file(file))
    body = body_of("job.completed", completed())
    for content, statuses in (
        ("old", [200, 401]),
        ("new old", [200, 200]),
        ("new", [401, 200]),
    ):
        file.write_text(content)
        posts = [signed(body, receiving.now, secret=one) for one in ("old", "new")]
        answers = [await receiving.post(body, headers) for headers in posts]
        assert [answer.status_code for answer in answers] == statuses


# -- Anything --------------------------------------------------------------------------

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
_data = st.fixed_dictionaries(
    {},
    optional={
        "job_request_id": st.text(max_size=300) | _json,
        "status": st.sampled_from(["done", "error", "processing", "pending"]) | _json,
        "completed_at": st.datetimes(timezones=st.just(UTC)).map(datetime.isoformat)
        | _json,
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
_names = st.sampled_from(
    [
        *("X-DryAPI-Signature", "X-DryAPI-Timestamp", "X-DryAPI-Event"),
        *("X-DeAPI-Signature", "X-DeAPI-Timestamp"),
        *("Content-Type", "Content-Length", "Content-Encoding"),
    ]
)
_values = st.one_of(
    st.text("\x20\x7e09abg=,;é", max_size=80),
    st.from_regex(r"sha256=[0-9a-f]{64}", fullmatch=True),
    st.from_regex(r"[0-9]{1,14}", fullmatch=True),
    st.sampled_from(["-1", "1e3", str(NOW)]),
)


@settings(max_examples=150)
@given(
    body=st.binary(max_size=60) | _bodies | _bodies.map(lambda body: body[:-1]),
    headers=st.just([]) | st.lists(st.tuples(_names, _values), max_size=5),
    is_signed=st.booleans(),
)
@example(
    body=rb'{"event":"job.failed","data":{"job_request_id":"a","x":"\ud800"}}',
    headers=[],
    is_signed=True,
)
@example(
    body=b'{"event":"job.failed","data":{"job_request_id":"a","x":1e999}}',
    headers=[],
    is_signed=True,
)
async def test_any_request_is_answered(
    *, body: bytes, headers: list[tuple[str, str]], is_signed: bool
) -> None:
    """Only what is signed gets in: one record that conforms, or a dead letter."""
    outbox = MemoryOutbox()
    receiving = Receiving(outbox, now=NOW, max_body_bytes=10**7)
    sent = [(name, value.encode("latin-1")) for name, value in headers]
    if is_signed:
        right = receiving.headers(body)
        sent += [(name, value.encode()) for name, value in right.items()]
    answer = await receiving.http.post(PATH, content=body, headers=sent)  # type: ignore[arg-type]
    assert answer.status_code in ({200, 401} if is_signed else {401})
    assert answer.status_code == 200 or headers or not is_signed
    assert sum(receiving.statistics.deliveries.values()) == 1
    assert len(outbox.deliveries) == receiving.outcomes().get("taken", 0)
    for delivery in outbox.deliveries:
        assert 0 < len(delivery.delivery_id.encode()) <= 4 * 128
        if delivery.record.status is None:
            assert delivery.record.topic == "jobs.dlq"
            if receiving.events() == {"unreadable": 1}:
                assert delivery.record.value == body
        else:
            assert delivery.record.topic == "jobs"
            judge(delivery.record.value)
