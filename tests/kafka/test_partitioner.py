"""The partitioner against Java's published vectors and another implementation."""

from __future__ import annotations

import random
import uuid
from collections import Counter
from functools import partial

import pytest
import trio
from confluent_kafka import Producer

from bridge.outbox.partitioner import murmur2, partitioner
from tests.conftest import Topic
from tests.kafka.relay.relaying import DEADLINE_SECONDS, read_back


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
