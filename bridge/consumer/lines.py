"""
Records as JSON lines, for programs that read what `bridge tail` pipes to them.

Owns the form of a line. Nothing is hidden here: a program gets what any consumer
of the topic would get.
"""

from __future__ import annotations

import base64
from datetime import UTC, datetime

import msgspec

from bridge.consumer.framed import unframed
from bridge.kafka.reader import ConsumedRecord
from bridge.text import printable_json


__all__ = ["json_line"]

_encode = msgspec.json.Encoder().encode


def json_line(record: ConsumedRecord) -> bytes:
    """
    Write one record as one line of JSON.

    The value stands under `value` where it is JSON (as it is, without line
    breaks), or null for a tombstone; under `value_text` where it is other text;
    else under `value_base64`. The key stands under `key` or `key_base64`. A JSON value
    in a Schema Registry's wire format is given without it, with the id under
    `schema_id`.

    Args:
        record: The record.

    Returns:
        The line with its end, UTF-8: `topic`, `partition`, `offset`, `timestamp`
        (RFC 3339, UTC), key, `headers`, `schema_id` and value, in this order.
    """
    line: dict[str, object] = {
        "topic": record.topic,
        "partition": record.partition,
        "offset": record.offset,
        "timestamp": _time(record.timestamp_ms),
    }
    line |= _text("key", record.key, text_name="key")
    line["headers"] = {
        name: value.decode(errors="backslashreplace")
        for name, value in record.headers.items()
    }
    line |= _value(record)
    return printable_json(_encode(line)) + b"\n"


def _value(record: ConsumedRecord) -> dict[str, object]:
    if record.value is None:
        return {"value": None}
    schema_id, value = unframed(record)
    try:
        msgspec.json.decode(value)
        # Strings are UTF-8 or it would be no JSON; decode doesn't look at all.
        value.decode()
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _text("value", record.value, text_name="value_text")
    # White space between tokens may hold line breaks; strings can't.
    shown: dict[str, object] = {} if schema_id is None else {"schema_id": schema_id}
    shown["value"] = msgspec.Raw(msgspec.json.format(value, indent=-1))
    return shown


def _text(name: str, value: bytes | None, *, text_name: str) -> dict[str, object]:
    if value is None:
        return {name: None}
    try:
        return {text_name: value.decode()}
    except UnicodeDecodeError:
        return {f"{name}_base64": base64.b64encode(value).decode()}


def _time(timestamp_ms: int) -> str:
    """Write a record's timestamp; Kafka has -1 where there is none."""
    try:
        moment = datetime.fromtimestamp(timestamp_ms / 1000, UTC)
    except (OverflowError, ValueError, OSError):
        return str(timestamp_ms)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
