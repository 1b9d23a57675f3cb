"""
A consumer of job statuses that may be stopped and started at any time.

It keeps one row for each job in SQLite and prints a line for each job that has
finished. Offsets are committed by hand, after the database: whatever happens in
between, a record is handled at least once, and handling it again changes nothing.

    pip install "confluent-kafka>=2.6"
    python examples/consumer.py --bootstrap-servers localhost:9092 --topic jobs
"""

from __future__ import annotations

import argparse
import json
import signal
import sqlite3
import sys
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Message


# A job's terminal status stands: a record that comes again, or late, can't undo it.
UPSERT = """
INSERT INTO jobs (request_id, status, progress, result_url)
VALUES (:request_id, :status, :progress, :result_url)
ON CONFLICT (request_id) DO UPDATE SET
    status = excluded.status,
    progress = excluded.progress,
    result_url = excluded.result_url
WHERE jobs.status NOT IN ('done', 'error')
"""

REBALANCED = {
    KafkaError.ILLEGAL_GENERATION,
    KafkaError.REBALANCE_IN_PROGRESS,
    KafkaError.UNKNOWN_MEMBER_ID,
    KafkaError._NO_OFFSET,  # the partition went to another consumer
}

JOBS = """
CREATE TABLE IF NOT EXISTS jobs (
    request_id TEXT PRIMARY KEY,
    status TEXT NOT NULL,
    progress TEXT,
    result_url TEXT
)
"""


def handle(database: sqlite3.Connection, job: dict[str, Any]) -> bool:
    """
    Take one status of one job; doing so twice is the same as doing so once.

    What must be done once for each *event* instead needs the header `ce_id`: keep it
    in the same transaction and pass over records whose `ce_id` is there already.

    Returns:
        Whether the job finished with this record.
    """
    with database:  # one transaction
        changed = database.execute(UPSERT, job).rowcount
    return changed == 1 and job["status"] in {"done", "error"}


def value_of(message: Message) -> dict[str, Any]:
    """Give a record's value, the object of schemas/job-status.schema.json."""
    error = message.error()
    if error is not None:
        raise KafkaException(error)
    job: dict[str, Any] = json.loads(message.value() or b"")
    return job


def run(consumer: Consumer, database: sqlite3.Connection) -> None:
    """Handle records until somebody raises SystemExit or KeyboardInterrupt."""
    while True:
        # What has come within 0.2 s, and 500 records at most, shares a commit.
        messages = consumer.consume(500, timeout=0.2)
        for message in messages:
            job = value_of(message)
            if handle(database, job):
                print(job["request_id"], job["status"], job["result_url"], flush=True)
        if messages:
            commit(consumer)


def commit(consumer: Consumer) -> None:
    """Commit what has been handled; a group that just changed may refuse it."""
    try:
        consumer.commit(asynchronous=False)
    except KafkaException as error:
        # The records come again, to this consumer or to another of the group.
        if error.args[0].code() not in REBALANCED:
            raise


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
    database.execute(JOBS)
    consumer = Consumer(
        {
            "bootstrap.servers": options.bootstrap_servers,
            "group.id": options.group,
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
        }
    )
    consumer.subscribe([options.topic])
    try:
        run(consumer, database)
    except KeyboardInterrupt:
        pass
    finally:
        consumer.close()
        database.close()


if __name__ == "__main__":
    main()
