"""
Which webhooks were taken: none counts twice.

A delivery is known by its id and its account; it is noted in the transaction that holds
the webhook. It has no mirror in memory: two million of them are 140 MB.
"""

from __future__ import annotations

import sqlite3  # noqa: TID251 - this room speaks to SQLite
import time
from collections.abc import Iterable
from hashlib import blake2b
from typing import Self

import msgspec


__all__ = ["DELIVERY_BYTES", "Deliveries", "KeptDeliveries"]

# By chance two of two million are one once in 10**26 times.
_DIGEST_BYTES = 16

# What an id takes in the file, with its index.
DELIVERY_BYTES = 70

# They are forgotten once a second, and so many at once: 5 ms of work where there are a
# million, and ten times what comes in a second where two million come in a day. A clock
# that jumps ahead makes them forgotten no faster.
_LOOK_SECONDS = 1.0
_FORGOTTEN_AT_ONCE = 250


class KeptDeliveries(msgspec.Struct, frozen=True):
    """
    What is remembered of deliveries.

    Attributes:
        seconds: How long.
        most: How many, the latest ones.
    """

    seconds: float
    most: int

    def within(self, max_bytes: int) -> Self:
        """Give the same, but no more than so many bytes have room for."""
        most = min(self.most, max_bytes // DELIVERY_BYTES)
        return msgspec.structs.replace(self, most=most)


class Deliveries:
    """
    The table `deliveries`.

    Its numbers have no hole, so that the first and the last one tell how many it has.

    Args:
        connection: The outbox's file.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._due_at = 0.0

    def note(self, ce_source: str, delivery_id: str) -> bool:
        """Note a delivery; False if it is known. Belongs into a transaction."""
        # With what no text of an account can hold between them. A lone surrogate has no
        # UTF-8, and somebody else's text may have one.
        name = f"{ce_source}\0{delivery_id}".encode(errors="surrogatepass")
        digest = blake2b(name, digest_size=_DIGEST_BYTES).digest()
        noted = self._connection.execute(
            "INSERT INTO deliveries (digest, taken_at_us) VALUES (?, ?)"
            " ON CONFLICT (digest) DO NOTHING",
            (digest, time.time_ns() // 1000),
        )
        return noted.rowcount == 1

    def restore(self, rows: Iterable[tuple[int, bytes, int]]) -> None:
        """Note what rows of a damaged file tell, if it isn't noted already."""
        self._connection.executemany(
            "INSERT OR IGNORE INTO deliveries VALUES (?, ?, ?)", rows
        )

    def forget(self, kept: KeptDeliveries) -> None:
        """Forget, now and then, those that are old or too many, the oldest first."""
        now = time.monotonic()
        if now < self._due_at:
            return
        self._due_at = now + _LOOK_SECONDS
        first, last = self._connection.execute(
            "SELECT (SELECT min(id) FROM deliveries), (SELECT max(id) FROM deliveries)"
        ).fetchone()
        if first is None:
            return
        before_us = time.time_ns() // 1000 - int(kept.seconds * 1_000_000)
        # One of a time to come, by a clock that was wrong, goes with those behind it.
        old = self._connection.execute(
            "SELECT id FROM deliveries WHERE id < ? AND taken_at_us >= ?"
            " ORDER BY id LIMIT 1",
            (first + _FORGOTTEN_AT_ONCE, before_us),
        ).fetchone()
        end = min(last + 1, first + _FORGOTTEN_AT_ONCE) if old is None else old[0]
        end = max(end, min(last - kept.most + 1, first + _FORGOTTEN_AT_ONCE))
        if end > first:
            self._connection.execute("DELETE FROM deliveries WHERE id < ?", (end,))
