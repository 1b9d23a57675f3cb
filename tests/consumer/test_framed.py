"""Values behind a Schema Registry's prefix, as the bridge's own readers show them."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from bridge.consumer.framed import unframed
from bridge.consumer.lines import json_line
from tests.consumer.records import raw_record


_PREFIX = b"\x00\x00\x00\x01\x02"


@given(st.integers(0, 2**32 - 1), st.binary(min_size=1))
def test_what_was_put_before_a_value_is_taken_off(schema_id: int, value: bytes) -> None:
    """The id and the value are what they were."""
    record = raw_record(b"\0" + schema_id.to_bytes(4, "big") + value)

    assert unframed(record) == (schema_id, value)


@given(st.none() | st.binary().filter(lambda value: value[:1] != b"\0"))
def test_a_value_without_prefix_stays_as_it_is(value: bytes | None) -> None:
    """Topics may hold values of before the registry was set."""
    assert unframed(raw_record(value)) == (None, value or b"")


def test_a_dead_letter_is_nobodys_wire_format() -> None:
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
