"""
A batch of records as Kafka lays it out, in the place of aiokafka's builder.

aiokafka 0.14 writes each header of each record anew: with the ten of an event, and the
list of them that is made for it, 2.5 us. Here what thousands share is written once, and
an event takes 1 us. The layout: https://kafka.apache.org/documentation/#recordbatch.

It depends on what aiokafka's `MessageBatch` asks of a `BatchBuilder`. pyproject.toml
pins the release, and every test that writes to a real Kafka reads back what it wrote.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import Final

from aiokafka import codec  # noqa: TID251 - this room speaks to aiokafka
from aiokafka.record.default_records import (  # noqa: TID251 - as above
    DefaultRecordBase,
)
from aiokafka.record.util import calc_crc32c  # noqa: TID251 - as above

from bridge.events.record import StoredRecord
from bridge.kafka.headers import HeaderWriter
from bridge.kafka.varints import VARINTS


__all__ = ["Batch", "BatchWriter"]

_MAGIC: Final = 2

_HEAD: Final = DefaultRecordBase.HEADER_STRUCT
_NO_HEAD: Final = bytes(_HEAD.size)

# Of a record, which has none of its own; and what stands for a key that isn't there.
_NO_ATTRIBUTES: Final = b"\0"
_NO_KEY: Final = VARINTS[-1]

_Encode = Callable[[bytes], bytes]

# What `kafka.compression` may be, its number in a batch's attributes, and who does it.
_CODECS: Final[dict[str, tuple[int, _Encode | None]]] = {
    "none": (DefaultRecordBase.CODEC_NONE, None),
    "gzip": (DefaultRecordBase.CODEC_GZIP, codec.gzip_encode),
    "snappy": (DefaultRecordBase.CODEC_SNAPPY, codec.snappy_encode),
    "lz4": (DefaultRecordBase.CODEC_LZ4, codec.lz4_encode),
    "zstd": (DefaultRecordBase.CODEC_ZSTD, codec.zstd_encode),
}


class BatchWriter:
    """
    Writes batches; made once for each producer.

    Args:
        headers: Writes the headers.
        compression: How batches are compressed, as the setting has it.
        max_batch_bytes: The longest batch before compression, its own head included.
        is_transactional: Whether batches belong to transactions.
    """

    def __init__(
        self,
        headers: HeaderWriter,
        compression: str,
        max_batch_bytes: int,
        *,
        is_transactional: bool,
    ) -> None:
        self._headers = headers
        self._compression = compression
        self._max_batch_bytes = max_batch_bytes
        self._is_transactional = is_transactional

    def write(
        self,
        records: Sequence[StoredRecord],
        max_bytes: int,
        *,
        marked_until: int = 0,
        prefix: bytes = b"",
    ) -> Batch:
        """
        Write as many records as fit one batch, in order.

        Args:
            records: At least one; the first always goes.
            max_bytes: Add no record that makes keys and values larger.
            marked_until: Records up to this sequence are marked as resent.
            prefix: Stands before each value, and counts into the batch's bytes.
        """
        is_framed, longest, varints = bool(prefix), self._max_batch_bytes, VARINTS
        all_headers = self._headers.encoded(
            records, marked_until=marked_until, is_framed=is_framed
        )
        pieces: list[bytes] = [_NO_HEAD]
        length, size, count = len(_NO_HEAD), 0, 0
        first_ms = last_ms = records[0].received_at_us // 1000
        at_us, at_ms, begin = -1, 0, b""
        # Headers are written as they are asked for: of one record more than fit.
        for record, headers in zip(records, all_headers, strict=True):
            key, value = record.key, record.value
            if is_framed:
                value = prefix + value
            value_bytes = len(value)
            if key is None:
                key, key_bytes, key_length = b"", 0, _NO_KEY
            else:
                key_bytes = len(key)
                key_length = varints[key_bytes]
            if count and size + value_bytes + key_bytes > max_bytes:
                break
            # Nearly all have the time of the one before: one read brought both.
            if record.received_at_us != at_us:
                at_us = record.received_at_us
                last_ms = max(last_ms, at_ms)
                at_ms = at_us // 1000
                begin = _NO_ATTRIBUTES + varints[at_ms - first_ms]
            head = b"".join(
                (begin, varints[count], key_length, key, varints[value_bytes])
            )
            record_bytes = len(head) + value_bytes + len(headers)
            record_length = varints[record_bytes]
            grown = length + len(record_length) + record_bytes
            if count and grown > longest:
                break
            # The value is copied once, when all of it is joined.
            pieces += (record_length, head, value, headers)
            length = grown
            size += value_bytes + key_bytes
            count += 1
        last_ms = max(last_ms, records[count - 1].received_at_us // 1000)
        return Batch(
            bytearray().join(pieces),
            (first_ms, last_ms),
            count,
            size - count * len(prefix),
            self._compression,
            is_transactional=self._is_transactional,
        )


class Batch:
    """
    A batch that is written but for its head, which says whose how many-th it is.

    Args:
        buffer: Room for the head, and the records.
        times_ms: When its first record was read, and the latest of them.
        count: How many records.
        size_bytes: Bytes of their keys and values, without any prefix.
        compression: As the setting has it.
        is_transactional: Whether it belongs to a transaction.

    Attributes:
        count: As given.
        size_bytes: As given.
    """

    def __init__(  # noqa: PLR0913 - what its head says
        self,
        buffer: bytearray,
        times_ms: tuple[int, int],
        count: int,
        size_bytes: int,
        compression: str,
        *,
        is_transactional: bool,
    ) -> None:
        self._buffer = buffer
        self._times_ms = times_ms
        self._compression = compression
        self._is_transactional = is_transactional
        self._producer = (-1, -1, 0)
        self._is_built = False
        self.count = count
        self.size_bytes = size_bytes

    # -- What aiokafka asks for -----------------------------------------------

    def record_count(self) -> int:
        """Tell how many records it holds."""
        return self.count

    def close(self) -> None:
        """Take no more records; it never does."""

    def closed(self) -> bool:
        """Tell that it takes no more records, so that nothing waits for them."""
        return True

    def _set_producer_state(
        self, producer_id: int, producer_epoch: int, base_sequence: int
    ) -> None:
        self._producer = (producer_id, producer_epoch, base_sequence)

    def _build(self) -> bytearray:
        if not self._is_built:
            self._is_built = True
            self._finish()
        return self._buffer

    # -- Inside ---------------------------------------------------------------

    def _finish(self) -> None:
        """Compress the records, and write what stands before them."""
        attributes, encode = _CODECS[self._compression]
        if encode is not None:
            # lz4's takes bytes alone.
            records = bytes(memoryview(self._buffer)[_HEAD.size :])
            self._buffer = bytearray().join((_NO_HEAD, encode(records)))
        if self._is_transactional:
            attributes |= DefaultRecordBase.TRANSACTIONAL_MASK
        buffer = self._buffer
        _HEAD.pack_into(
            buffer,
            0,
            0,  # the broker sets the offset
            len(buffer) - DefaultRecordBase.AFTER_LEN_OFFSET,
            DefaultRecordBase.NO_PARTITION_LEADER_EPOCH,
            _MAGIC,
            0,  # the sum, of what comes after it
            attributes,
            self.count - 1,
            *self._times_ms,
            *self._producer,
            self.count,
        )
        summed = memoryview(buffer)[DefaultRecordBase.ATTRIBUTES_OFFSET :]
        struct.pack_into(
            ">I", buffer, DefaultRecordBase.CRC_OFFSET, calc_crc32c(summed)
        )
