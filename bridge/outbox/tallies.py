"""
What became of records and rows, by their kind and origin, so that it adds up.

Each transaction's news are added as a whole, and read as a whole: whenever somebody
looks, what came is what went and what is left. What happens to rows is found out in
`counting`; a file that is replaced takes nothing of this with it.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping

import msgspec


__all__ = ["Cell", "News", "Tallies", "Tally"]

# A `Kind` and an `Origin`.
Cell = tuple[str, str]


class Tally(msgspec.Struct):
    """
    Counts of one kind and origin since the start; all but `waiting` only grow.

    `committed + found + resent` is what came to be a row, and is always
    `published + dead_lettered + quarantined + lost + superseded + waiting`. A webhook
    that is held counts as a row that waits.

    Attributes:
        dropped: Records that were given up before they were rows.
        committed: Rows of what this process has read.
        found: Rows that were there before. They are counted when it is seen what they
            are: as they leave, or get their lane.
        resent: Rows that a log had and lost, so that they wait again, and are counted
            again where they go to.
        published: Rows that Kafka acknowledged or turned out to have, on their topic.
        dead_lettered: The same of dead letters.
        quarantined: Rows that were put aside, since no topic takes them.
        lost: Rows that could not be read of a damaged file.
        superseded: Records that were not needed, since the job's own event was there
            first; repeated webhooks are among them.
        waiting: Rows that are there, without those that are still to be found.
    """

    dropped: int = 0
    committed: int = 0
    found: int = 0
    resent: int = 0
    published: int = 0
    dead_lettered: int = 0
    quarantined: int = 0
    lost: int = 0
    superseded: int = 0
    waiting: int = 0


class News(Tally):
    """
    What one transaction adds to a tally.

    Attributes:
        salvaged: Rows that were brought over from a damaged file, or that were seen
            there and need not be. They are no longer adrift; of more than were adrift
            it turns out that they were found.
    """

    salvaged: int = 0


class Tallies:
    """
    The tallies of one process; any thread may read them.

    One call of `read` gives one moment, in which every tally adds up as it says. Each
    event that an `Intake` has counted for an origin is offered at once as a record of
    the kind `event` and, with a preview on a topic of its own, one of the kind
    `preview`. What heals is offered by `heal` or `take`, and counts as dropped if the
    outbox doesn't take it. What is read of an intake and here without waiting in
    between therefore adds up too, if it is done in the thread of the intake:

        offered = committed + dropped + what the buffer holds

    of each kind and origin, over all intakes of that origin: `offered` is
    `accepted` and `dead_letters` for events, `previews` and `preview_dead_letters`
    for previews. A late event counts as dead-lettered, under its own origin. The
    buffer isn't counted by origin: nothing lies there when `Outbox.drained` says so.
    Gap records are of the kind `gap`; no intake offers them.

    `OutboxStatistics.rows` and `held` are all that is there. What was there at the
    start and isn't found yet is in no tally: as many as both are more than all
    `waiting` together, and as `rows_at_start` and `held_at_start` are more than all
    `found`. They are set right after a commit, and may be one commit older than what is
    read here.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._tallies: dict[Cell, Tally] = {}
        # What waited in a damaged file until it is known what could be read of it.
        self._adrift: dict[Cell, int] = {}

    def read(self) -> dict[Cell, Tally]:
        """Give a copy, of one moment; what is adrift counts as waiting."""
        with self._lock:
            copies = {
                cell: msgspec.structs.replace(tally)
                for cell, tally in self._tallies.items()
            }
            for cell, count in self._adrift.items():
                copies[cell].waiting += count
            return copies

    def add(self, news: Mapping[Cell, News]) -> None:
        """Add what a transaction brought, once it holds."""
        with self._lock:
            for cell, told in news.items():
                tally = self._of(cell)
                # Written out, since this is done for each transaction.
                tally.committed += told.committed
                tally.found += told.found
                tally.resent += told.resent
                tally.published += told.published
                tally.dead_lettered += told.dead_lettered
                tally.quarantined += told.quarantined
                tally.superseded += told.superseded
                tally.waiting += told.waiting
                if told.salvaged:
                    known = min(told.salvaged, self._adrift.get(cell, 0))
                    if known:
                        self._adrift[cell] -= known
                    tally.found += told.salvaged - known

    def drop(self, records: Mapping[Cell, int]) -> None:
        """Count records that were given up before they were rows."""
        with self._lock:
            for cell, count in records.items():
                self._of(cell).dropped += count

    def set_adrift(self) -> None:
        """Note that the file is damaged in which all that waits is."""
        with self._lock:
            for cell, tally in self._tallies.items():
                self._adrift[cell] = self._adrift.get(cell, 0) + tally.waiting
                tally.waiting = 0

    def give_up_adrift(self) -> None:
        """Note that nothing more can be read of it."""
        with self._lock:
            for cell, count in self._adrift.items():
                self._tallies[cell].lost += count
            self._adrift.clear()

    def _of(self, cell: Cell) -> Tally:
        tally = self._tallies.get(cell)
        if tally is None:
            tally = self._tallies[cell] = Tally()
        return tally
