"""
Rows that the broker refuses for good: taken out, so that their lane goes on.

Their sequence is passed without a place in the log. What is written instead of
a refused row is the relay's business; a row put into quarantine stays in the
file until a person has looked at it.
"""

from __future__ import annotations

import sqlite3  # noqa: TID251 - this room speaks to SQLite
import time

from bridge.outbox.rows import table as rows
from bridge.outbox.rows.lane import Lane
from bridge.outbox.rows.lanes import Lanes


__all__ = ["Refusals"]


class Refusals:
    """
    The way out of a lane that doesn't lead into the log.

    Args:
        connection: The outbox's file.
        lanes: Its lanes.

    Attributes:
        quarantined: How many rows lie in quarantine.
    """

    def __init__(self, connection: sqlite3.Connection, lanes: Lanes) -> None:
        self._connection = connection
        self._lanes = lanes
        self.quarantined = 0

    def load(self) -> None:
        """Count what lies in quarantine."""
        (self.quarantined,) = self._connection.execute(
            "SELECT count(*) FROM quarantine"
        ).fetchone()

    def check(self, lane: Lane, sequence: int) -> None:
        """
        See that a row is a lane's first one that waits: no other may be taken.

        Raises:
            ValueError: It is another one.
        """
        (first,) = self._connection.execute(
            "SELECT min(position) FROM rows WHERE position > ? AND position <= ?",
            (lane.base + lane.acknowledged_sequence, lane.end),
        ).fetchone()
        if first != lane.base + sequence:
            raise ValueError(
                f"row {sequence} of {lane.topic}-{lane.partition} isn't the first"
                " that waits"
            )

    def quarantine(self, lane: Lane, sequence: int, reason: str) -> None:
        """Move a row into quarantine that `check` let pass."""
        self._connection.execute(
            "INSERT INTO quarantine (topic, partition, sequence, ce_id, envelope,"
            " received_at_us, key, value, extra, checksum, reason, put_at_us)"
            " SELECT ?, ?, ?, ce_id, envelope, received_at_us, key, value, extra,"
            " checksum, ?, ? FROM rows WHERE position = ?",
            (
                lane.topic,
                lane.partition,
                sequence,
                reason,
                time.time_ns() // 1000,
                lane.base + sequence,
            ),
        )
        self.quarantined += 1
        self.drop(lane, sequence)

    def drop(self, lane: Lane, sequence: int) -> None:
        """Take a row out that `check` let pass."""
        self._lanes.secure(lane, sequence)
        rows.remove(self._connection, lane, sequence)
        self._lanes.advance(lane, sequence, sequence)
        # No run says how far this lane has come now.
        self._lanes.save(lane)
