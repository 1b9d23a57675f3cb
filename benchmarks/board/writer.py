"""
Writes a run's records to the topic.

A program (`python -m benchmarks.board.writer SERVERS TOPIC RATE SECONDS`): an ordinary
confluent-kafka producer. At a rate of 0 it writes what was there before a run, at once.
It says when it has begun, and at the end how many records the broker has taken.
"""

from __future__ import annotations

import sys
import time

from confluent_kafka import Producer

from benchmarks.board.load import PREVIEW_BYTES, Load, Written
from bridge.sandbox.jobs import paint


__all__ = ["BEGIN_MARK", "DONE_MARK"]

BEGIN_MARK = "writing"
DONE_MARK = "written: "

# Short beside the quarter of a second between a browser's updates.
_TICK_SECONDS = 0.01
# Twenty a second: enough for a percentile, few beside the others.
_WATCHED_SECONDS = 0.05

_FLUSH_SECONDS = 60.0
_FULL_SECONDS = 0.05


class _Writer:
    """A producer that counts what was taken."""

    def __init__(self, servers: str, topic: str) -> None:
        self.taken = 0
        self._topic = topic
        # As the bridge: all replicas, in order, some records at a time.
        options = {
            "bootstrap.servers": servers,
            "enable.idempotence": True,
            "linger.ms": 5,
        }
        self._producer = Producer(options)

    def write(self, record: Written) -> None:
        key, value, headers = record
        while True:
            try:
                self._producer.produce(
                    self._topic, value, key, headers=headers, on_delivery=self._told
                )
            except BufferError:
                self._producer.poll(_FULL_SECONDS)
            else:
                return

    def poll(self) -> None:
        self._producer.poll(0)

    def flush(self) -> None:
        self._producer.flush(_FLUSH_SECONDS)

    def _told(self, error: object, _: object) -> None:
        self.taken += error is None


def _write(writer: _Writer, load: Load, rate: int, seconds: float) -> None:
    """Write events and, between them, those that are watched."""
    began = time.monotonic()
    written = watched = 0
    while (passed := time.monotonic() - began) < seconds:
        for index in range(written, int(passed * rate)):
            writer.write(load.event(index, time.time_ns() // 1000))
        written = int(passed * rate)
        if passed >= watched * _WATCHED_SECONDS:
            writer.write(load.watched(time.time_ns() // 1000))
            watched += 1
        writer.poll()
        time.sleep(_TICK_SECONDS)


def _main(servers: str, topic: str, rate: int, seconds: float) -> None:
    pictures = [stages[-1] for stages in paint(PREVIEW_BYTES).previews]
    writer = _Writer(servers, topic)
    load = Load(rate, pictures)
    _say(BEGIN_MARK)
    if rate:
        _write(writer, load, rate, seconds)
    else:
        for record in load.history(time.time_ns() // 1000):
            writer.write(record)
            writer.poll()
    writer.flush()
    _say(f"{DONE_MARK}{writer.taken}")


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    _main(sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4]))
