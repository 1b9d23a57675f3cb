"""
When data may be missing: the ledger of gaps as intervals, for each account.

It reads `jobs.gaps` to its end and prints a line for each interval in which events
may have been missed: account, begin, end, causes. It exits with 1 if there is one, so
that a report can ask whether its day is whole:

    pip install "confluent-kafka>=2.6"
    python examples/gaps.py --bootstrap-servers localhost:9092 --topic jobs.gaps
    python examples/gaps.py --since 2026-01-31T00:00:00Z --until 2026-02-01T00:00:00Z
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from confluent_kafka import (
    OFFSET_BEGINNING,
    Consumer,
    KafkaError,
    KafkaException,
    TopicPartition,
)


GAP = "dev.dryapi.bridge.gap"

# Of a gap without `since` nothing is known of the time before, one without `until` is
# still open.
BEGINNING = datetime.min.replace(tzinfo=UTC)
END = datetime.max.replace(tzinfo=UTC)

METADATA_SECONDS = 10.0


@dataclass
class Interval:
    """A time in which events of an account may have been missed."""

    client_id: str
    since: datetime
    until: datetime
    causes: list[str]

    def __str__(self) -> str:
        since = "unknown" if self.since == BEGINNING else self.since.isoformat()
        until = "open" if self.until == END else self.until.isoformat()
        return f"{self.client_id} {since} {until} {','.join(self.causes)}"


def last_of_each(values: Iterable[bytes]) -> list[dict[str, Any]]:
    """Give each gap once: it has several records, and the last one counts."""
    gaps = {}
    for value in values:
        # With a Schema Registry a zero byte and the schema's id precede the JSON.
        gap = json.loads(value[5:] if value.startswith(b"\0") else value)
        gaps[gap["gap_id"]] = gap
    return list(gaps.values())


def unite(gaps: Iterable[dict[str, Any]]) -> list[Interval]:
    """Give the intervals of all gaps, one for those that overlap or touch."""
    intervals = [
        Interval(
            gap["client_id"],
            datetime.fromisoformat(gap["since"]) if gap["since"] else BEGINNING,
            datetime.fromisoformat(gap["until"]) if gap["until"] else END,
            [gap["cause"]],
        )
        for gap in gaps
    ]
    united: list[Interval] = []
    for each in sorted(intervals, key=lambda one: (one.client_id, one.since)):
        last = united[-1] if united else None
        if last and last.client_id == each.client_id and each.since <= last.until:
            last.until = max(last.until, each.until)
            last.causes += [each.causes[0]] if each.causes[0] not in last.causes else []
        else:
            united.append(each)
    return united


def read(consumer: Consumer, topic: str) -> Iterator[bytes]:
    """Give the values of all gaps' records; those of one account are in order."""
    metadata = consumer.list_topics(topic, METADATA_SECONDS).topics[topic]
    if metadata.error is not None:
        raise KafkaException(metadata.error)
    unread = set(metadata.partitions)
    consumer.assign([TopicPartition(topic, each, OFFSET_BEGINNING) for each in unread])
    while unread:
        for message in consumer.consume(500, timeout=0.2):
            error, value = message.error(), message.value()
            pairs: Any = message.headers() or []
            if error is None:
                if value and dict(pairs).get("ce_type") == GAP.encode():
                    yield value
            elif error.code() == KafkaError._PARTITION_EOF:
                unread.discard(message.partition() or 0)
            else:
                raise KafkaException(error)


def main() -> int:
    """Read the command line, print what it asks for, say if there was something."""
    parser = argparse.ArgumentParser(description=__doc__.strip().partition("\n")[0])
    parser.add_argument("--bootstrap-servers", default="localhost:9092")
    parser.add_argument("--topic", default="jobs.gaps")
    parser.add_argument("--client-id", help="one account alone")
    parser.add_argument("--since", type=datetime.fromisoformat, default=BEGINNING)
    parser.add_argument("--until", type=datetime.fromisoformat, default=END)
    options = parser.parse_args()

    consumer = Consumer(
        {
            "bootstrap.servers": options.bootstrap_servers,
            "group.id": "gaps",  # librdkafka wants one; it is never joined
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "isolation.level": "read_committed",
        }
    )
    try:
        gaps = last_of_each(read(consumer, options.topic))
    finally:
        consumer.close()
    asked = [
        each
        for each in unite(gaps)
        if each.since < options.until
        and each.until > options.since
        and options.client_id in {None, each.client_id}
    ]
    for each in asked:
        print(each)
    return 1 if asked else 0


if __name__ == "__main__":
    sys.exit(main())
