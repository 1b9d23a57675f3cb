"""What stands at each offset, read from batches that are made here."""

from __future__ import annotations

import struct
from collections.abc import Iterable

import pytest
from aiokafka.record.default_records import (  # noqa: TID251 - makes batches
    DefaultRecordBatchBuilder,
)

from bridge.kafka.reading.batches import (
    CorruptBatchError,
    PartitionDecoder,
    ScannedRecord,
)


# Where these stand in a batch: https://kafka.apache.org/documentation/#recordbatch
_BASE_OFFSET = struct.Struct(">q")
_CHECKSUM_BYTE = 18


def batch(
    base_offset: int,
    offsets: list[int],
    *,
    producer: int = -1,
    transactional: bool = False,
    compression: int = 0,
) -> bytes:
    """Make a batch of records at offsets counted from its first one."""
    builder = DefaultRecordBatchBuilder(
        magic=2,
        compression_type=compression,
        is_transactional=transactional,
        producer_id=producer,
        producer_epoch=0,
        base_sequence=0 if producer >= 0 else -1,
        batch_size=10_000,
    )
    for offset in offsets:
        number = base_offset + offset
        headers = [("n", b"%d" % number), ("empty", None)]
        builder.append(offset, 1, b"key", b"value", headers)
    made = bytes(builder.build())
    return _BASE_OFFSET.pack(base_offset) + made[_BASE_OFFSET.size :]


def places(taken: Iterable[ScannedRecord]) -> list[tuple[int, int]]:
    """Give offset and absent of each."""
    records = list(taken)
    for offset, _, key, headers in records:
        assert (key, headers) == (b"key", {"n": b"%d" % offset, "empty": None})
    return [(offset, absent) for offset, absent, _, _ in records]


@pytest.mark.parametrize("compression", [0, 1, 2, 3, 4])
def test_offsets_that_hold_nothing_are_counted(compression: int) -> None:
    """Between batches, in them and at their end, whatever the compression."""
    decoder = PartitionDecoder(3, 100, committed_only=True)
    first = batch(3, [0, 1, 4], compression=compression)
    data = first + batch(10, [0], compression=compression)
    assert places(decoder.decode(data, [])) == [(3, 3), (4, 3), (7, 5), (10, 7)]
    assert (decoder.position, decoder.absent) == (11, 7)


def test_a_start_and_an_end_may_lie_inside_a_batch() -> None:
    """Records before and behind them aren't given out."""
    decoder = PartitionDecoder(5, 8, committed_only=True)
    data = batch(2, [0, 1, 2, 3, 4, 5, 6, 7, 8])
    assert places(decoder.decode(data, [])) == [(5, 5), (6, 5), (7, 5)]
    assert decoder.is_done
    assert (decoder.position, decoder.absent) == (8, 5)


def test_what_lies_behind_the_end_only_says_that_nothing_is_left() -> None:
    """The next batch begins behind the end: compaction took all before it."""
    decoder = PartitionDecoder(5, 8, committed_only=True)
    assert places(decoder.decode(batch(20, [0]), [])) == []
    assert (decoder.position, decoder.absent, decoder.is_done) == (8, 8, True)


def test_aborted_records_are_left_out_but_not_absent() -> None:
    """Only the transaction's own records go, and only where that is asked for."""
    data = (
        batch(0, [0], producer=7, transactional=True)
        + batch(1, [0, 1], producer=8, transactional=True)
        + batch(3, [0])
    )
    decoder = PartitionDecoder(0, 9, committed_only=True)
    assert places(decoder.decode(data, [(8, 1)])) == [(0, 0), (3, 0)]
    decoder = PartitionDecoder(0, 9, committed_only=False)
    assert len(places(decoder.decode(data, []))) == 4


def test_a_batch_that_was_cut_off_is_left_for_the_next_fetch() -> None:
    """The position stays at its start."""
    decoder = PartitionDecoder(0, 9, committed_only=True)
    assert places(decoder.decode(batch(0, [0]) + batch(1, [0])[:-1], [])) == [(0, 0)]
    assert decoder.position == 1


def test_a_damaged_batch_is_told() -> None:
    """A wrong checksum names the batch's offset."""
    data = bytearray(batch(0, [0]) + batch(1, [0]))
    data[len(batch(0, [0])) + _CHECKSUM_BYTE] ^= 1
    decoder = PartitionDecoder(0, 9, committed_only=True)
    with pytest.raises(CorruptBatchError) as caught:
        decoder.decode(bytes(data), [])
    assert caught.value.offset == 1
