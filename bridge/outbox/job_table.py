"""
How the jobs in flight outlive the process: a table that is written behind.

The rows are the log. Each lane has a mark up to which the table knows its rows; at
the opening those above the marks are read once more. So an event costs nothing here,
and a job that begins and ends between two writings never touches the disk. Nothing
above a mark may be moved or deleted: `Lanes.secure` has all noted before.
"""

from __future__ import annotations

import sqlite3  # noqa: TID251 - this room speaks to SQLite
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from heapq import merge
from itertools import chain, islice

from bridge import job_status
from bridge.errors import InvalidEventError
from bridge.kafka import header_names
from bridge.outbox.envelopes import Envelopes
from bridge.outbox.jobs import Jobs
from bridge.outbox.lane import Lane
from bridge.outbox.lanes import Lanes
from bridge.outbox.remembered import Remembered
from bridge.outbox.schema import UNASSIGNED
from bridge.outbox.statements import ManyRows
from bridge.record import Record


__all__ = ["JobTable"]

# What a crash leaves to be read again: at 2,000 events a second 10,000 rows, 0.1 s.
# A writing may take a twentieth of the time: 50,000 jobs take some 0.1 s.
_INTERVAL_SECONDS = 5.0
_SHARE = 20

_ROWS_A_STEP = 1000

_upsert = ManyRows("INSERT OR REPLACE INTO jobs VALUES", columns=6).run
_delete = ManyRows("DELETE FROM jobs WHERE id IN (VALUES", columns=1, tail=")").run


class JobTable:
    """
    The table of jobs and the marks of the lanes.

    Args:
        connection: The outbox's file.
        lanes: Its lanes.
        envelopes: Its envelopes.
        jobs: The truth.
        remembered: Keeps when each account was heard last.

    Attributes:
        is_waived: Whether rows may go that are not noted: where a disk is so full that
            they can't be, it is worse that nothing moves any more. Should the process
            be killed then, jobs whose last events went may be in flight that aren't.
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        lanes: Lanes,
        envelopes: Envelopes,
        jobs: Jobs,
        remembered: Remembered,
    ) -> None:
        self._connection = connection
        self._lanes = lanes
        self._envelopes = envelopes
        self._jobs = jobs
        self._remembered = remembered
        # Rows of this transaction: in memory once it is committed.
        self._appended: list[Sequence[Record]] = []
        self._last_place = 0
        self._is_written = False
        self._is_behind = True
        self._due_at = 0.0
        self.is_waived = False
        lanes.note_down = self._note_down

    # -- At the opening -------------------------------------------------------

    def load(self) -> None:
        """
        Learn the jobs from the file: the table first, then what is above the marks.

        Raises:
            sqlite3.Error: The table can't be read. A row that can't be read is passed
                over with those behind it: whoever needs it will find the damage.
        """
        self._read_table()
        # A topic's rows without a lane are younger than its others.
        for waits in (False, True):
            lanes = [
                lane for lane in self._lanes if (lane.partition == UNASSIGNED) is waits
            ]
            # Within a lane the order is exact; between lanes only a job matters whose
            # partition has just been changed.
            events = merge(*map(self._above_mark, lanes), key=_received_at)
            while batch := list(islice(events, _ROWS_A_STEP)):
                self._jobs.note(batch)

    def take_over(self) -> None:
        """Write all that is in memory into this file; belongs into a transaction."""
        self._connection.execute("DELETE FROM jobs")
        for account in self._jobs.accounts.values():
            account.places.clear()
            account.changed.update(account.jobs)
        self.write()

    def _read_table(self) -> None:
        rows = self._connection.execute(
            "SELECT id, ce_source, key, status, progress, last_seen_us FROM jobs"
            " ORDER BY last_seen_us, id"
        )
        for place, ce_source, key, *heard in rows:
            account = self._jobs.account(ce_source)
            account.places[key] = place
            self._last_place = max(self._last_place, place)
            self._jobs.restore(account, key, tuple(heard))

    def _above_mark(self, lane: Lane) -> Iterator[Record]:
        """Give the rows of a lane that tell of jobs and aren't noted."""
        if lane.last_sequence <= lane.noted_sequence:
            return
        envelopes = self._envelopes.by_number
        with suppress(sqlite3.Error):
            for number, received_at_us, key, value in self._connection.execute(
                "SELECT envelope, received_at_us, key, value FROM rows"
                " WHERE position > ? AND position <= ? ORDER BY position",
                (lane.base + lane.noted_sequence, lane.end),
            ):
                envelope = envelopes.get(number)
                if envelope is None or envelope.ce_type != header_names.JOB_STATUS_TYPE:
                    continue
                # One that isn't what was written is found by who sends it.
                with suppress(InvalidEventError, UnicodeDecodeError):
                    status = job_status.parse(value.decode(), len(value))
                    yield Record(
                        lane.topic,
                        key,
                        b"",
                        received_at_us,
                        envelope,
                        status=status.status,
                        progress=status.progress,
                    )

    # -- In a transaction -----------------------------------------------------

    def write_if_due(self) -> None:
        """Write the table now and then; belongs before what is appended."""
        if self._is_behind and time.monotonic() >= self._due_at:
            self._note_down()

    def write(self) -> None:
        """
        Write what has changed, and move the marks; belongs before what is appended.

        Should the transaction be undone, all of it is still to be written.
        """
        assert not any(
            record.status for record in chain.from_iterable(self._appended)
        ), "jobs are noted before rows are appended"
        began = time.monotonic()
        written: list[object] = []
        gone: list[int] = []
        for ce_source, account in self._jobs.accounts.items():
            for key in account.changed:
                heard = account.jobs.get(key)
                place = account.places.get(key)
                if heard is not None:
                    if place is None:
                        # Nobody takes a place again, written or not.
                        place = self._last_place = self._last_place + 1
                        account.places[key] = place
                    written += (place, ce_source, key, *heard)
                elif place is not None:
                    gone.append(place)
        _upsert(self._connection, written)
        _delete(self._connection, gone)
        self._remembered.raise_to(self._jobs.heard_us())
        for lane in self._lanes:
            if lane.noted_sequence != lane.last_sequence:
                lane.noted_sequence = lane.last_sequence
                self._lanes.save(lane)
        self._is_written = True
        now = time.monotonic()
        self._due_at = now + max(_INTERVAL_SECONDS, _SHARE * (now - began))

    def appended(self, records: Sequence[Record]) -> None:
        """Learn what this transaction appends."""
        self._appended.append(records)

    def committed(self) -> None:
        """Learn that the transaction holds."""
        if self._is_written:
            self._is_written = self._is_behind = False
            for account in self._jobs.accounts.values():
                for key in account.changed:
                    if key not in account.jobs:
                        account.places.pop(key, None)
                account.changed.clear()
        if self._appended:
            self._is_behind = True
            for records in self._appended:
                self._jobs.note(records)
            self._appended.clear()

    def rolled_back(self) -> None:
        """Learn that the transaction was undone."""
        if self._is_written:
            # Not at each try: other things may still find room where this doesn't.
            self._due_at = time.monotonic() + _INTERVAL_SECONDS
        self._is_written = False
        self._appended.clear()

    def _note_down(self) -> None:
        if not self.is_waived:
            self.write()


def _received_at(record: Record) -> int:
    return record.received_at_us
