"""
The latest state of each job, as a table that is made from the topic and kept.

It reads `jobs` from the beginning, compacted or not, and then follows it. The table
and the place up to which it has been read are in one SQLite file and change in one
transaction, so that each record counts exactly once, whenever this program is
stopped, killed and started again. The file has one row for each job on the topic.

    pip install "confluent-kafka>=2.6"
    python examples/latest_state.py --bootstrap-servers localhost:9092 --topic jobs
    python examples/latest_state.py --once     up to the topic's end, no further

Kafka Streams' `builder.table("jobs")` and ksqlDB's `CREATE TABLE` keep the same
table: a key's last record counts, and a job's terminal record is its last one.
"""

from __future__ import annotations

import argparse
import json
import signal
import sqlite3
import sys
import time
from contextlib import suppress
from typing import Any

from confluent_kafka import (
    Consumer,
    KafkaError,
    KafkaException,
    Message,
    TopicPartition,
)


JOB_STATUS = "dev.dryapi.request.status.updated"

TABLES = """
CREATE TABLE IF NOT EXISTS jobs (
    request_id TEXT PRIMARY KEY,
    status TEXT NOT NULL,
    progress TEXT,
    result_url TEXT,
    changed_at TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS positions (
    partition INTEGER PRIMARY KEY,
    next_offset INTEGER NOT NULL
);
"""

# Terminal is last: the bridge sees to it, and a table that holds to it as well stays
# right even where others write, or where partitions were added and a job's records
# are on two. What was replayed from the dead letters counts where it is newer.
UPSERT = """
INSERT INTO jobs VALUES (:request_id, :status, :progress, :result_url, :time)
ON CONFLICT (request_id) DO UPDATE SET
    status = excluded.status,
    progress = excluded.progress,
    result_url = excluded.result_url,
    changed_at = excluded.changed_at
WHERE jobs.status NOT IN ('done', 'error')
    AND (NOT :replayed OR excluded.changed_at > jobs.changed_at)
"""

COUNTS = "SELECT status, count(*) FROM jobs GROUP BY status ORDER BY status"

# How often it looks for partitions that were added: one request to one broker.
PARTITIONS_SECONDS = 2.0
METADATA_SECONDS = 10.0


def apply(database: sqlite3.Connection, message: Message) -> str | None:
    """
    Take one record into the table, within the caller's transaction.

    Returns:
        A line with the job's new state; None if it has no other one now.
    """
    key, value = message.key(), message.value()
    position = "INSERT OR REPLACE INTO positions VALUES (?, ?)"
    database.execute(position, [message.partition(), (message.offset() or 0) + 1])
    if key is not None and value is None:
        # A tombstone. The bridge writes none, but an operator who erases a job does.
        database.execute("DELETE FROM jobs WHERE request_id = ?", [key.decode()])
        return f"{key.decode()} -"
    pairs: Any = message.headers() or []
    headers = {name: text.decode() for name, text in pairs}
    # Kinds of records may be added; this program knows one.
    if headers.get("ce_type") != JOB_STATUS:
        return None
    value = value or b""
    # With a Schema Registry a zero byte and the schema's id precede the JSON.
    job = json.loads(value[5:] if value.startswith(b"\0") else value)
    replayed = headers["bridge_origin"] == "replay"
    values = job | {"time": headers["ce_time"], "replayed": replayed}
    if not database.execute(UPSERT, values).rowcount:
        return None
    return f"{job['request_id']} {job['status']} {job['progress']}"


class Table:
    """The table and the consumer that feeds it."""

    def __init__(
        self, database: sqlite3.Connection, consumer: Consumer, topic: str
    ) -> None:
        self._database = database
        self._consumer = consumer
        self._topic = topic
        self._assigned: set[int] = set()
        self._unread: set[int] = set()
        self._look_again = 0.0

    @property
    def is_caught_up(self) -> bool:
        """Whether each partition has been read to its end at least once."""
        return not self._unread

    def look_for_partitions(self) -> None:
        """Read all partitions there are, each from where the table stands."""
        topics = self._consumer.list_topics(self._topic, METADATA_SECONDS).topics
        error = topics[self._topic].error
        if error is not None:
            raise KafkaException(error)
        known = dict(self._database.execute("SELECT * FROM positions"))
        new = topics[self._topic].partitions.keys() - self._assigned
        # A new partition is read from its beginning, as one whose records are gone.
        places = [TopicPartition(self._topic, each, known.get(each, 0)) for each in new]
        self._consumer.incremental_assign(places)
        self._assigned |= new
        self._unread |= new

    def read(self) -> list[str]:
        """Take what has come; give a line for each job that has another state now."""
        if time.monotonic() > self._look_again:
            # No broker answers, perhaps: then nothing comes either, and this is
            # tried again.
            with suppress(KafkaException):
                self.look_for_partitions()
            self._look_again = time.monotonic() + PARTITIONS_SECONDS
        lines = []
        messages = self._consumer.consume(500, timeout=0.2)
        with self._database:  # one transaction
            for message in messages:
                error = message.error()
                if error is None:
                    line = apply(self._database, message)
                    lines += [line] if line else []
                elif error.code() == KafkaError._PARTITION_EOF:
                    self._unread.discard(message.partition() or 0)
                else:
                    raise KafkaException(error)
        return lines

    def summary(self) -> str:
        """Give how many jobs there are in each status."""
        return ", ".join(
            f"{count} {status}" for status, count in self._database.execute(COUNTS)
        )


def run(table: Table, *, once: bool) -> None:
    """Bring the table up to date, report that, then each change."""
    while not table.is_caught_up:
        table.read()
    print(f"caught up: {table.summary() or 'no jobs'}", flush=True)
    while not once:
        for line in table.read():
            print(line, flush=True)


def main() -> None:
    """Read the command line and follow the topic until SIGTERM or Ctrl-C."""
    parser = argparse.ArgumentParser(description=__doc__.strip().partition("\n")[0])
    parser.add_argument("--bootstrap-servers", default="localhost:9092")
    parser.add_argument("--topic", default="jobs")
    parser.add_argument("--table", default="latest.sqlite3", help="a SQLite file")
    parser.add_argument("--once", action="store_true", help="end at the topic's end")
    options = parser.parse_args()

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    database = sqlite3.connect(options.table)
    database.executescript(TABLES)
    consumer = Consumer(
        {
            "bootstrap.servers": options.bootstrap_servers,
            "group.id": "latest-state",  # librdkafka wants one; it is never joined
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "isolation.level": "read_committed",
            # Where what comes next is gone, all that is there is newer.
            "auto.offset.reset": "earliest",
        }
    )
    table = Table(database, consumer, options.topic)
    try:
        table.look_for_partitions()
        run(table, once=options.once)
    except KeyboardInterrupt:
        pass
    finally:
        consumer.close()
        database.close()


if __name__ == "__main__":
    main()
