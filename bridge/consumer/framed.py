"""
A value without what a Schema Registry's wire format puts before it.

Owns how a reader tells that something stands there. Nobody is asked for the schema:
what is behind the prefix is JSON, whatever its id.
"""

from __future__ import annotations

from bridge.events import header_names as names
from bridge.kafka.reader import ConsumedRecord


__all__ = ["unframed"]

# Confluent's wire format: a byte 0, and the schema's id as four bytes, the highest
# first. No JSON begins with a byte 0 (RFC 8259, section 2).
_MAGIC = 0
_PREFIX_BYTES = 5


def unframed(record: ConsumedRecord) -> tuple[int | None, bytes]:
    """
    Part a record's value from its prefix.

    A dead letter is taken as it is: its value may begin with any byte.

    Args:
        record: The record.

    Returns:
        The schema's id, or None where no prefix stands; and the value behind it,
        empty for a tombstone.
    """
    value = record.value or b""
    if (
        len(value) <= _PREFIX_BYTES
        or value[0] != _MAGIC
        or names.BRIDGE_REASON in record.headers
    ):
        return None, value
    return int.from_bytes(value[1:_PREFIX_BYTES]), value[_PREFIX_BYTES:]
