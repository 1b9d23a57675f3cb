"""
Jobs that stay on the partition where they began, though their topic has got more.

Kafka keeps an order within a partition alone: a job whose key belongs to another
partition from one moment on would be read in two orders. So each job in flight is
pinned then, in the file as well, until it has ended or is forgotten. With 50,000 jobs
in flight that took 0.9 s, on a machine that was busy. Without pins, which is nearly
always, they cost an event nothing.
"""

from __future__ import annotations

import sqlite3  # noqa: TID251 - this room speaks to SQLite
import time
from collections.abc import Collection, Iterator, Mapping
from itertools import chain

from bridge.outbox.jobs.in_flight import Jobs
from bridge.outbox.rows.lane import Topic
from bridge.outbox.rows.lanes import Lanes, PartitionOf


__all__ = ["Pins"]

# A pin that is left for longer than its job costs 100 bytes; to look through 25,000 of
# them took 22 ms.
_LOOK_SECONDS = 5.0


class Pins:
    """
    The table of pins; in memory they stand in `Lanes.pins`, where topics see them.

    Args:
        connection: The outbox's file.
        lanes: Its lanes.
    """

    def __init__(self, connection: sqlite3.Connection, lanes: Lanes) -> None:
        self._connection = connection
        self._lanes = lanes
        self._due_at = 0.0

    def load(self) -> None:
        """
        Read the pins from the file.

        Raises:
            sqlite3.Error: They can't be read. What was known of them stays, for the
                file that takes this one's place.
        """
        found: dict[str, set[bytes]] = {}
        for topic, key, partition in self._connection.execute(
            "SELECT topic, key, partition FROM pinned"
        ):
            self._lanes.pins.setdefault(topic, {})[key] = partition
            found.setdefault(topic, set()).add(key)
        for topic, pins in self._lanes.pins.items():
            for key in pins.keys() - found.get(topic, set()):
                del pins[key]

    def take_over(self, others: Pins) -> None:
        """Write another file's pins into this one; belongs into a transaction."""
        for name, pins in others._lanes.pins.items():
            self._add(name, pins)

    def open(
        self,
        name: str,
        opened: Collection[int],
        former_partition_of: PartitionOf | None,
        jobs: Jobs,
    ) -> None:
        """
        Pin what belongs to other partitions from now on; after `Lanes.open`.

        That is each job in flight, and whatever waits without a lane: it was read
        before the change was known, perhaps as the end of a job that began long ago.

        Args:
            name: The topic.
            opened: The partitions that it has now.
            former_partition_of: Where keys belonged until now; None if nothing has
                changed.
            jobs: The jobs in flight.
        """
        topic = self._lanes.topics[name]
        gone = [key for key, number in topic.pins.items() if number not in opened]
        self._remove(name, gone)
        if former_partition_of is None or topic.partition_of is None:
            return
        added: dict[bytes, int] = {}
        for key in chain(_in_flight(jobs), self._waiting(topic)):
            # One that is pinned already has been elsewhere before the former change.
            if key not in topic.pins and key not in added:
                partition = former_partition_of(key)
                if partition != topic.partition_of(key) and partition in opened:
                    added[key] = partition
        self._add(name, added)

    def let_go(self, jobs: Jobs) -> None:
        """
        Forget, now and then, the pins of jobs that have ended or were forgotten.

        It belongs behind `claim`: what still waits without a lane may be a job's end.

        Args:
            jobs: The jobs in flight, as of the last commit.
        """
        if not any(self._lanes.pins.values()) or time.monotonic() < self._due_at:
            return
        self._due_at = time.monotonic() + _LOOK_SECONDS
        in_flight = set(_in_flight(jobs))
        for name, pins in self._lanes.pins.items():
            topic = self._lanes.topics.get(name)
            if topic is not None and not topic.unassigned.pending:
                self._remove(name, [key for key in pins if key not in in_flight])

    def _waiting(self, topic: Topic) -> Iterator[bytes]:
        lane = topic.unassigned
        if not lane.pending:
            return
        for (key,) in self._connection.execute(
            "SELECT DISTINCT key FROM rows"
            " WHERE position > ? AND position <= ? AND key IS NOT NULL",
            (lane.base + lane.acknowledged_sequence, lane.end),
        ):
            yield key

    def _add(self, name: str, pins: Mapping[bytes, int]) -> None:
        self._connection.executemany(
            "INSERT OR REPLACE INTO pinned VALUES (?, ?, ?)",
            [(name, key, partition) for key, partition in pins.items()],
        )
        self._lanes.pins.setdefault(name, {}).update(pins)

    def _remove(self, name: str, keys: list[bytes]) -> None:
        self._connection.executemany(
            "DELETE FROM pinned WHERE topic = ? AND key = ?",
            [(name, key) for key in keys],
        )
        for key in keys:
            del self._lanes.pins[name][key]


def _in_flight(jobs: Jobs) -> Iterator[bytes]:
    for account in jobs.accounts.values():
        yield from account.jobs
