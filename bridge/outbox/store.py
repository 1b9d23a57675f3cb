"""
The outbox's rows: append, claim, read, acknowledge, trim.

One thread owns a `Store`. Its methods run inside `transaction`; where one is
undone, the lanes are read anew, so that memory never runs ahead of the file.
"""

from __future__ import annotations

import sqlite3  # noqa: TID251 - this room speaks to SQLite
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import msgspec

from bridge.outbox.lane import Lane, Run, Topic
from bridge.outbox.schema import UNASSIGNED
from bridge.record import Envelope, LaneState, Record, StoredRecord


__all__ = ["Placed", "Store"]

_Extra = tuple[tuple[str, bytes], ...]
_encode_extra = msgspec.msgpack.Encoder().encode
_decode_extra = msgspec.msgpack.Decoder(_Extra).decode

# Each step of a statement gives up the GIL and may wait a switch interval for
# it; so rows go in by the hundred. SQLite takes 32,766 parameters a statement.
_COLUMNS = 7
_ROWS_A_STATEMENT = (512, 128, 32, 8, 1)

# A run is trimmed by one statement: 1,000 small rows take about 1 ms.
_ROWS_A_RUN = 1000
_RUN_SPAN_US = 1_000_000

Placed = tuple[str, int, list[StoredRecord]]


class Store:
    """
    The tables of one outbox, in the terms of lanes.

    Args:
        connection: From `schema.open_database`; closed by `close`.
        incarnation: This process's random name, the first half of each `ce_id`.
    """

    def __init__(self, connection: sqlite3.Connection, incarnation: str) -> None:
        self._connection = connection
        self._prefix = f"{incarnation}-"
        self._counter = 0
        self._assignments: dict[str, Callable[[bytes | None], int]] = {}
        self._load()

    def close(self) -> None:
        """Close the file; SQLite empties its log into the database then."""
        self._connection.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """
        Commit what is done inside as one, or nothing of it.

        Raises:
            sqlite3.Error: From SQLite; everything inside is undone then.
        """
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._connection.execute("COMMIT")
        except BaseException:
            # SQLite itself rolls back on a full disk and some I/O errors.
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            self._load()
            raise

    # -- What is there --------------------------------------------------------

    @property
    def pending(self) -> int:
        """Rows that wait for their acknowledgement."""
        return sum(lane.pending for lane in self._by_number.values())

    @property
    def size_bytes(self) -> int:
        """The size of the database without its log, in bytes."""
        (pages,) = self._connection.execute("PRAGMA page_count").fetchone()
        (page_bytes,) = self._connection.execute("PRAGMA page_size").fetchone()
        return int(pages * page_bytes)

    def oldest_pending_us(self) -> int | None:
        """Return when the oldest waiting row was read, in us since the epoch."""
        oldest: int | None = None
        for lane in self._by_number.values():
            if not lane.pending:
                continue
            row = self._connection.execute(
                "SELECT received_at_us FROM rows WHERE position > ? LIMIT 1",
                (lane.base + lane.acknowledged_sequence,),
            ).fetchone()
            if row is not None and (oldest is None or row[0] < oldest):
                oldest = int(row[0])
        return oldest

    def lane_states(self) -> list[LaneState]:
        """Return the state of every lane that has a partition."""
        return [
            lane.state()
            for lane in self._by_number.values()
            if lane.partition != UNASSIGNED
        ]

    def waiting_topics(self) -> set[str]:
        """Return the topics for which rows wait, in lanes or without one."""
        return {lane.topic for lane in self._by_number.values() if lane.pending}

    # -- Into the outbox ------------------------------------------------------

    def append(self, records: Sequence[Record]) -> list[Placed]:
        """
        Write records in their order; give each its lane and sequence.

        Returns:
            The stored records of each lane, for the relay; records without a
            lane are left out: the relay gets them when they are claimed.
        """
        placed: dict[Lane, list[StoredRecord]] = {}
        parameters: list[object] = []
        counter, prefix = self._counter, self._prefix
        for record in records:
            topic = self._topics.get(record.topic) or self._add_topic(record.topic)
            lane = topic.lane_for(record.key)
            sequence = lane.last_sequence = lane.last_sequence + 1
            counter += 1
            ce_id = f"{prefix}{counter}"
            extra = record.extra
            parameters += (
                lane.base + sequence,
                ce_id,
                self._envelope_id(record.envelope),
                record.received_at_us,
                record.key,
                record.value,
                _encode_extra(extra) if extra else None,
            )
            if lane.partition != UNASSIGNED:
                stored = StoredRecord(
                    sequence,
                    ce_id,
                    record.key,
                    record.value,
                    record.received_at_us,
                    record.envelope,
                    extra,
                )
                if lane in placed:
                    placed[lane].append(stored)
                else:
                    placed[lane] = [stored]
        self._counter = counter
        self._insert(parameters)
        return [(lane.topic, lane.partition, rows) for lane, rows in placed.items()]

    def open_topic(
        self,
        topic: str,
        partition_of: Callable[[bytes | None], int],
        opened: Mapping[int, tuple[int, int]],
    ) -> None:
        """
        Let a topic's records go to lanes from now on.

        Args:
            topic: The topic's name.
            partition_of: Gives the partition of a key; every partition that it
                can give must be in `opened`.
            opened: For each partition, the last sequence of this outbox that
                the log showed (0 if none) and the log's end offset.
        """
        entry = self._topics.get(topic) or self._add_topic(topic)
        for partition, (sequence, end_offset) in opened.items():
            lane = entry.lanes.get(partition) or self._add_lane(topic, partition)
            if lane.resume_offset is None:
                lane.floor_offset = end_offset
            # The log may be ahead of a file that was put back to an older copy.
            if sequence > lane.last_sequence:
                lane.last_sequence = lane.acknowledged_sequence = sequence
                lane.floor_offset = end_offset
                lane.runs.clear()
                self._connection.execute(
                    "DELETE FROM acknowledged WHERE lane = ?", (lane.number,)
                )
            self._save_floor(lane)
        self._assignments[topic] = partition_of
        entry.partition_of = partition_of

    def claim(self, max_rows: int) -> list[tuple[str, int, int]]:
        """
        Give lanes to rows that were written before Kafka was reached.

        Returns:
            (topic, partition, last sequence) of each lane that got rows.
        """
        touched: dict[Lane, None] = {}
        for topic in self._topics.values():
            waiting = topic.unassigned
            if topic.partition_of is None or not waiting.pending:
                continue
            first = waiting.base + waiting.acknowledged_sequence
            rows = self._connection.execute(
                "SELECT position, key FROM rows WHERE position > ? AND position <= ?"
                " ORDER BY position LIMIT ?",
                (first, waiting.base + waiting.last_sequence, max_rows),
            ).fetchall()
            moves = []
            for position, key in rows:
                lane = topic.lanes[topic.partition_of(key)]
                lane.last_sequence += 1
                moves.append((lane.base + lane.last_sequence, position))
                touched[lane] = None
            self._connection.executemany(
                "UPDATE rows SET position = ? WHERE position = ?", moves
            )
            waiting.acknowledged_sequence += len(rows)
            self._save_floor(waiting)
        return [(lane.topic, lane.partition, lane.last_sequence) for lane in touched]

    # -- Out of the outbox ----------------------------------------------------

    def read(
        self, topic: str, partition: int, after: int, max_rows: int, max_bytes: int
    ) -> list[StoredRecord]:
        """
        Read a lane's rows in order.

        Args:
            topic: The lane's topic.
            partition: The lane's partition.
            after: The sequence before the first row that is wanted.
            max_rows: At most so many rows.
            max_bytes: Stop after the row that reaches so many bytes of values.
        """
        lane = self._topics[topic].lanes[partition]
        cursor = self._connection.execute(
            "SELECT position, ce_id, envelope, received_at_us, key, value, extra"
            " FROM rows WHERE position > ? AND position <= ? ORDER BY position LIMIT ?",
            (lane.base + after, lane.base + lane.last_sequence, max_rows),
        )
        rows: list[StoredRecord] = []
        size = 0
        for position, ce_id, envelope, received_at_us, key, value, extra in cursor:
            rows.append(
                StoredRecord(
                    position - lane.base,
                    ce_id,
                    key,
                    value,
                    received_at_us,
                    self._envelopes_by_id[envelope],
                    _decode_extra(extra) if extra else (),
                )
            )
            size += len(value)
            if size >= max_bytes:
                break
        cursor.close()
        return rows

    def acknowledge(
        self,
        topic: str,
        partition: int,
        run: Run,
    ) -> None:
        """
        Note that a lane's next rows stand in the log.

        Args:
            topic: The lane's topic.
            partition: The lane's partition.
            run: Which rows, where they stand and when that was known; it must
                begin after the last acknowledged row.
        """
        lane = self._topics[topic].lanes[partition]
        last = lane.runs[-1] if lane.runs else None
        lane.acknowledged_sequence = run.last_sequence
        self._kept_bytes += run.size_bytes
        if (
            last is not None
            and last.last_sequence + 1 == run.first_sequence
            and last.last_offset + 1 == run.base_offset
            and run.acknowledged_at_us - last.acknowledged_at_us < _RUN_SPAN_US
            and run.last_sequence - last.first_sequence < _ROWS_A_RUN
        ):
            last.last_sequence = run.last_sequence
            last.size_bytes += run.size_bytes
            run = last
        else:
            lane.runs.append(run)
        self._connection.execute(
            "INSERT OR REPLACE INTO acknowledged VALUES (?, ?, ?, ?, ?, ?)",
            (lane.number, *msgspec.structs.astuple(run)),
        )

    def trim(self, *, older_than_us: int, keep_bytes: int, max_rows: int) -> int:
        """
        Delete acknowledged rows that are old or too many, oldest first.

        Args:
            older_than_us: Runs acknowledged before go.
            keep_bytes: So many bytes of younger ones may stay.
            max_rows: Stop after about so many rows; the rest goes next time.

        Returns:
            How many rows went.
        """
        gone = 0
        while gone < max_rows:
            lane = min(
                (lane for lane in self._by_number.values() if lane.runs),
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
            gone += run.last_sequence - run.first_sequence + 1
            self._drop_run(lane, lane.runs.popleft())
        return gone

    # -- Inside ---------------------------------------------------------------

    def _drop_run(self, lane: Lane, run: Run) -> None:
        self._connection.execute(
            "DELETE FROM rows WHERE position BETWEEN ? AND ?",
            (lane.base + run.first_sequence, lane.base + run.last_sequence),
        )
        self._connection.execute(
            "DELETE FROM acknowledged WHERE lane = ? AND first_sequence = ?",
            (lane.number, run.first_sequence),
        )
        self._kept_bytes -= run.size_bytes
        lane.floor_offset = run.last_offset
        self._connection.execute(
            "UPDATE lanes SET floor_sequence = ?, floor_offset = ? WHERE id = ?",
            (run.last_sequence, run.last_offset, lane.number),
        )

    def _insert(self, parameters: list[object]) -> None:
        start, left = 0, len(parameters) // _COLUMNS
        for size in _ROWS_A_STATEMENT:
            while left >= size:
                end = start + size * _COLUMNS
                self._connection.execute(_INSERTS[size], parameters[start:end])
                start, left = end, left - size

    def _save_floor(self, lane: Lane) -> None:
        self._connection.execute(
            "UPDATE lanes SET floor_sequence = ?, floor_offset = ? WHERE id = ?",
            (lane.acknowledged_sequence, lane.floor_offset, lane.number),
        )

    def _envelope_id(self, envelope: Envelope) -> int:
        # The envelopes of a process are few objects that live as long as it
        # does: identity finds them faster than their text.
        number = self._envelope_ids.get(id(envelope))
        if number is None:
            number = self._add_envelope(envelope)
        return number

    def _add_envelope(self, envelope: Envelope) -> int:
        known = {value: number for number, value in self._envelopes_by_id.items()}
        number = known.get(envelope) or len(known) + 1
        if envelope not in known:
            self._connection.execute(
                "INSERT INTO envelopes VALUES (?, ?, ?, ?, ?)",
                (number, *msgspec.structs.astuple(envelope)),
            )
            self._envelopes_by_id[number] = envelope
        self._envelope_ids[id(envelope)] = number
        self._envelopes_alive.append(envelope)
        return number

    def _add_topic(self, name: str) -> Topic:
        self._add_lane(name, UNASSIGNED)
        return self._topics[name]

    def _add_lane(self, topic: str, partition: int) -> Lane:
        cursor = self._connection.execute(
            "INSERT INTO lanes (topic, partition) VALUES (?, ?)", (topic, partition)
        )
        assert cursor.lastrowid is not None
        return self._keep_lane(Lane(cursor.lastrowid, topic, partition, 0, None))

    def _keep_lane(self, lane: Lane) -> Lane:
        self._by_number[lane.number] = lane
        if lane.partition == UNASSIGNED:
            entry = self._topics[lane.topic] = Topic(lane)
            entry.partition_of = self._assignments.get(lane.topic)
        else:
            self._topics[lane.topic].lanes[lane.partition] = lane
        return lane

    def _load(self) -> None:
        """Read lanes and envelopes from the file."""
        self._topics: dict[str, Topic] = {}
        self._by_number: dict[int, Lane] = {}
        self._kept_bytes = 0
        self._envelope_ids: dict[int, int] = {}
        self._envelopes_alive: list[Envelope] = []
        self._envelopes_by_id: dict[int, Envelope] = {
            number: Envelope(*rest)
            for number, *rest in self._connection.execute("SELECT * FROM envelopes")
        }
        # A topic's lane for unassigned records is made before its others.
        for values in self._connection.execute(
            "SELECT id, topic, partition, floor_sequence, floor_offset"
            " FROM lanes ORDER BY id"
        ):
            self._keep_lane(Lane(*values))
        for number, *values in self._connection.execute(
            "SELECT * FROM acknowledged ORDER BY lane, first_sequence"
        ):
            run = Run(*values)
            lane = self._by_number[number]
            lane.runs.append(run)
            lane.acknowledged_sequence = run.last_sequence
            self._kept_bytes += run.size_bytes
        for lane in self._by_number.values():
            (last,) = self._connection.execute(
                "SELECT max(position) FROM rows WHERE position BETWEEN ? AND ?",
                (lane.base, lane.base | ((1 << 40) - 1)),
            ).fetchone()
            seen = 0 if last is None else last - lane.base
            lane.last_sequence = max(lane.acknowledged_sequence, seen)


_PLACES = f"({','.join('?' * _COLUMNS)})"
_INSERTS = {
    size: "INSERT INTO rows VALUES " + ",".join([_PLACES] * size)  # noqa: S608 - only marks
    for size in _ROWS_A_STATEMENT
}
