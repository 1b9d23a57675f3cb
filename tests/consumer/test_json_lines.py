"""Records as lines of JSON."""

from __future__ import annotations

import base64
import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from bridge.consumer.job_record import unframed
from bridge.consumer.render import json_line
from tests.consumer.records import START_MS, raw_record


def decoded(line: bytes) -> dict[str, Any]:
    """Read a line back, as any program would."""
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    result: dict[str, Any] = json.loads(line)
    return result


def test_a_line_has_everything_of_its_record() -> None:
    """Place, time, key, headers and the value as JSON, in the stated order."""
    record = raw_record(
        b'{"request_id":"a","status":"done"}',
        key=b"a",
        offset=7,
        at_ms=START_MS + 123,
        headers={"ce_id": b"x-1"},
    )
    line = json_line(record)
    assert list(decoded(line).items()) == [
        ("topic", "jobs"),
        ("partition", 2),
        ("offset", 7),
        ("timestamp", "2023-11-14T22:13:20.123Z"),
        ("key", "a"),
        ("headers", {"ce_id": "x-1"}),
        ("value", {"request_id": "a", "status": "done"}),
    ]


def test_a_value_is_given_as_it_is() -> None:
    """Signatures, big numbers and repeated keys pass; line breaks between tokens go."""
    value = (
        b'{"n": 12345678901234567890.10,\n "u": "https://r.example/a?sig=s", "n": 1}'
    )
    line = json_line(raw_record(value))
    assert b'"value":{"n":12345678901234567890.10,' in line
    assert b"https://r.example/a?sig=s" in line
    assert line.rstrip(b"}\n").endswith(b'"n":1')
    decoded(line)


@given(value=st.binary(max_size=60), key=st.binary(max_size=9) | st.none())
def test_every_record_is_one_line_that_loses_nothing(
    value: bytes, key: bytes | None
) -> None:
    """Whatever the bytes are, the line is JSON and they can be had back."""
    line = decoded(json_line(raw_record(value, key=key, headers={"h": value})))
    if "value_base64" in line:
        assert base64.b64decode(line["value_base64"]) == value
    elif "value_text" in line:
        assert line["value_text"].encode() == value
    else:
        assert line["value"] == json.loads(value)
    if "key_base64" in line:
        assert base64.b64decode(line["key_base64"]) == key
    else:
        assert line["key"] == (None if key is None else key.decode())


_PREFIX = b"\x00\x00\x00\x01\x02"


def test_a_dead_letter_has_no_wire_format() -> None:
    """Its bytes are those of an event, and may begin with any byte."""
    value = _PREFIX + b"{}"
    headers = {"bridge_reason": b"not_json"}

    assert unframed(raw_record(value, headers=headers)) == (None, value)


def test_a_line_has_the_value_and_the_schemas_id() -> None:
    """A program gets JSON, and which schema says what it means."""
    line = json.loads(json_line(raw_record(_PREFIX + b'{"status":"done"}')))

    assert list(line)[-2:] == ["schema_id", "value"]
    assert line["schema_id"] == 258
    assert line["value"] == {"status": "done"}
