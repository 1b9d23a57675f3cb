"""
Previews as files: which image shows each job now, for `previews = "topic"`.

A job's record refers to its preview by key and by digest (`bridge_preview_sha256`);
the image itself is a record on `jobs.previews`, before or after it. Images become
files that are named by their digest, references become rows: whichever comes second
completes the pair, and prints it. Handling a record again changes nothing.

    pip install "confluent-kafka>=2.6"
    python examples/previews.py --bootstrap-servers localhost:9092 --topic jobs
"""

from __future__ import annotations

import argparse
import hashlib
import signal
import sqlite3
import sys
from pathlib import Path
from typing import Any

from confluent_kafka import Consumer, KafkaException, Message


JOB_STATUS = "dev.dryapi.request.status.updated"
PREVIEW = "dev.dryapi.request.preview"

# Which digest a job's last reference names, and which file has which digest.
TABLES = """
CREATE TABLE IF NOT EXISTS shown (request_id TEXT PRIMARY KEY, sha256 TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS images (sha256 TEXT PRIMARY KEY, name TEXT NOT NULL);
"""

SHOW = "INSERT OR REPLACE INTO shown VALUES (?, ?)"
# What was replayed comes out of order: it must not take the place of a newer preview.
SHOW_IF_NONE = "INSERT OR IGNORE INTO shown VALUES (?, ?)"

PAIR = """
SELECT name FROM shown JOIN images USING (sha256) WHERE request_id = ? AND sha256 = ?
"""

# Kinds may be added.
SUFFIXES = {
    "image/jpeg": ".jpg",
    "image/png": ".png",
    "image/webp": ".webp",
    "image/gif": ".gif",
    "image/avif": ".avif",
}


class Previews:
    """The images in their folder, and the table of which job shows which."""

    def __init__(self, folder: Path, database: sqlite3.Connection) -> None:
        self._folder = folder
        self._database = database

    def handle(self, message: Message) -> str | None:
        """Take a record of either topic; give a line if it completes a pair."""
        key, value = message.key(), message.value()
        pairs: Any = message.headers() or []
        headers = {name: text.decode() for name, text in pairs}
        if key is None or value is None:
            return None
        request_id = key.decode()
        with self._database:  # one transaction
            if headers.get("ce_type") == PREVIEW:
                digest = self._keep(value, headers["content-type"])
            elif headers.get("ce_type") == JOB_STATUS:
                digest = headers.get("bridge_preview_sha256", "")
                replayed = headers["bridge_origin"] == "replay"
                if digest:
                    show = SHOW_IF_NONE if replayed else SHOW
                    self._database.execute(show, [request_id, digest])
            else:
                return None  # a kind that this program doesn't know
            pair = self._database.execute(PAIR, [request_id, digest]).fetchone()
        # Without a pair the other one comes later. An image may never come: if memory
        # or disk is nearly full, the bridge drops previews first.
        return f"{request_id} {pair[0]}" if pair else None

    def _keep(self, image: bytes, content_type: str) -> str:
        """Make a file of an image; give its digest."""
        # Never by what a job calls itself: that may hold a slash, or dots.
        digest = hashlib.sha256(image).hexdigest()
        name = digest + SUFFIXES.get(content_type, ".bin")
        unfinished = self._folder / f"{name}.part"
        unfinished.write_bytes(image)
        unfinished.replace(self._folder / name)  # it is there whole, or not at all
        insert = "INSERT OR REPLACE INTO images VALUES (?, ?)"
        self._database.execute(insert, [digest, name])
        return digest


def run(consumer: Consumer, previews: Previews) -> None:
    """Handle records until a signal raises SystemExit or KeyboardInterrupt."""
    while True:
        message = consumer.poll(0.2)
        if message is None:
            continue
        error = message.error()
        if error is not None:
            raise KafkaException(error)
        line = previews.handle(message)
        if line is not None:
            print(line, flush=True)
        # Now it may be committed: the client does so every 5 s, and at the end.
        consumer.store_offsets(message)


def main() -> None:
    """Read the command line and join until SIGTERM or Ctrl-C."""
    parser = argparse.ArgumentParser(description=__doc__.strip().partition("\n")[0])
    parser.add_argument("--bootstrap-servers", default="localhost:9092")
    parser.add_argument("--topic", default="jobs")
    parser.add_argument("--group", default="example-previews")
    parser.add_argument("--folder", default="previews", type=Path)
    options = parser.parse_args()

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    options.folder.mkdir(exist_ok=True)
    database = sqlite3.connect(options.folder / "previews.sqlite3")
    database.executescript(TABLES)
    consumer = Consumer(
        {
            "bootstrap.servers": options.bootstrap_servers,
            "group.id": options.group,
            "auto.offset.reset": "earliest",
            "isolation.level": "read_committed",
            # What is committed is what was stored, and that is what was handled.
            "enable.auto.commit": True,
            "enable.auto.offset.store": False,
        }
    )
    consumer.subscribe([options.topic, f"{options.topic}.previews"])
    try:
        run(consumer, Previews(options.folder, database))
    except KeyboardInterrupt:
        pass
    finally:
        consumer.close()
        database.close()


if __name__ == "__main__":
    main()
