"""A batch is, byte for byte, what aiokafka's own builder makes of the same records."""

from __future__ import annotations

import asyncio  # noqa: TID251 - aiokafka's batches want a loop
from typing import Any

import msgspec
import pytest
from aiokafka.producer.message_accumulator import (  # noqa: TID251 - whose place it takes
    BatchBuilder,
    MessageBatch,
)
from aiokafka.record.default_records import (  # noqa: TID251 - as above
    DefaultRecordBatch,
)
from hypothesis import given
from hypothesis import strategies as st

from bridge.kafka import header_names
from bridge.kafka.headers import HeaderWriter
from bridge.kafka.producer.batch import Batch, BatchWriter
from bridge.record import StoredRecord
from tests.kafka.relay.relaying import ENVELOPE


_WRITER = HeaderWriter("0d6a2d3e-8d0c-4b5e-9c56-0a7d9f0f8f3b")

# As aiokafka numbers them.
_CODECS = {"none": 0, "gzip": 1, "snappy": 2, "lz4": 3, "zstd": 4}

_SECOND_US = 1_764_000_000_000_000

_ENVELOPES = (ENVELOPE, msgspec.structs.replace(ENVELOPE, origin="webhook"))

# Lengths around those at which a varint grows, and one that nobody remembers.
_sizes = st.sampled_from([0, 1, 63, 64, 190, 8191, 8192, 20_000])

_records = st.lists(
    st.builds(
        StoredRecord,
        st.integers(1, 1 << 40),
        st.sampled_from(["f00d-1", "f00d-17", "0123456789abcdef-1234567890"]),
        st.none() | st.binary(max_size=70),
        st.builds(bytes, _sizes),
        # Clocks are set back.
        st.integers(_SECOND_US, _SECOND_US + 5000) | st.integers(0, 2 * _SECOND_US),
        st.sampled_from(_ENVELOPES),
        st.sampled_from(
            [
                (),
                ((header_names.BRIDGE_ANOMALY, b"replayed"),),
                ((header_names.BRIDGE_REASON, b""), ("größe", b"x" * 200)),
            ]
        ),
    ),
    min_size=1,
    max_size=5,
)


def _written(
    records: list[StoredRecord],
    compression: str = "none",
    max_batch_bytes: int = 1 << 20,
    max_bytes: int = 1 << 20,
    *,
    is_transactional: bool = False,
    **how: Any,
) -> Batch:
    writer = BatchWriter(
        _WRITER, compression, max_batch_bytes, is_transactional=is_transactional
    )
    return writer.write(records, max_bytes, **how)


def _theirs(
    records: list[StoredRecord],
    compression: str,
    max_batch_bytes: int,
    *,
    is_transactional: bool,
    marked_until: int,
    prefix: bytes,
) -> BatchBuilder:
    builder = BatchBuilder(
        max_batch_bytes, _CODECS[compression], is_transactional=is_transactional
    )
    for record in records:
        builder.append(
            timestamp=record.received_at_us // 1000,
            key=record.key,
            value=prefix + record.value,
            headers=_WRITER.headers(
                record,
                is_resent=record.sequence <= marked_until,
                is_framed=bool(prefix),
            ),
        )
    return builder


_hows = st.fixed_dictionaries(
    {
        "is_transactional": st.booleans(),
        "marked_until": st.sampled_from([0, 1 << 20, 1 << 41]),
        "prefix": st.sampled_from([b"", b"\0\0\0\0\x07"]),
    }
)


@given(records=_records, longest=st.sampled_from([1, 700, 20_500, 1 << 20]), how=_hows)
def test_the_bytes_are_those_of_aiokafka(
    records: list[StoredRecord], longest: int, how: dict[str, Any]
) -> None:
    """Whatever the records are, and where the bound in bytes ends the batch too."""
    theirs = _theirs(records, "none", longest, **how)
    ours = _written(records, "none", longest, **how)
    for batch in (theirs, ours):
        batch._set_producer_state(7, 3, 41)

    assert ours.record_count() == ours.count == theirs.record_count()
    assert ours._build() == theirs._build()


@pytest.mark.parametrize("compression", [name for name in _CODECS if name != "none"])
def test_compressed_ones_are_read_as_those_of_aiokafka(compression: str) -> None:
    """The bytes may be others, since codecs don't give the same ones twice."""
    records = [_record(number, b"twice" * 500) for number in range(1, 4)]
    how: dict[str, Any] = {"is_transactional": True, "marked_until": 2, "prefix": b""}
    theirs, ours = (
        DefaultRecordBatch(bytes(batch._build()))
        for batch in (
            _theirs(records, compression, 1 << 20, **how),
            _written(records, compression, **how),
        )
    )
    assert ours.validate_crc()
    assert ours.attributes == theirs.attributes
    assert ours.compression_type == _CODECS[compression]
    assert _read(ours) == _read(theirs)


def _read(batch: Any) -> list[tuple[Any, ...]]:
    return [
        (one.offset, one.timestamp, one.key, one.value, one.headers) for one in batch
    ]


def _record(sequence: int, value: bytes, key: bytes | None = b"k") -> StoredRecord:
    return StoredRecord(
        sequence, f"f00d-{sequence}", key, value, _SECOND_US + sequence, ENVELOPE
    )


@pytest.mark.parametrize(
    ("max_bytes", "count", "size_bytes"),
    [(1, 1, 11), (22, 2, 22), (32, 2, 22), (33, 3, 33), (100, 3, 33)],
)
def test_keys_and_values_stay_below_their_own_bound(
    max_bytes: int, count: int, size_bytes: int
) -> None:
    """The first record goes in any case; headers and framing don't count."""
    batch = _written([_record(n, b"v" * 10) for n in (1, 2, 3)], max_bytes=max_bytes)
    assert (batch.count, batch.size_bytes) == (count, size_bytes)


def test_what_stands_before_values_counts_for_the_bound_alone() -> None:
    """The outbox is told what it keeps, which is without prefix."""
    records = [_record(1, b"v" * 10), _record(2, b"v" * 10)]
    assert _written(records, max_bytes=22, prefix=b"12345").count == 1
    assert _written(records, max_bytes=32, prefix=b"12345").size_bytes == 22


async def _in_aiokafka(batch: Batch) -> tuple[int, bytes]:
    """Let a batch go the way of aiokafka's own, as far as its bytes."""
    theirs = MessageBatch(("jobs", 0), batch, 10.0, 60.0)
    assert theirs.remaining_linger() is None, "it waits for more"
    theirs.set_producer_state(7, 3, 41)
    theirs.drain_ready()
    assert not theirs.is_empty()
    return theirs.record_count, bytes(theirs.get_data_buffer())


def test_aiokafka_takes_it_for_one_of_its_own() -> None:
    """What a message batch asks its builder is answered, and a retry has its bytes."""
    batch = _written([_record(1, b"{}")], "zstd")
    count, sent = asyncio.run(_in_aiokafka(batch))
    assert count == 1
    assert batch._build() == sent
