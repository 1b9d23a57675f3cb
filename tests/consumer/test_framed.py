"""Values behind a Schema Registry's prefix, as the bridge's own readers show them."""

from __future__ import annotations

import json

from bridge.consumer.framed import unframed
from bridge.consumer.lines import json_line
from tests.consumer.records import raw_record


_PREFIX = b"\x00\x00\x00\x01\x02"


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
