"""
Records of status responses and webhooks, unless the socket's event came first.

A webhook is held for the socket's own event, as a whole record in the file. Other
packages decide when it is held and released; here it is written or superseded.
"""

from __future__ import annotations

import sqlite3  # noqa: TID251 - the outbox is SQLite
import time
from hashlib import blake2b

import msgspec

from bridge.events.job_status import TERMINAL_STATUSES
from bridge.events.record import Record
from bridge.outbox.jobs import Digests, Jobs
from bridge.outbox.rows import checksum
from bridge.outbox.values import Delivery, Healing, Held, Retention


__all__ = ["DELIVERY_BYTES", "Webhooks", "is_awaited", "is_needed"]

# What a delivery's digest takes in the file, with its index.
DELIVERY_BYTES = 70

# The names of a record's fields are in the file: to rename one needs a new format.
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Record).decode

_DIGEST_BYTES = 16

# What a column can hold.
_MAX_INTEGER = (1 << 63) - 1


# So much of the outbox they may take, 1 GiB of the usual 8 GiB: they are there for a
# day, and must not push events out of a small one.
_DELIVERIES_SHARE = 8


class Webhooks:
    """The tables `held` and `deliveries`; what changes belongs into a transaction."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._execute = connection.execute
        # Those that were taken lately: none counts twice.
        self._deliveries = Digests(connection, "deliveries")
        # How many are held.
        self.count = 0
        self._last_place = 0

    def load(self) -> None:
        """Read what memory mirrors, at the start and after a rollback."""
        self.count, last_place = self._execute(
            "SELECT count(*), coalesce(max(place), 0) FROM held"
        ).fetchone()
        self._last_place = max(self._last_place, last_place)

    def read(self, max_rows: int) -> list[Held]:
        """Return those that are due first; `DatabaseError` if one has changed."""
        found = self._execute(
            "SELECT * FROM held ORDER BY due_us, place LIMIT ?", (max_rows,)
        )
        return [decode_held(row) for row in found]

    def take(self, delivery: Delivery) -> bool:
        """Hold a webhook; False if it was taken before."""
        ce_source = delivery.record.envelope.ce_source
        # With what no text of an account can hold between them. A lone surrogate has no
        # UTF-8, and a foreign text may have one.
        name = f"{ce_source}\0{delivery.delivery_id}".encode(errors="surrogatepass")
        digest = blake2b(name, digest_size=_DIGEST_BYTES).digest()
        if not self._deliveries.add(digest):
            return False
        # The time, so that no file before this one has given the same place.
        place = self._last_place = max(self._last_place + 1, time.time_ns() // 1000)
        record, due_us = _encode(delivery.record), _bounded(delivery.due_us)
        ended_us = None if delivery.ended_us is None else _bounded(delivery.ended_us)
        self._execute(
            "INSERT INTO held VALUES (?, ?, ?, ?, ?)",
            (place, due_us, ended_us, record, _sum_up(due_us, ended_us, record)),
        )
        self.count += 1
        return True

    def forget(self, retention: Retention, max_bytes: int) -> None:
        """Forget which were taken long ago, or are too many."""
        most = max_bytes // _DELIVERIES_SHARE // DELIVERY_BYTES
        self._deliveries.forget(
            retention.delivery_seconds, min(retention.deliveries, most)
        )

    def release(self, place: int) -> Record | None:
        """Hold a webhook no longer and return its record; None if it isn't held."""
        row = self._execute("SELECT * FROM held WHERE place = ?", (place,)).fetchone()
        if row is None:
            return None
        self._execute("DELETE FROM held WHERE place = ?", (place,))
        self.count -= 1
        return decode_held(row).record


def is_needed(jobs: Jobs, healing: Healing) -> bool:
    """Whether no event of a job was received since dryAPI was asked about it."""
    record, asked = healing.record, healing.job
    if record.status is None or record.key is None:
        return True
    job = jobs.known(record.envelope.ce_source, record.key)
    return job is not None and (job.status, job.progress, job.last_seen_us) == (
        asked.status,
        asked.progress,
        asked.last_seen_us,
    )


def is_awaited(jobs: Jobs, record: Record) -> bool:
    """Whether a webhook reports what is unknown: a job, or its end."""
    if record.status is None or record.key is None:
        return True
    ce_source = record.envelope.ce_source
    if jobs.known(ce_source, record.key) is not None:
        return record.status in TERMINAL_STATUSES
    return not jobs.has_ended(ce_source, record.key)


def decode_held(row: tuple[int, int, int | None, bytes, int]) -> Held:
    """Return what a row of the table holds; `DatabaseError` if it has changed."""
    place, due_us, ended_us, record, written = row
    try:
        if written == _sum_up(due_us, ended_us, record):
            return Held(place, _decode(record), due_us, ended_us)
    except (TypeError, msgspec.MsgspecError) as error:
        raise _changed(place) from error
    raise _changed(place)


def _sum_up(due_us: int, ended_us: int | None, record: bytes) -> int:
    return checksum(None, record, f"{due_us} {ended_us}".encode())


def _bounded(moment_us: int) -> int:
    """Keep a foreign moment within what a column holds."""
    return max(min(moment_us, _MAX_INTEGER), -_MAX_INTEGER)


def _changed(place: int) -> sqlite3.DatabaseError:
    return sqlite3.DatabaseError(f"the held webhook {place} has changed on the disk")
