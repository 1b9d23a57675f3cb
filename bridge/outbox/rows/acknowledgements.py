"""
Rows that Kafka has: how they are remembered, and when they go.

They stay for a while, because a log can lose its tail; until then each one's
offset can be told from its run.
"""

from __future__ import annotations

import sqlite3  # noqa: TID251 - this room speaks to SQLite

import msgspec

from bridge.outbox.disk.schema import SEQUENCE_BITS
from bridge.outbox.records import Delivered
from bridge.outbox.rows.lane import Lane, Run
from bridge.outbox.rows.lanes import Lanes


__all__ = ["Acknowledgements"]

# A run is trimmed by one statement: 1,000 small rows take about 1 ms.
_ROWS_A_RUN = 1000
_RUN_SPAN_US = 1_000_000

# Where each acknowledgement is a run of its own (offsets with holes between
# them), a run costs about 30 us to trim: no more than 5 ms at a time.
_RUNS_A_TRIM = 150

# What a row takes beside its key and value.
_ROW_BYTES = 100

# Rows of the runs in their order, from the run on in which `after` lies.
_DELIVERED = f"""
SELECT position - (lane << {SEQUENCE_BITS}), ce_id,
       base_offset + position - (lane << {SEQUENCE_BITS}) - first_sequence
FROM acknowledged CROSS JOIN rows
WHERE lane = ?1 AND base_offset >= 0
  AND first_sequence >= coalesce(
      (SELECT max(first_sequence) FROM acknowledged
       WHERE lane = ?1 AND first_sequence <= ?2), 0)
  AND position BETWEEN (lane << {SEQUENCE_BITS}) + max(first_sequence, ?2 + 1)
                   AND (lane << {SEQUENCE_BITS}) + last_sequence
ORDER BY first_sequence, position
LIMIT ?3
"""  # noqa: S608 - one number of ours


class Acknowledgements:
    """
    The runs of acknowledged rows that are still kept.

    Args:
        connection: The outbox's file.
        lanes: Its lanes.
    """

    def __init__(self, connection: sqlite3.Connection, lanes: Lanes) -> None:
        self._connection = connection
        self._lanes = lanes
        self._kept_bytes = 0

    def load(self) -> None:
        """Count what the lanes keep, after they were read."""
        self._kept_bytes = sum(
            run.size_bytes for lane in self._lanes for run in lane.runs
        )

    def note(self, lane: Lane, run: Run) -> None:
        """Note that a lane's next rows stand in the log."""
        self._lanes.advance(lane, run.first_sequence, run.last_sequence)
        self._kept_bytes += run.size_bytes
        if lane.floor_offset is not None and run.base_offset < lane.floor_offset:
            # The log was cut below the end that it had when the lane was opened.
            lane.floor_offset = run.base_offset
            self._lanes.save(lane)
        last = lane.runs[-1] if lane.runs else None
        if (
            last is not None
            and last.last_sequence + 1 == run.first_sequence
            and last.last_offset + 1 == run.base_offset
            and run.acknowledged_at_us - last.acknowledged_at_us < _RUN_SPAN_US
            and run.last_sequence - last.first_sequence < _ROWS_A_RUN
        ):
            run = Run(
                last.first_sequence,
                run.last_sequence,
                last.base_offset,
                last.acknowledged_at_us,
                last.size_bytes + run.size_bytes,
            )
            lane.runs[-1] = run
        else:
            lane.runs.append(run)
        self._write(lane, run)

    def delivered(self, lane: Lane, after: int, max_rows: int) -> list[Delivered]:
        """Read acknowledged rows that are kept: see `Store.delivered`."""
        cursor = self._connection.execute(_DELIVERED, (lane.number, after, max_rows))
        return [Delivered(*values) for values in cursor]

    def rewind(
        self, lane: Lane, sequence: int, resume_offset: int, resent: int = 0
    ) -> int:
        """Let acknowledged rows wait again: see `Store.rewind`."""
        until = lane.acknowledged_sequence
        if not 0 <= sequence <= until:
            raise ValueError(
                f"{lane.topic}-{lane.partition} can't be rewound from {until} to"
                f" {sequence}"
            )
        runs = lane.runs
        while (last := lane.last_run) and last.last_sequence > sequence:
            runs.pop()
            self._kept_bytes -= last.size_bytes
            if last.first_sequence <= sequence:
                head, _ = last.split(sequence - last.first_sequence + 1)
                runs.append(head)
                self._kept_bytes += head.size_bytes
                self._write(lane, head)
        if runs:
            # What stood in a log that is gone counts as delivered for good.
            sequence = max(sequence, runs[-1].last_sequence)
        self._connection.execute(
            "DELETE FROM acknowledged WHERE lane = ? AND first_sequence > ?",
            (lane.number, sequence),
        )
        waiting = self._count(lane, sequence, until)
        lane.acknowledged_sequence = sequence
        # Trimmed rows can't come again, nor those that the broker refused.
        lane.skipped += until - sequence - waiting
        lane.floor_offset = resume_offset
        lane.resent_sequence = max(lane.resent_sequence, until, resent)
        self._lanes.settle(lane)
        self._lanes.save(lane)
        return waiting + self._count(lane, until, resent)

    def _count(self, lane: Lane, after: int, until: int) -> int:
        (count,) = self._connection.execute(
            "SELECT count(*) FROM rows WHERE position > ? AND position <= ?",
            (lane.base + after, lane.base + until),
        ).fetchone()
        return int(count)

    def trim(
        self, *, older_than_us: int, keep_bytes: int, max_rows: int, max_bytes: int
    ) -> int:
        """
        Delete acknowledged rows that are old or too many, oldest first.

        Args:
            older_than_us: Runs acknowledged before go.
            keep_bytes: So many bytes of younger ones may stay.
            max_rows: At most so many rows; the rest goes next time.
            max_bytes: About so many bytes, and one row at least: SQLite writes
                into its log most of the pages that it frees.

        Returns:
            How many rows went.
        """
        rows = size = 0
        for _ in range(_RUNS_A_TRIM):
            lane = min(
                (lane for lane in self._lanes if lane.runs),
                key=lambda lane: lane.runs[0].acknowledged_at_us,
                default=None,
            )
            if lane is None:
                break
            run = lane.runs[0]
            if (
                run.acknowledged_at_us >= older_than_us
                and self._kept_bytes <= keep_bytes
            ):
                break
            row_bytes = run.size_bytes // run.count + _ROW_BYTES
            count = min(max_rows - rows, (max_bytes - size) // row_bytes)
            if count <= 0 < rows:
                break
            gone = self._drop_oldest(lane, max(count, 1))
            rows += gone
            size += gone * row_bytes
        return rows

    def _drop_oldest(self, lane: Lane, count: int) -> int:
        run, rest = lane.runs.popleft().split(count)
        self._lanes.secure(lane, run.last_sequence)
        self._connection.execute(
            "DELETE FROM rows WHERE position BETWEEN ? AND ?",
            (lane.base + run.first_sequence, lane.base + run.last_sequence),
        )
        self._connection.execute(
            "DELETE FROM acknowledged WHERE lane = ? AND first_sequence = ?",
            (lane.number, run.first_sequence),
        )
        if rest is not None:
            lane.runs.appendleft(rest)
            self._write(lane, rest)
        self._kept_bytes -= run.size_bytes
        if not run.is_gone:
            lane.floor_offset = max(lane.floor_offset or 0, run.last_offset)
        # Without this run the table of lanes alone says how far it has come.
        self._lanes.save(lane)
        return run.count

    def _write(self, lane: Lane, run: Run) -> None:
        self._connection.execute(
            "INSERT OR REPLACE INTO acknowledged VALUES (?, ?, ?, ?, ?, ?)",
            (lane.number, *msgspec.structs.astuple(run)),
        )
