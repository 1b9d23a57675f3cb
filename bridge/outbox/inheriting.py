"""
What a file that was set aside remembers is brought into the new one.

Before any of its rows, and at once, since whoever starts asks for it: jobs in flight
and jobs that have ended, proofs, open gaps and how its last process ended. As far as
it can be read: a job whose last events can't be read stays in flight until
`outbox.keep_jobs_seconds`, one whose events can't be read at all isn't known; without
proofs nothing is known of the time before, and the next gap has no beginning.
"""

from __future__ import annotations

import sqlite3  # noqa: TID251 - this room speaks to SQLite
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path

from bridge.outbox.jobs.pins import Pins
from bridge.outbox.jobs.table import JobTable
from bridge.outbox.opening import Opened
from bridge.outbox.remembered import Remembered
from bridge.outbox.rows.envelopes import Envelopes
from bridge.outbox.rows.lanes import Lanes
from bridge.outbox.salvage import open_damaged


__all__ = ["inherit", "is_inherited", "take_over"]

# Under this name a file tells whose memory it has.
_HEIR = "heir_of"


def is_inherited(aside: Path, heir: Opened) -> bool:
    """Whether a file has the memory of one that was set aside, or of a later one."""
    row = heir.connection.execute(
        "SELECT value FROM meta WHERE name = ?", (_HEIR,)
    ).fetchone()
    # The names tell when they were set aside.
    return row is not None and str(row[0]) >= aside.name


def inherit(aside: Path, heir: Opened) -> None:
    """
    Bring over what can be read.

    Args:
        aside: The damaged file; it fails with no error of this one.
        heir: The new file.

    Raises:
        OutboxFullError: The new file doesn't take it.
        OutboxDamagedError: The new file is damaged as well.
    """
    with suppress(sqlite3.Error), closing(open_damaged(aside)) as source:
        remembered = Remembered(source)
        lanes, envelopes = Lanes(source), Envelopes(source)
        table = JobTable(source, lanes, envelopes, heir.store.order)
        pins = Pins(source, lanes)
        for one in (remembered, envelopes, lanes, pins, table.ended):
            _as_far_as_it_goes(one.load)
        _as_far_as_it_goes(table.load_table)
        _as_far_as_it_goes(table.load_rows)
        take_over(aside, remembered, pins, heir)


def take_over(aside: Path, remembered: Remembered, pins: Pins, heir: Opened) -> None:
    """
    Write what is remembered into a new file; jobs are those in memory.

    Raises:
        OutboxFullError: The new file doesn't take it.
        OutboxDamagedError: The new file is damaged as well.
    """
    with heir.store.transaction():
        heir.store.remembered.take_over(remembered)
        heir.store.job_table.take_over()
        heir.store.pins.take_over(pins)
        heir.connection.execute(
            "INSERT OR REPLACE INTO meta VALUES (?, ?)", (_HEIR, aside.name)
        )


def _as_far_as_it_goes(load: Callable[[], None]) -> None:
    # A damaged page may hold values of any kind.
    with suppress(sqlite3.Error, LookupError, TypeError, ValueError):
        load()
