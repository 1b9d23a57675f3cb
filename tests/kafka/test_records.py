"""The form of a record on the wire: its headers, word for word, and its partition."""

from __future__ import annotations

import random
import uuid
from collections import Counter
from functools import partial

import pytest
import trio
from confluent_kafka import Producer

from bridge.events import header_names
from bridge.events.record import Envelope, StoredRecord
from bridge.kafka.headers import HeaderWriter, own_identity
from bridge.outbox.partitioner import murmur2, partitioner
from tests.conftest import Topic
from tests.kafka.relay.relaying import DEADLINE_SECONDS, ENVELOPE, read_back


_OUTBOX = "0d6a2d3e-8d0c-4b5e-9c56-0a7d9f0f8f3b"


def stored(
    *,
    key: bytes | None = b"req-1",
    received_at_us: int = 1_764_000_000_000_007,
    envelope: Envelope = ENVELOPE,
    extra: tuple[tuple[str, bytes], ...] = (),
) -> StoredRecord:
    """A record as the outbox gives it."""
    return StoredRecord(42, "f00d-17", key, b"{}", received_at_us, envelope, extra)


def test_what_is_odd_about_a_record_stands_in_one_header() -> None:
    """Consumers read the last header of a name: two would hide one."""
    writer = HeaderWriter(_OUTBOX)
    replayed = stored(extra=((header_names.BRIDGE_ANOMALY, b"replayed"),))
    for record, expected in ((replayed, b"replayed,resent"), (stored(), b"resent")):
        headers = writer.headers(record, is_resent=True)
        assert len(dict(headers)) == len(headers)
        assert dict(headers)["bridge_anomaly"] == expected


def test_times_keep_their_microseconds() -> None:
    """Times of one second and of others, earlier ones too, are exact."""
    writer = HeaderWriter(_OUTBOX)
    times = [
        dict(writer.headers(stored(received_at_us=us)))["ce_time"]
        for us in (
            1_764_000_000_000_000,
            1_764_000_000_999_999,
            1_764_000_001_000_000,
            1_763_999_999_500_000,
            0,
        )
    ]
    assert times == [
        b"2025-11-24T16:00:00.000000Z",
        b"2025-11-24T16:00:00.999999Z",
        b"2025-11-24T16:00:01.000000Z",
        b"2025-11-24T15:59:59.500000Z",
        b"1970-01-01T00:00:00.000000Z",
    ]


def test_own_records_are_recognised_and_no_others() -> None:
    """Other outboxes, other producers and damaged headers don't count."""
    own = _OUTBOX.encode()
    headers = dict(HeaderWriter(_OUTBOX).headers(stored()))
    assert own_identity(headers.items(), own) == ("f00d-17", 42)
    assert own_identity(headers.items(), b"another") is None
    assert own_identity([], own) is None
    for broken in (
        {**headers, "bridge_sequence": b"many"},
        {**headers, "ce_id": b"\xff"},
        {name: value for name, value in headers.items() if name != "ce_id"},
    ):
        assert own_identity(broken.items(), own) is None


# org.apache.kafka.common.utils.UtilsTest.testMurmur2
_JAVA_VECTORS = [
    (b"21", -973932308),
    (b"foobar", -790332482),
    (b"a-little-bit-long-string", -985981536),
    (b"a-little-bit-longer-string", -1486304829),
    (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
    (b"abc", 479470107),
]


@pytest.mark.parametrize(("data", "expected"), _JAVA_VECTORS)
def test_hashes_as_java_does(data: bytes, expected: int) -> None:
    """Every vector of Kafka's own test comes out, as a signed 32-bit number."""
    assert murmur2(data) == expected % 2**32


async def test_agrees_with_librdkafka_about_random_keys(topic: Topic) -> None:
    """Keys of every length land where librdkafka's murmur2 puts them."""
    chance = random.Random(20)
    keys = [chance.randbytes(length) for length in range(1, 200)]
    keys += [str(uuid.UUID(int=chance.getrandbits(128))).encode() for _ in range(300)]
    producer = Producer(
        {
            "bootstrap.servers": topic.bootstrap_servers,
            "partitioner": "murmur2_random",
        }
    )
    for key in keys:
        producer.produce(topic.name, key=key, value=b"")
    flush = partial(producer.flush, DEADLINE_SECONDS)
    assert await trio.to_thread.run_sync(flush) == 0
    partition_of = partitioner(topic.partitions)
    records = await read_back(topic)
    assert {one.key for one in records} == set(keys)
    assert [one for one in records if one.partition != partition_of(one.key)] == []
    assert {one.partition for one in records} == set(range(topic.partitions))


def test_records_without_a_key_go_round() -> None:
    """Dead letters without a key are spread evenly."""
    partition_of = partitioner(3)
    assert Counter(partition_of(None) for _ in range(30)) == {0: 10, 1: 10, 2: 10}
