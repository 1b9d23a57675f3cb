"""
What can still be read of a damaged file's webhooks is brought into the new one.

Those that are held keep their places, and deliveries their numbers, so that it can be
done again where a process died over it. How rows are brought over `salvage` says.
"""

from __future__ import annotations

import sqlite3  # noqa: TID251 - this room speaks to SQLite
from collections.abc import Callable, Iterator
from contextlib import suppress

from bridge.errors import OutboxFullError
from bridge.outbox.buffer import weigh
from bridge.outbox.opening import Opened
from bridge.outbox.records import Held
from bridge.outbox.webhooks.deliveries import DELIVERY_BYTES
from bridge.outbox.webhooks.holding import Holding


__all__ = ["bring_deliveries", "bring_held"]

_HELD_A_STEP = 500
_DELIVERIES_A_STEP = 5000

# Each way reads what another one, at a page that is damaged, does not.
_WAYS_TO_PLACES = (
    "SELECT place FROM held ORDER BY due_us",
    "SELECT place FROM held NOT INDEXED ORDER BY place",
    "SELECT place FROM held NOT INDEXED ORDER BY place DESC",
)
_WAYS_TO_DELIVERIES = (
    "SELECT * FROM deliveries WHERE id > ? ORDER BY id LIMIT ?",
    "SELECT * FROM deliveries WHERE id < ? ORDER BY id DESC LIMIT ?",
)
_STARTS = (-1, 1 << 62)


def bring_held(
    source: sqlite3.Connection, into: Opened, beat: Callable[[], None]
) -> tuple[int, int]:
    """
    Bring over the webhooks that are held.

    Args:
        source: The damaged file.
        into: The new one.
        beat: Called now and then: this may take a while.

    Returns:
        How many were brought over, and how many can't be read, as far as it is known.

    Raises:
        sqlite3.Error: Nothing is known of the damaged file.
        OutboxFullError: The new file doesn't take them.
    """
    if not _has(source, "held"):
        return 0, 0
    holding, store = Holding(source), into.store
    places = sorted(_places(source))
    brought = given_up = 0
    for first in range(0, len(places), _HELD_A_STEP):
        beat()
        step = places[first : first + _HELD_A_STEP]
        found = [held for place in step if (held := _read(holding, place)) is not None]
        given_up += len(step) - len(found)
        if not into.room.take(sum([weigh(held.record) for held in found])):
            raise OutboxFullError(into.room.reason)
        with store.transaction():
            new = store.healer.holding.restore(found)
            store.counting.was_salvaged([held.record for held in new])
        brought += len(new)
    return brought, given_up


def bring_deliveries(
    source: sqlite3.Connection, into: Opened, beat: Callable[[], None]
) -> None:
    """
    Bring over which webhooks were taken, as far as there is room; see `bring_held`.

    What is lost of them harms little: the job of a webhook that is taken twice has
    ended by the second time, so that nothing is written twice.
    """
    if not _has(source, "deliveries"):
        return
    for rows in _deliveries(source):
        beat()
        if not into.room.take(len(rows) * DELIVERY_BYTES):
            return
        with into.store.transaction():
            into.store.healer.deliveries.restore(rows)


def _places(source: sqlite3.Connection) -> set[int]:
    found: set[int] = set()
    for way in _WAYS_TO_PLACES:
        with suppress(sqlite3.Error):
            for (place,) in source.execute(way):
                found.add(place)
    return found


def _read(holding: Holding, place: int) -> Held | None:
    try:
        return holding.find(place)
    except sqlite3.Error:
        return None


def _deliveries(
    source: sqlite3.Connection,
) -> Iterator[list[tuple[int, bytes, int]]]:
    """Give them from both ends, as far as they can be read from there."""
    for way, start in zip(_WAYS_TO_DELIVERIES, _STARTS, strict=True):
        place = start
        with suppress(sqlite3.Error):
            while rows := source.execute(way, (place, _DELIVERIES_A_STEP)).fetchall():
                yield rows
                place = rows[-1][0]
            return


def _has(source: sqlite3.Connection, table: str) -> bool:
    """Whether a file has a table: one of an older format has not all of them."""
    found = source.execute("SELECT 1 FROM sqlite_schema WHERE name = ?", (table,))
    return found.fetchone() is not None
