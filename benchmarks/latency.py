"""
How long events take until a consumer has them.

A consumer in a process of its own (`python -m benchmarks.latency SERVERS TOPIC FILE
TRAFFIC`), an ordinary one of confluent-kafka with default settings, notes when it has
each event. When each was written is the source's to say.
"""

from __future__ import annotations

import json
import math
import sys
import time
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from benchmarks.load import Emission, Traffic


READY, DONE = "waiting for records", "received all records"
"""What the consumer writes at the end of every partition, and when it has finished."""

# The latencies of a run's first second are left out: caches are filled then.
_LEAD_SECONDS = 1.0

# After so long without a record the missing ones count as lost.
_SILENCE_SECONDS = 10.0

_POLL_SECONDS = 1.0


@dataclass(frozen=True)
class Latency:
    """What events took, in milliseconds; half, 99 % and 99.9 % took no longer."""

    p50: float
    p99: float
    p999: float


def latency_of(
    emission: Emission, received_ns: Sequence[int], rate: float
) -> Latency | None:
    """
    Give the percentiles of all events but those of the first second.

    Args:
        emission: When they were written.
        received_ns: When the consumer had them; 0 for what didn't come.
        rate: Events a second.
    """
    # Never more than half is left out.
    lead = int(min(_LEAD_SECONDS * rate, len(received_ns) / 2))
    pairs = zip(received_ns[lead:], emission.stamps_ns[lead:], strict=True)
    # The verdict counts what didn't come.
    taken = sorted((came - written) / 1e6 for came, written in pairs if came)
    if not taken:
        return None
    ranks = [math.ceil(len(taken) * share) for share in (0.5, 0.99, 0.999)]
    return Latency(*(taken[rank - 1] for rank in ranks))


def _consume(servers: str, topic: str, file: Path, traffic: Traffic) -> None:
    """
    Note the time of each event's record, until all have come or none for a while.

    The topic is new. The times (0 for what didn't come) are written to a file.
    """
    consumer = Consumer(
        {
            "bootstrap.servers": servers,
            "group.id": "benchmark",  # required, never joined
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",
            "enable.partition.eof": True,
        }
    )
    partitions = consumer.list_topics(topic).topics[topic].partitions
    consumer.assign([TopicPartition(topic, number, 0) for number in partitions])
    ended: set[int | None] = set()
    received_ns = array("q", bytes(8 * traffic.events))
    left = traffic.events
    last_ns = None
    while left:
        message = consumer.poll(_POLL_SECONDS)
        now_ns = time.monotonic_ns()
        if message is None:
            if last_ns is not None and now_ns - last_ns > _SILENCE_SECONDS * 1e9:
                break
            continue
        error = message.error()
        if error is None:
            index = traffic.index_of(message.value())
            if index is not None and not received_ns[index]:
                received_ns[index] = last_ns = now_ns
                left -= 1
        elif error.code() != KafkaError._PARTITION_EOF:
            raise KafkaException(error)
        elif len(ended) < len(partitions):
            ended.add(message.partition())
            if len(ended) == len(partitions):
                print(READY, flush=True)
    file.write_text(json.dumps(received_ns.tolist()))
    print(DONE, flush=True)
    consumer.close()


if __name__ == "__main__":
    _consume(
        sys.argv[1], sys.argv[2], Path(sys.argv[3]), Traffic(**json.loads(sys.argv[4]))
    )
