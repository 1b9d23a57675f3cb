"""
How the jobs in flight outlive the process: a table that is written behind.

The rows are the log. Each lane has a mark up to which the table knows its rows; at
the opening those above the marks are read once more. So an event costs nothing here,
and of a job that begins and ends between two writings only its end touches the disk.
Nothing above a mark may be moved or deleted: `Lanes.secure` has all noted before.
"""

from __future__ import annotations

import sqlite3  # noqa: TID251 - this room speaks to SQLite
import time
from collections.abc import Sequence
from itertools import chain, islice
from math import inf

import msgspec

from bridge.events.record import Record
from bridge.outbox.disk.statements import ManyRows
from bridge.outbox.jobs.ended_table import EndedTable
from bridge.outbox.jobs.in_flight import Account
from bridge.outbox.jobs.order import Order
from bridge.outbox.jobs.reading import events_not_noted, jobs_written
from bridge.outbox.rows.envelopes import Envelopes
from bridge.outbox.rows.lanes import Lanes


__all__ = ["JobTable"]

# What a crash leaves to be read again: at 2,000 events a second 10,000 rows, 0.1 s.
_INTERVAL_SECONDS = 5.0

# Jobs of one transaction, some 5 ms of work. So acknowledgements and requests don't
# wait until 50,000 of them are written.
_JOBS_A_COMMIT = 1000

# About what a job takes, with a UUID as key and a `ce_source` of 50 characters.
_JOB_BYTES = 150

_ROWS_A_STEP = 1000

_upsert = ManyRows(
    "INSERT OR REPLACE INTO jobs"
    " (id, ce_source, key, status, progress, last_seen_us, fingerprint) VALUES",
    columns=7,
).run
_delete = ManyRows("DELETE FROM jobs WHERE id IN (VALUES", columns=1, tail=")").run


_Job = tuple[Account, bytes]


class _Writing(msgspec.Struct):
    """
    Some jobs on their way into the table.

    Attributes:
        jobs: Those that are still to be written, the last one first.
        marks: Up to where lanes are noted when that is done, by their number.
    """

    jobs: list[_Job]
    marks: dict[int, int]


class JobTable:
    """
    The table of jobs and the marks of the lanes.

    Args:
        connection: The outbox's file.
        lanes: Its lanes.
        envelopes: Its envelopes.
        order: Who judges what is appended, and knows the truth.

    Attributes:
        ended: The table beside it, of jobs that have ended.
        written_bytes: About how much the last transaction wrote or deleted.
        is_waived: Whether rows may go that are not noted: where a disk is so full that
            they can't be, it is worse that nothing moves any more. Should the process
            be killed then, jobs whose last events went may be in flight that aren't.
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        lanes: Lanes,
        envelopes: Envelopes,
        order: Order,
    ) -> None:
        self._connection = connection
        self._lanes = lanes
        self._envelopes = envelopes
        self._order = order
        self._jobs = order.jobs
        self.ended = EndedTable(connection, order.jobs.ended)
        # Whether this transaction has appended rows.
        self._has_appended = False
        self._last_place = 0
        # What is written in steps, and what this transaction does of it.
        self._writing: _Writing | None = None
        self._step: list[_Job] | None = None
        # Whether this transaction writes all there is.
        self._is_whole = False
        # Whether rows were appended since a writing began.
        self._is_behind = True
        self._due_at = 0.0
        self.written_bytes = 0
        self.is_waived = False
        lanes.note_down = self._note_down

    # -- At the opening -------------------------------------------------------

    def load(self) -> None:
        """
        Learn the jobs from the file: the table first, then what is above the marks.

        Those that have ended must be known by then, see `ended`.

        Raises:
            sqlite3.Error: The table can't be read, or has changed since it was written.
        """
        self.load_table()
        self.load_rows()

    def load_table(self) -> None:
        """
        Learn what the table says.

        Raises:
            sqlite3.Error: As `load`; what could be read is known then.
        """
        changed = 0
        for job in jobs_written(self._connection):
            if job is None:
                changed += 1
                continue
            self._last_place = max(self._last_place, job.place)
            self._jobs.restore(
                self._jobs.account(job.ce_source),
                job.key,
                job.place,
                (job.status, job.progress, job.last_seen_us, job.fingerprint),
            )
        if changed:
            raise sqlite3.DatabaseError(
                f"{changed} rows of jobs in flight have changed since they were written"
            )

    def load_rows(self) -> None:
        """Learn what rows above the marks tell, as far as they can be read."""
        events = events_not_noted(self._connection, self._lanes, self._envelopes)
        # One by one: their values may be large.
        for first in events:
            self._order.learn(chain([first], islice(events, _ROWS_A_STEP)))

    def take_over(self) -> None:
        """Write all that is in memory into this file; belongs into a transaction."""
        self._connection.execute("DELETE FROM jobs")
        for account in self._jobs.accounts.values():
            account.places.clear()
            account.changed.update(account.jobs)
        self.ended.take_over()
        self.write()

    # -- In a transaction -----------------------------------------------------

    def begin(self, *, is_last_resort: bool) -> None:
        """Learn that a transaction begins; for the last resort see `is_waived`."""
        self.is_waived = is_last_resort
        self.written_bytes = 0

    def write_if_due(self) -> None:
        """
        Write a part of what has changed, now and then; belongs before `append`.

        A job is written as it is now. Only when all are that had changed in the
        beginning do the marks move to where they were then: until that is so, rows
        above the old marks tell everything once more.
        """
        if self.has_more and time.monotonic() >= self._due_at:
            self.write_part()

    @property
    def has_more(self) -> bool:
        """Whether anything was appended that isn't noted."""
        return self._is_behind or self._writing is not None

    def write_part(self) -> None:
        """Write as `write_if_due` does, due or not."""
        writing = self._writing
        if writing is None:
            writing = self._writing = _Writing(self._take_changed(), self._marks())
            self._is_behind = False
        self._write(writing.jobs[-_JOBS_A_COMMIT:])
        if len(writing.jobs) <= _JOBS_A_COMMIT:
            self._mark(writing.marks)

    def write(self) -> None:
        """
        Write all that has changed, and move the marks; belongs before `append`.

        Should the transaction be undone, all of it is still to be written.
        """
        assert self._order.is_idle, "jobs are noted before rows are appended"
        if self._writing is not None:
            self._dissolve(self._writing)
        jobs = self._take_changed()
        self._writing = _Writing(jobs, self._marks())
        self._is_whole = True
        self._write(jobs)
        self._mark(self._writing.marks)

    def _take_changed(self) -> list[_Job]:
        """Give all changed jobs, those side by side in the file at the end."""
        jobs = [
            (account, key)
            for account in self._jobs.accounts.values()
            for key in account.changed
        ]
        for account in self._jobs.accounts.values():
            account.changed.clear()
        jobs.sort(key=_place, reverse=True)
        return jobs

    def _write(self, jobs: list[_Job]) -> None:
        written: list[object] = []
        gone: list[int] = []
        for account, key in jobs:
            heard, place = account.jobs.get(key), account.places.get(key)
            if heard is not None:
                if place is None:
                    # Nobody takes a place again, written or not.
                    place = self._last_place = self._last_place + 1
                    account.places[key] = place
                written += (place, account.ce_source, key, *heard)
            elif place is not None:
                gone.append(place)
        _upsert(self._connection, written)
        _delete(self._connection, gone)
        self._step = jobs
        self.written_bytes += _JOB_BYTES * len(jobs) + self.ended.write()

    def _marks(self) -> dict[int, int]:
        return {lane.number: lane.last_sequence for lane in self._lanes}

    def _mark(self, marks: dict[int, int]) -> None:
        for lane in self._lanes:
            mark = marks.get(lane.number, 0)
            # It was too high where somebody deleted the last rows.
            if mark > lane.noted_sequence or (
                self._is_whole and mark != lane.noted_sequence
            ):
                lane.noted_sequence = mark
                self._lanes.save(lane)

    def judge(self, records: Sequence[Record]) -> tuple[Sequence[Record], list[int]]:
        """Judge what this transaction is about to append: see `Order.judge`."""
        self._has_appended = True
        return self._order.judge(records)

    def committed(self) -> None:
        """Learn that the transaction holds."""
        if self._writing is not None and self._step is not None:
            for account, key in self._step:
                if key not in account.jobs:
                    account.places.pop(key, None)
            del self._writing.jobs[len(self._writing.jobs) - len(self._step) :]
            if not self._writing.jobs:
                self._writing = None
                self._is_behind &= not self._is_whole
                self._due_at = time.monotonic() + _INTERVAL_SECONDS
            self._step, self._is_whole = None, False
        # Before what this transaction appends is known: it isn't written.
        self.ended.committed()
        self._is_behind |= self._has_appended
        self._has_appended = False
        self._order.committed()

    def rolled_back(self) -> None:
        """Learn that the transaction was undone."""
        self._has_appended = False
        self._order.rolled_back()
        self.ended.rolled_back()
        if self._writing is not None:
            # Its marks may be those of rows that never were.
            self._dissolve(self._writing)
        if self._step is not None:
            # Not at each try: other things may find room where this doesn't.
            self._due_at = time.monotonic() + _INTERVAL_SECONDS
        self._step, self._is_whole = None, False

    def _dissolve(self, writing: _Writing) -> None:
        for account, key in writing.jobs:
            account.changed.add(key)
        self._writing, self._is_behind = None, True

    def _note_down(self) -> None:
        if not self.is_waived:
            self.write()


def _place(job: _Job) -> float:
    account, key = job
    return account.places.get(key, inf)
