"""What becomes of a payload: it passes untouched, is changed, or is refused."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from bridge.events.record import Envelope, Importance, Origin, Record
from bridge.pusher.protocol import ChannelEvent, decode
from tests.rules.intake import RECEIVED_AT_US, SOURCE, Outlet, counted, event, status


ID = b"job-1"
BARE = {"preview": None, "result_url": None, "progress": None}


def members(**changed: Any) -> dict[str, Any]:
    """Give the members of a conforming payload, some of them changed."""
    return dict(json.loads(status(**changed)))


def literal(name: str, text: str) -> str:
    """Write a payload whose member is exactly this text."""
    return status(**{name: "@"}).replace('"@"', text)


def more(text: str) -> str:
    """Write a conforming payload with more members behind it."""
    return f"{status()[:-1]},{text}}}"


def nested(levels: int) -> str:
    """Write a payload whose deepest array is so many levels down."""
    return more('"x":' + "[" * (levels - 1) + "]" * (levels - 1))


class Changed(NamedTuple):
    """A payload that is changed: into what, and which changes the header names."""

    payload: object
    value: dict[str, Any]
    changes: str


def _number(text: str, decimal: str) -> Changed:
    payload = literal("progress", text)
    return Changed(payload, members(progress=decimal), "progress_number")


def _repaired(text: str, result: str) -> Changed:
    return Changed(literal("x", text), members(x=result), "invalid_unicode")


def _infinite(text: str) -> Changed:
    payload = literal("x", f"[{text}]")
    return Changed(payload, members(x=[None]), "number_out_of_range")


CHANGED = [
    _number("45.5", "45.50"),
    _number("45.500", "45.50"),
    _number("-0.0", "0.00"),
    _number("1e2", "100.00"),
    _number("33.333", "33.333"),
    _number("45.123456789012345678901234567", "45.123456789012345678901234567"),
    _number("1e-7", "0.0000001"),
    Changed(
        '{"request_id": "a", "status": "processing"}',
        {"request_id": "a", "status": "processing", **BARE},
        "missing_field",
    ),
    # The last of equal keys wins, however they are written, at any depth and size.
    Changed(
        more('"x":[{"a":1,"b":2,"a":3}],"request_id":"last"'),
        members(request_id="last", x=[{"a": 3, "b": 2}]),
        "duplicate_key",
    ),
    *(
        Changed(
            f"{status(preview=padding)[:-1]},{again}}}",
            members(preview=padding, status="done"),
            "duplicate_key",
        )
        for padding in ("", "x" * 5000)
        for again in ('"status":"done"', '"status" :"done"', '"st\\u0061tus":"done"')
    ),
    _repaired('"\\ud800"', "\ufffd"),
    _repaired('"\\udc00\\ud800"', "\ufffd\ufffd"),
    _repaired('"\ud83d\ude00"', "\U0001f600"),
    _repaired('"\ud83d"', "\ufffd"),
    Changed(
        literal("preview", '"\\ud800"'), members(preview="\ufffd"), "invalid_unicode"
    ),
    # Keys that the repair makes equal are one key.
    Changed(
        more('"\\ud800":1,"\\ud801":2'),
        members(**{"\ufffd": 2}),
        "duplicate_key,invalid_unicode",
    ),
    *(_infinite(text) for text in ("1e999", "-1e999", "1" * 400, "1" * 5000)),
    Changed(
        members(x=[1, {"a": "\N{SNOWMAN}"}]),
        members(x=[1, {"a": "\N{SNOWMAN}"}]),
        "data_not_string",
    ),
    Changed(json.dumps(status()), members(), "encoded_twice"),
    # Several changes are listed in the order of the vocabulary.
    Changed(
        '{"request_id": "a", "status": "done", "progress": 1.5, "x": "\\ud800"}',
        {
            "request_id": "a",
            "status": "done",
            **BARE,
            "progress": "1.50",
            "x": "\ufffd",
        },
        "invalid_unicode,missing_field,progress_number",
    ),
]


def test_what_deviates_is_changed_and_the_header_names_the_changes() -> None:
    """Each key once, nothing invented, and the job's record says what was done."""
    wrong = []
    for row in CHANGED:
        outlet = Outlet()
        [record] = outlet.accept(row.payload)
        pairs = json.loads(record.value, object_pairs_hook=list)
        found = (dict(record.extra), json.loads(record.value), len(pairs))
        wanted = ({"bridge_normalized": row.changes.encode()}, row.value)
        counts = counted(outlet.intake.statistics.normalized)
        if found != (*wanted, len(row.value)) or set(counts) != set(
            row.changes.split(",")
        ):
            wrong.append((str(row.payload)[:200], record.value[:200], record.extra))
    assert not wrong


class Refused(NamedTuple):
    """A payload that is refused: why, for which job, in which words."""

    payload: object
    reason: str
    message: str
    key: bytes | None = None


def _progress(value: object) -> Refused:
    return Refused(status(progress=value), "invalid_field", "progress is ", ID)


# One for each sentence; tests/test_inputs.py has what else has the same reason.
REFUSED = [
    # The job is named where it can be read.
    *(
        Refused(text, "not_json", "malformed JSON at character")
        for text in ("hello", '{"request_id": "a\\u0000"', json.dumps("{"))
    ),
    *(
        Refused(text, "not_json", "malformed JSON at character", ID)
        for text in (status()[:-1], "\ufeff" + status(), literal("x", '"\t"'))
    ),
    Refused(literal("x", "-Infinity"), "not_json", "-Infinity isn't JSON", ID),
    *(
        Refused(data, "not_an_object", f"the event is {kind}, not an object")
        for data, kind in [
            *[("null", "null"), ("true", "a boolean"), ('"hello"', "a string")],
            *[(None, "null"), (5, "a number"), ([members()], "an array")],
        ]
    ),
    # It isn't taken from another member.
    *(
        Refused(status(request_id=request_id), "missing_request_id", message)
        for request_id, message in [
            ("", "request_id is empty"),
            (5, "request_id is a number, not a string"),
            ("a\0", "request_id has control characters"),
            ("i" * 257, "request_id has more than 256 characters"),
        ]
    ),
    Refused(
        '{"status": "done", "x": {"request_id": "inner"}}',
        "missing_request_id",
        "request_id is missing",
    ),
    Refused(status(status="DONE"), "unknown_status", "status is ", ID),
    Refused('{"request_id": "job-1"}', "unknown_status", "status is missing", ID),
    # In a small payload and in a large one.
    *(
        Refused(
            status(result_url=padding).replace('"preview": null', '"preview": [1]'),
            "invalid_field",
            "preview is an array",
            ID,
        )
        for padding in ("", "u" * 5000)
    ),
    Refused(status(error_code=17), "invalid_field", "error_code is a number", ID),
    *(_progress(value) for value in (True, "45,5", "45.50\n", "\u0664")),
    *(
        Refused(literal("progress", text), "invalid_field", "progress is a num", ID)
        for text in (
            *("-1", "1e40", "1e-999999999", "1e-9999999999999999999"),
            *("0e9999999999999999999", "0.1234567890123456789012345678901234567890"),
        )
    ),
    # Deeper than every reader can read, whatever the decoders can.
    *(
        Refused(nested(levels), "too_deep", "nested deeper than 64 levels", ID)
        for levels in (65, 200_000)
    ),
    Refused("[" * 100, "not_json", ""),
    Refused("[" * 100 + "]" * 100, "too_deep", ""),
    Refused(status(x="\N{SNOWMAN}" * 400_000), "too_large", "the event has ", ID),
]


def _original(payload: object) -> bytes:
    if isinstance(payload, str):
        return payload.encode()
    return json.dumps(payload).encode()


def test_what_is_refused_is_a_dead_letter_with_its_bytes_and_the_reason() -> None:
    """Reason, message and job in the headers; the bytes as they came."""
    wrong = []
    for row in REFUSED:
        outlet = Outlet(max_dead_letter_bytes=10**9)
        [record] = outlet.accept(row.payload)
        headers = {name: value.decode() for name, value in record.extra}
        reason = headers.get("bridge_reason")
        message = headers.get("__connect.errors.exception.message", "")
        # What isn't JSON, or was not read to its end, isn't called JSON.
        unread = row.reason in {"not_json", "too_deep", "too_large"}
        content_type = f"application/{'octet-stream' if unread else 'json'}"
        if (
            (record.topic, reason, record.key) != ("jobs.dlq", row.reason, row.key)
            or not message.startswith(row.message)
            or record.value != _original(row.payload)
            or record.envelope.content_type != content_type
            or record.status is not None
            or counted(outlet.intake.statistics.dead_letters) != {row.reason: 1}
        ):
            wrong.append((str(row.payload)[:200], record.key, record.extra))
    assert not wrong


def test_the_size_limit_counts_bytes_of_what_would_be_written() -> None:
    """Bytes of UTF-8, not characters; after the changes, not before."""
    snow = json.dumps(members(x="\N{SNOWMAN}" * 3000), ensure_ascii=False)
    bare = '{"request_id":"job-1","status":"done"}'
    written = len(bare) + len(',"preview":null,"result_url":null,"progress":null')
    for payload, size in ((snow, len(snow.encode())), (bare, written)):
        for limit, topic in ((size, "jobs"), (size - 1, "jobs.dlq")):
            [record] = Outlet(max_value_bytes=limit).accept(payload)
            assert (record.topic, record.key) == (topic, ID)
            if topic == "jobs.dlq":
                assert record.extra[0] == ("bridge_reason", b"too_large")
                assert record.value == payload.encode()


def test_numbers_keep_their_digits_when_another_member_is_changed() -> None:
    """The size is that of what is written: repeated keys and spaces don't count."""
    numbers = "[0.10,1E+2,-0,12345678901234567890.123456789012345678]"
    text = f'{{"x":1, {status()[1:-1]},  "x" : {numbers}}}'
    received = decode(
        f'{{"event":"request.status.updated","channel":"c","data":{text}}}'
    )
    assert isinstance(received, ChannelEvent)
    written = f'{{"x":{numbers},{status()[1:]}'.replace(": ", ":").replace(", ", ",")
    for one, changes in (
        (received, b"data_not_string,duplicate_key"),
        (event(text), b"duplicate_key"),
    ):
        [record] = Outlet(max_value_bytes=len(written)).take(one)
        assert record.value == written.encode()
        assert record.extra == (("bridge_normalized", changes),)


def test_no_message_shows_contents() -> None:
    """Headers are read by tools and people that may not see what is in a payload."""
    secret = "https://a.example/?signature=hush"
    records = Outlet().accept(
        status(status=secret),
        status(progress=secret),
        status(request_id=secret * 10),
        status(preview=secret) + secret,
        status(preview=[secret]),
        status(result_url={secret: secret}),
        json.dumps(secret),
        secret * 50,
    )
    for record in records:
        headers = dict(record.extra)
        assert len(headers["__connect.errors.exception.message"]) <= 300
        assert all(b"hush" not in value for value in headers.values())


# -- The record beside its value -------------------------------------------------


def test_a_record_has_what_kafka_and_the_outbox_need() -> None:
    """Key, time and shared headers as the design says; the job's state beside."""
    [record] = Outlet().accept(status())
    assert record == Record(
        topic="jobs",
        key=ID,
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


def test_a_status_answer_becomes_one_record_that_is_not_offered() -> None:
    """With the origin, key and form of any other; it is counted."""
    outlet = Outlet(origin=Origin.STATUS_ENDPOINT)
    answer = (
        b'{"request_id":"a","status":"done","preview":null,"result_url":"u",'
        b'"progress":100.0,"result":"text"}'
    )
    record = outlet.intake.record(answer, 5)
    assert json.loads(record.value) == {
        **members(request_id="a", status="done", result_url="u", progress="100.00"),
        "result": "text",
    }
    assert (record.key, record.topic, record.received_at_us) == (b"a", "jobs", 5)
    assert record.importance is Importance.TERMINAL
    assert record.envelope.origin == "status-endpoint"
    assert dict(record.extra) == {"bridge_normalized": b"progress_number"}
    assert (outlet.intake.statistics.accepted, outlet.runs) == (1, [])


def test_a_webhook_that_is_no_event_becomes_a_dead_letter_of_its_bytes() -> None:
    """It has no status, so that nothing is judged by it."""
    intake = Outlet(origin=Origin.WEBHOOK).intake
    reasons = []
    for body in (b"\xff\xfe", b"no json", b'{"status":"done"}'):
        record = intake.record(body, 5)
        assert (record.value, record.topic, record.status) == (body, "jobs.dlq", None)
        assert record.envelope.ce_type == "dev.dryapi.bridge.dead-letter"
        reasons.append(dict(record.extra)["bridge_reason"])
    assert reasons == [b"not_json", b"not_json", b"missing_request_id"]
    assert sum(intake.statistics.dead_letters.values()) == 3
    assert intake.record(b'{"request_id":"a","status":"done"}', 6).topic == "jobs"
