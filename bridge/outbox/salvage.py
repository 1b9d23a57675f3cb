"""
What can still be read of a damaged file is brought into the new one.

Rows that wait for their acknowledgement, in the order of their lanes and with their
identity. They lose their place in a lane: that belonged to the file. Nothing is
written to the damaged file; SQLite may make its `-shm` anew to read it.
"""

from __future__ import annotations

import sqlite3  # noqa: TID251 - this room speaks to SQLite
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from urllib.parse import quote

import msgspec

from bridge.errors import OutboxFullError
from bridge.events.record import StoredRecord
from bridge.outbox.buffer import weigh
from bridge.outbox.disk.schema import UNASSIGNED
from bridge.outbox.opening import Opened
from bridge.outbox.rows import table as rows
from bridge.outbox.rows.counting import count_rows
from bridge.outbox.rows.envelopes import Envelopes
from bridge.outbox.rows.lane import Lane
from bridge.outbox.rows.lanes import Lanes
from bridge.outbox.webhooks.salvaging import bring_deliveries, bring_held


__all__ = ["Salvaged", "open_damaged", "salvage"]

_ROWS_A_STEP = 500
_STEP_BYTES = 2**20

# After a row that can't be read the next ones are tried one by one: a page of 8 KiB
# holds some 20 rows. Where so many fail (0.2 s), a whole branch is gone.
_TRIES = 20_000

# Under this name the new file tells how far a salvage has come.
_PROGRESS = "salvage"

Acknowledged = Callable[[str, int], int]


class _Progress(msgspec.Struct):
    """
    How far it has come: in one transaction with the rows.

    Attributes:
        file: The damaged file's name.
        lanes: The last sequence that was brought over or given up, by lane.
    """

    file: str
    lanes: dict[str, int] = msgspec.field(default_factory=dict)


class Salvaged(msgspec.Struct):
    """
    What came of it.

    Attributes:
        rows: How many rows and held webhooks were brought over.
        given_up: How many could not be read, as far as that is known.
        reason: What stopped it before the end; None if it got there.
    """

    rows: int = 0
    given_up: int = 0
    reason: str | None = None


def salvage(
    aside: Path, into: Opened, acknowledged: Acknowledged, beat: Callable[[], None]
) -> Salvaged:
    """
    Bring over what can be read of a damaged file.

    Args:
        aside: The damaged file.
        into: The new file; beside gap records it holds nothing but what was salvaged
            before.
        acknowledged: Gives the last sequence of a lane of the damaged file that is
            known to be in Kafka, beside what the file says; 0 if nothing is.
        beat: Called now and then: this may take a while.

    Returns:
        What came of it; it fails with no error of the damaged file.

    Raises:
        OutboxDamagedError: The new file is damaged as well.
    """
    salvaged = Salvaged()
    try:
        with closing(open_damaged(aside)) as source:
            _Salvage(source, aside.name, into, salvaged).run(acknowledged, beat)
    except sqlite3.Error as error:
        salvaged.reason = str(error)
    except OutboxFullError as error:
        salvaged.reason = f"the new file takes no more: {error}"
    return salvaged


def open_damaged(aside: Path) -> sqlite3.Connection:
    """
    Open a damaged file, to be read as far as it goes.

    Raises:
        sqlite3.Error: It can't be opened.
    """
    source = sqlite3.connect(
        f"file:{quote(str(aside.absolute()))}?mode=ro",
        uri=True,
        isolation_level=None,
        check_same_thread=False,
    )
    try:
        # Then a file that is too short is read as far as it goes.
        source.execute("PRAGMA writable_schema = ON")
    except BaseException:
        source.close()
        raise
    return source


class _Salvage:
    """One damaged file on its way into another one."""

    def __init__(
        self, source: sqlite3.Connection, name: str, into: Opened, salvaged: Salvaged
    ) -> None:
        self._source = source
        self._into = into
        self._salvaged = salvaged
        self._lanes = Lanes(source)
        self._envelopes = Envelopes(source)
        self._progress = self._earlier_progress(name)

    def run(self, acknowledged: Acknowledged, beat: Callable[[], None]) -> None:
        self._bring_held(beat)
        self._envelopes.load()
        try:
            self._lanes.load()
        except (sqlite3.Error, LookupError, TypeError, ValueError) as error:
            # The lanes that were read are there, if not how far each has come:
            # rows that Kafka has may come again then, with their identity.
            self._salvaged.reason = str(error)
        # A topic's rows without a partition are younger than its others.
        for lane in sorted(self._lanes, key=lambda lane: lane.partition == UNASSIGNED):
            self._bring(lane, acknowledged(lane.topic, lane.partition), beat)
        bring_deliveries(self._source, self._into, beat)
        with self._into.store.transaction():
            self._into.connection.execute(
                "DELETE FROM meta WHERE name = ?", (_PROGRESS,)
            )

    def _bring_held(self, beat: Callable[[], None]) -> None:
        try:
            brought, given_up = bring_held(self._source, self._into, beat)
        except sqlite3.Error as error:
            self._salvaged.reason = str(error)
            return
        self._salvaged.rows += brought
        self._salvaged.given_up += given_up

    def _bring(self, lane: Lane, acknowledged: int, beat: Callable[[], None]) -> None:
        last_run = lane.runs[-1].last_sequence if lane.runs else 0
        after = max(lane.acknowledged_sequence, last_run)
        after = max(after, self._progress.lanes.get(str(lane.number), 0))
        store = self._into.store
        if acknowledged > after:
            # Where they can't be counted they pass for lost in the tallies alone.
            with store.transaction(), suppress(sqlite3.Error):
                store.counting.was_delivered(
                    count_rows(
                        self._source, self._envelopes, lane, after + 1, acknowledged
                    )
                )
            after = acknowledged
        for records, last in self._read(lane, after):
            beat()
            if not self._into.room.take(sum(map(weigh, records))):
                raise OutboxFullError(self._into.room.reason)
            self._progress.lanes[str(lane.number)] = last
            with store.transaction():
                store.restore(lane.topic, records)
                self._into.connection.execute(
                    "INSERT OR REPLACE INTO meta VALUES (?, ?)",
                    (_PROGRESS, msgspec.json.encode(self._progress).decode()),
                )
            self._salvaged.rows += len(records)

    def _read(self, lane: Lane, after: int) -> Iterator[tuple[list[StoredRecord], int]]:
        """Give a lane's rows in steps, each with the last sequence that it covers."""
        count, failed = _ROWS_A_STEP, 0
        while failed < _TRIES:
            try:
                found = self._find(lane, after, count)
            except sqlite3.Error as error:
                if count == 1:
                    after, failed = after + 1, failed + 1
                count = 1
                reason = str(error)
                continue
            if not found:
                break
            self._salvaged.given_up += failed
            after = found[-1].sequence
            count, failed = _ROWS_A_STEP, 0
            yield found, after
        if failed:
            # How many there were to the end is known only if the end could be read.
            self._salvaged.given_up += max(lane.last_sequence - after + failed, 0)
        if failed == _TRIES:
            self._salvaged.reason = reason

    def _find(self, lane: Lane, after: int, count: int) -> list[StoredRecord]:
        envelopes = self._envelopes.by_number
        return rows.read(self._source, envelopes, lane, after, count, _STEP_BYTES)

    def _earlier_progress(self, name: str) -> _Progress:
        row = self._into.connection.execute(
            "SELECT value FROM meta WHERE name = ?", (_PROGRESS,)
        ).fetchone()
        if row is not None:
            progress = msgspec.json.decode(row[0], type=_Progress)
            if progress.file == name:
                return progress
        return _Progress(name)
