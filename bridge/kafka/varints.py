"""
Numbers of varying length, as they stand in Kafka's records.

Owns how one is written and that nobody writes a usual one twice. Where they stand is
known to `headers` and `producer.batch`.
"""

from __future__ import annotations

from typing import Final

from aiokafka.record.util import (  # noqa: TID251 - this room speaks to aiokafka
    encode_varint,
)


__all__ = ["VARINTS"]

# Lengths of headers, of events without preview, and a record's number in its batch:
# together they take 2 MB at most. Others are written each time.
_KNOWN_BELOW = 16_384


class _Varints(dict[int, bytes]):
    """Bytes by number; looking one up takes a twentieth of writing it."""

    def __missing__(self, number: int) -> bytes:
        written = bytearray()
        encode_varint(number, written.append)
        if 0 <= number < _KNOWN_BELOW:
            self[number] = bytes(written)
        return bytes(written)


VARINTS: Final = _Varints()
"""The bytes of any number of 64 bits."""
