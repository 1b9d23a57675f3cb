"""
A consumer of job statuses that may be stopped, killed and started at any time.

It keeps one row for each job in SQLite, and prints a line for each job that has
finished. Offsets are committed by hand, after the database: whatever happens in
between, a record is handled at least once, and handling it again changes nothing.
Several may share a group and a database.

    pip install "confluent-kafka>=2.6"
    python examples/consumer.py --bootstrap-servers localhost:9092 --topic jobs
"""

from __future__ import annotations

import argparse
import json
import signal
import sqlite3
import sys
from collections.abc import Iterable, Mapping
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
    changed_at TEXT NOT NULL,
    events INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS handled (
    number INTEGER PRIMARY KEY,
    ce_id TEXT NOT NULL UNIQUE
);
"""

# A job's terminal status stands, whatever comes later. A step back of a running job is
# skipped, so that its progress doesn't jump back on a screen. What was
# replayed from the dead letters comes out of order: it counts where it is newer.
UPSERT = """
INSERT INTO jobs VALUES (:request_id, :status, :progress, :result_url, :time, 0)
ON CONFLICT (request_id) DO UPDATE SET
    status = excluded.status,
    progress = excluded.progress,
    result_url = excluded.result_url,
    changed_at = excluded.changed_at
WHERE jobs.status NOT IN ('done', 'error')
    AND NOT :regression
    AND (NOT :replayed OR excluded.changed_at > jobs.changed_at)
"""

COUNT = "UPDATE jobs SET events = events + 1 WHERE request_id = :request_id"

REMEMBER = "INSERT OR IGNORE INTO handled (ce_id) VALUES (?)"

# How many events are known by name. One comes again within seconds, or from the last
# commit on, which is 500 records unless commits fail for long.
KNOWN_EVENTS = 100_000
FORGET = "DELETE FROM handled WHERE number <= (SELECT max(number) FROM handled) - ?"


def handle(database: sqlite3.Connection, messages: Iterable[Message]) -> list[str]:
    """
    Take records into the database: all of them, or none where that fails.

    Returns:
        A line for each job that finished with one of them.
    """
    finished = []
    with database:  # one transaction
        for message in messages:
            error = message.error()
            if error is not None:
                raise KafkaException(error)
            headers = headers_of(message)
            # Kinds of records may be added; this program knows one.
            if headers.get("ce_type") != JOB_STATUS:
                continue
            job = json_of(message)
            if handle_event(database, headers, job):
                finished.append(
                    f"{job['request_id']} {job['status']} {job['result_url']}"
                )
        database.execute(FORGET, [KNOWN_EVENTS])
    return finished


def handle_event(
    database: sqlite3.Connection, headers: Mapping[str, str], job: Mapping[str, Any]
) -> bool:
    """
    Take one event; doing so twice is the same as doing so once.

    Returns:
        Whether the job finished with it.
    """
    if not database.execute(REMEMBER, [headers["ce_id"]]).rowcount:
        return False  # the same event again, at this offset or at another
    anomalies = headers.get("bridge_anomaly", "").split(",")
    values = dict(job) | {
        "time": headers["ce_time"],
        "regression": "regression" in anomalies,
        "replayed": headers["bridge_origin"] == "replay",
    }
    changed = database.execute(UPSERT, values).rowcount
    if "duplicate" not in anomalies:  # an event of its own that says nothing new
        # Not the same when it is done twice: this is what `handled` is for.
        database.execute(COUNT, values)
    return changed == 1 and job["status"] in {"done", "error"}


def headers_of(message: Message) -> dict[str, str]:
    """Give a record's headers, which are all text."""
    pairs: Any = message.headers() or []
    return {name: value.decode() for name, value in pairs}


def json_of(message: Message) -> dict[str, Any]:
    """Give a record's value, the object of schemas/job-status.schema.json."""
    value = message.value() or b""
    # With a Schema Registry a zero byte and the schema's id precede it.
    job: dict[str, Any] = json.loads(value[5:] if value.startswith(b"\0") else value)
    return job


def run(consumer: Consumer, database: sqlite3.Connection) -> None:
    """Handle records until a signal raises SystemExit or KeyboardInterrupt."""
    while True:
        # What has come within 0.2 s, and 500 records at most, shares a transaction.
        messages = consumer.consume(500, timeout=0.2)
        for line in handle(database, messages):
            print(line, flush=True)
        for message in messages:
            # Only now may they be committed. It fails for a partition that has just
            # gone to another consumer, which then handles its records again.
            with suppress(KafkaException):
                consumer.store_offsets(message)
        if messages:
            # The answer goes to `committed`: no broker keeps this loop waiting.
            consumer.commit(asynchronous=True)


def committed(error: KafkaError | None, _: list[TopicPartition]) -> None:
    """Say that a commit failed; the next one is for its records as well."""
    # `_NO_OFFSET`: nothing that could be committed, its partitions are gone.
    if error is not None and error.code() != KafkaError._NO_OFFSET:
        print(f"not committed: {error.str()}", file=sys.stderr)


def assigned(_: Consumer, partitions: list[TopicPartition]) -> None:
    """Say which partitions came; each goes on behind its last commit."""
    say("assigned", partitions)


def revoked(consumer: Consumer, partitions: list[TopicPartition]) -> None:
    """
    Commit what was handled of partitions that go to another consumer.

    It is called from within `consume`. Records that are already fetched then are not
    committed: their offsets haven't been stored.
    """
    consumer.commit(asynchronous=True)  # the partitions wait for it
    say("revoked", partitions)


def lost(_: Consumer, partitions: list[TopicPartition]) -> None:
    """Say which partitions went without asking: others handle their records again."""
    say("lost", partitions)


def say(what: str, partitions: list[TopicPartition]) -> None:
    """Report on standard error; standard output is for results."""
    numbers = sorted(each.partition for each in partitions)
    print(f"{what}: partitions {numbers}", file=sys.stderr, flush=True)


def main() -> None:
    """Read the command line and consume until SIGTERM or Ctrl-C."""
    parser = argparse.ArgumentParser(description=__doc__.strip().partition("\n")[0])
    parser.add_argument("--bootstrap-servers", default="localhost:9092")
    parser.add_argument("--topic", default="jobs")
    parser.add_argument("--group", default="example-python")
    parser.add_argument("--database", default="jobs.sqlite3", help="a SQLite file")
    options = parser.parse_args()

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    database = sqlite3.connect(options.database)
    database.executescript(TABLES)
    consumer = Consumer(
        {
            "bootstrap.servers": options.bootstrap_servers,
            "group.id": options.group,
            "auto.offset.reset": "earliest",
            # librdkafka's default: what a transactional bridge aborted isn't seen.
            "isolation.level": "read_committed",
            # An offset is stored by hand once its record is handled, and only what
            # is stored is committed.
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            "on_commit": committed,
            # Who joins takes some partitions, while the others go on undisturbed.
            "partition.assignment.strategy": "cooperative-sticky",
        }
    )
    consumer.subscribe(
        [options.topic], on_assign=assigned, on_revoke=revoked, on_lost=lost
    )
    try:
        run(consumer, database)
    except KeyboardInterrupt:
        pass
    finally:
        consumer.close()
        database.close()


if __name__ == "__main__":
    main()
