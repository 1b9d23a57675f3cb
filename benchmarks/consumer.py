"""
Notes when records reach a consumer of the topic.

A program (`python -m benchmarks.consumer SERVERS TOPIC FILE TRAFFIC`): an ordinary
confluent-kafka consumer with default settings. It says when it stands at the end of
every partition, then notes the time of each record until all events have come, or
none for a while, and writes the times (0 for what didn't come) to a file. Which
event was written when is the firehose's to say.
"""

from __future__ import annotations

import json
import sys
import time
from array import array
from pathlib import Path

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from benchmarks.traffic import Traffic


__all__ = ["DONE_MARK", "READY_MARK"]

READY_MARK = "waiting for records"
DONE_MARK = "received all records"

_POLL_SECONDS = 1.0

# After so long without a record the missing ones count as lost.
_SILENCE_SECONDS = 10.0


def _consume(servers: str, topic: str, file: Path, traffic: Traffic) -> None:
    consumer = Consumer(
        {
            "bootstrap.servers": servers,
            "group.id": "benchmark",  # asked for, never joined
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
            value = json.loads(message.value() or b"")
            index = traffic.index_of(value["request_id"], value["progress"])
            if not received_ns[index]:
                received_ns[index] = last_ns = now_ns
                left -= 1
        elif error.code() != KafkaError._PARTITION_EOF:
            raise KafkaException(error)
        elif len(ended) < len(partitions):
            ended.add(message.partition())
            if len(ended) == len(partitions):
                _say(READY_MARK)
    file.write_text(json.dumps(received_ns.tolist()))
    _say(DONE_MARK)
    consumer.close()


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    _consume(
        sys.argv[1], sys.argv[2], Path(sys.argv[3]), Traffic(**json.loads(sys.argv[4]))
    )
