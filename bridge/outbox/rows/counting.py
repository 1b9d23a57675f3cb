"""
Finds out what happens to one file's rows, for `tallies`.

Rows that were there at the opening are not looked at then: a backlog of millions would
hold up the start. What they are is seen when they leave, or get their lane.
"""

from __future__ import annotations

import sqlite3  # noqa: TID251 - this room speaks to SQLite
from collections.abc import Mapping, Sequence

from bridge.events import header_names
from bridge.events.record import Envelope, Record, StoredRecord
from bridge.outbox.records import by_envelope
from bridge.outbox.rows.envelopes import Envelopes
from bridge.outbox.rows.lane import Lane
from bridge.outbox.rows.lanes import Lanes
from bridge.outbox.tallies import Cell, News, Tallies


__all__ = ["Counting", "count_rows"]

_Counts = Mapping[Envelope, int]
_Place = tuple[str, int]


class Counting:
    """
    The counts of one file: news of a transaction until it holds.

    Args:
        connection: The file.
        lanes: Its lanes.
        envelopes: Its envelopes.
        tallies: Where news go.
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        lanes: Lanes,
        envelopes: Envelopes,
        tallies: Tallies,
    ) -> None:
        self._connection = connection
        self._lanes = lanes
        self._envelopes = envelopes
        self.tallies = tallies
        self._news: dict[Cell, News] = {}
        # Rows up to it were there before; those up to the other one are known all the
        # same, since they have left once and wait again.
        self._found_until: dict[_Place, int] = {}
        self._known_until: dict[_Place, int] = {}
        self._known_news: dict[_Place, int] = {}
        # The same of webhooks that are held.
        self._held_until = 0

    def load(self, held_until: int) -> None:
        """
        Learn which rows are there at the opening.

        Args:
            held_until: The place of the last webhook that is held then.
        """
        self._held_until = held_until
        for lane in self._lanes:
            if last := self._lanes.last_row(lane):
                self._found_until[lane.topic, lane.partition] = last

    def committed(self) -> None:
        """Learn that the transaction holds."""
        if self._news:
            self.tallies.add(self._news)
            self._news = {}
        if self._known_news:
            self._known_until |= self._known_news
            self._known_news = {}

    def rolled_back(self) -> None:
        """Learn that the transaction was undone."""
        self._news, self._known_news = {}, {}

    # -- What comes ------------------------------------------------------------

    def came(self, records: Sequence[Record]) -> None:
        """Count records that were read and are rows now."""
        for envelope, count in by_envelope(records).items():
            news = self._of(envelope)
            news.committed += count
            news.waiting += count

    def came_late(self, record: Record) -> None:
        """Count a record that came and isn't needed."""
        news = self._of(record.envelope)
        news.committed += 1
        news.superseded += 1

    def took_its_place(self, record: Record) -> None:
        """Count a dead letter that is there instead of a row that went."""
        self._of(record.envelope).waiting += 1

    def was_salvaged(self, records: Sequence[Record] | Sequence[StoredRecord]) -> None:
        """Count rows, or held webhooks, that were brought over from a damaged file."""
        for envelope, count in by_envelope(records).items():
            news = self._of(envelope)
            news.salvaged += count
            news.waiting += count

    def was_delivered(self, envelopes: _Counts) -> None:
        """Count rows of a damaged file that Kafka has, though it didn't say so."""
        for envelope, count in envelopes.items():
            self._of(envelope).salvaged += count
            self._deliver(envelope, count)

    def waits_again(self, lane: Lane, until: int) -> None:
        """Count rows that wait once more, from the lane's last one up to here."""
        first = lane.acknowledged_sequence + 1
        for envelope, count in self._look(lane, first, until).items():
            news = self._of(envelope)
            news.resent += count
            news.waiting += count
        place = lane.topic, lane.partition
        self._known_news[place] = max(self._known(place), until)

    # -- What goes -------------------------------------------------------------

    def leaves(self, lane: Lane, first: int, last: int) -> None:
        """Count those of rows that leave, or their lane for another, as found."""
        place = lane.topic, lane.partition
        last = min(last, self._found_until.get(place, 0))
        if first > last:
            return
        first = max(first, self._known(place) + 1)
        for envelope, count in self._look(lane, first, last).items():
            news = self._of(envelope)
            news.found += count
            news.waiting += count

    def delivered(
        self, lane: Lane, first: int, last: int, envelopes: _Counts | None
    ) -> None:
        """Count rows that Kafka has; None has them looked at."""
        self.leaves(lane, first, last)
        if envelopes is None:
            envelopes = self._look(lane, first, last)
        for envelope, count in envelopes.items():
            self._deliver(envelope, count)
            self._of(envelope).waiting -= count

    def is_let_go(self, place: int, record: Record) -> None:
        """Count a webhook that is held no more as found, if it was."""
        if place <= self._held_until:
            news = self._of(record.envelope)
            news.found += 1
            news.waiting += 1

    def is_superseded(self, record: Record) -> None:
        """Count a webhook that was held and isn't needed."""
        news = self._of(record.envelope)
        news.superseded += 1
        news.waiting -= 1

    def goes(self, lane: Lane, sequence: int) -> None:
        """Count a row that goes, for another one to take its place."""
        self.leaves(lane, sequence, sequence)
        for envelope in self._look(lane, sequence, sequence):
            self._of(envelope).waiting -= 1

    def is_put_aside(self, lane: Lane, sequence: int) -> None:
        """Count a row that goes into quarantine."""
        self.leaves(lane, sequence, sequence)
        for envelope in self._look(lane, sequence, sequence):
            news = self._of(envelope)
            news.waiting -= 1
            news.quarantined += 1

    # -- Inside ----------------------------------------------------------------

    def _of(self, envelope: Envelope) -> News:
        cell = envelope.kind, envelope.origin
        news = self._news.get(cell)
        if news is None:
            news = self._news[cell] = News()
        return news

    def _deliver(self, envelope: Envelope, count: int) -> None:
        news = self._of(envelope)
        if envelope.ce_type == header_names.DEAD_LETTER_TYPE:
            news.dead_lettered += count
        else:
            news.published += count

    def _known(self, place: _Place) -> int:
        known = self._known_news.get(place)
        return self._known_until.get(place, 0) if known is None else known

    def _look(self, lane: Lane, first: int, last: int) -> dict[Envelope, int]:
        return count_rows(self._connection, self._envelopes, lane, first, last)


def count_rows(
    connection: sqlite3.Connection,
    envelopes: Envelopes,
    lane: Lane,
    first: int,
    last: int,
) -> dict[Envelope, int]:
    """Count the rows of a part of a lane by their envelope."""
    found: dict[Envelope, int] = {}
    cursor = connection.execute(
        "SELECT envelope, count(*) FROM rows WHERE position BETWEEN ? AND ?"
        " GROUP BY envelope",
        (lane.base + first, lane.base + last),
    )
    for number, count in cursor:
        # One that is missing is damage: whoever reads the row finds it.
        if (envelope := envelopes.by_number.get(number)) is not None:
            found[envelope] = count
    return found
