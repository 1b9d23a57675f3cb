"""
The jobs: which are in flight, which have ended, and whether an event is in order.

An event is judged in the transaction that writes it, from any origin: socket, status
endpoint or webhook. One row per job is written with its events. Jobs in flight are also
kept in memory; ended jobs are looked up in SQLite.
"""

from __future__ import annotations

import sqlite3  # noqa: TID251 - the outbox is SQLite
import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal
from enum import StrEnum
from functools import lru_cache
from hashlib import blake2b
from heapq import merge
from typing import Final
from zlib import crc32

import msgspec

from bridge.events import header_names
from bridge.events.job_status import TERMINAL_STATUSES
from bridge.events.record import Importance, Record
from bridge.outbox.values import JobInFlight, Retention


__all__ = ["Digests", "Job", "Jobs"]

_PROCESSING: Final = "processing"

# Upstream writes two decimals: there are 10,001 such texts, 2 MB. Reading one takes
# 0.2 us, as long as all else that is done to compare an event with its job.
_number = lru_cache(maxsize=16_384)(float)

# By chance two of two million are one once in 10**26 times.
_DIGEST_BYTES = 16

# So many digests are forgotten at once: 5 ms of work where there are a million, and ten
# times what comes in a second where two million come in a day.
_FORGOTTEN_AT_ONCE = 250

# The oldest jobs of 200 accounts take 0.25 ms to find, so that too many of them are
# forgotten a hundredth at a time: 500 of the usual 50,000.
_SPARE_SHARE = 100


# The clock of digests: a system clock that is set forgets none early, while this
# process runs.
_BEGAN_US = (time.time_ns() - time.monotonic_ns()) // 1000


class _Verdict(StrEnum):
    """What is wrong with an event's place in its job."""

    # The job's last event once more, byte for byte. Of 4 billion events that aren't one
    # is taken for such.
    DUPLICATE = header_names.DUPLICATE.decode()
    # Less far than the job was already, whatever was received since: so the events
    # without a mark never go back.
    REGRESSION = header_names.REGRESSION.decode()
    # After the job's last record.
    LATE = "late"


class Job(msgspec.Struct, gc=False):
    """A job in flight, as committed events and the running transaction report it."""

    # Its number in the table.
    place: int
    # The furthest that was reported, and the highest progress with that status.
    status: str
    progress: str | None
    # When its last event was read; the checksum of its key, value and preview.
    last_seen_us: int
    fingerprint: int
    # Of the topic of its events; below 0 while it has none.
    partition: int = -1


class Digests:
    """
    A table of digests that forgets the oldest; numbered without a hole.

    So the first and the last number say how many it has, and the oldest are found
    without an index.
    """

    def __init__(self, connection: sqlite3.Connection, table: str) -> None:
        self._execute = connection.execute
        self._table = table

    def __contains__(self, digest: bytes) -> bool:
        """Whether it is known."""
        known = f"SELECT 1 FROM {self._table} WHERE digest = ?"  # noqa: S608
        return self._execute(known, (digest,)).fetchone() is not None

    def add(self, digest: bytes) -> bool:
        """Add one, as of now; False if it is known."""
        return (
            self._execute(
                f"INSERT INTO {self._table} (digest, at_us) VALUES (?, ?)"  # noqa: S608
                " ON CONFLICT (digest) DO NOTHING",
                (digest, _now_us()),
            ).rowcount
            == 1
        )

    def forget(self, keep_seconds: float, most: int) -> tuple[int, int]:
        """Forget some; gives how many are left, and how many went that aren't old."""
        before_us = _now_us() - int(keep_seconds * 1_000_000)
        gone = self._execute(
            f"DELETE FROM {self._table} WHERE"  # noqa: S608
            f" id IN (SELECT id FROM {self._table} ORDER BY id LIMIT ?) AND"
            f" (at_us < ? OR id <= (SELECT max(id) FROM {self._table}) - ?)"
            " RETURNING at_us >= ?",
            (_FORGOTTEN_AT_ONCE, before_us, most, before_us),
        ).fetchall()
        (left,) = self._execute(
            f"SELECT coalesce((SELECT max(id) FROM {self._table})"  # noqa: S608
            f" - (SELECT min(id) FROM {self._table}) + 1, 0)"
        ).fetchone()
        return left, sum(young for (young,) in gone)


class _Account:
    """The jobs of one account, which has a number in the table of accounts."""

    __slots__ = ("_salt", "jobs", "number")

    def __init__(self, number: int, ce_source: str) -> None:
        self.number = number
        # Those in flight, the one seen longest ago first.
        self.jobs: OrderedDict[bytes, Job] = OrderedDict()
        self._salt = blake2b(ce_source.encode()).digest()

    def digest(self, key: bytes) -> bytes:
        """Name a job among those of all accounts."""
        return blake2b(self._salt + key, digest_size=_DIGEST_BYTES).digest()


class Jobs:
    """The tables `jobs` and `ended`; the Kafka thread writes, any thread reads."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        retention: Retention,
        news: Counter[str],
        account_number: Callable[[str], int],
        refuse_late: Callable[[Record], Record] | None,
    ) -> None:
        self._execute = connection.execute
        self._executemany = connection.executemany
        self._retention = retention
        self._news = news
        self._account_number = account_number
        self._refuse_late = refuse_late
        self._accounts: dict[str, _Account] = {}
        self._ended = Digests(connection, "ended")
        self._count = self._last_place = 0
        # How many that have ended are remembered, as of the last `expire`.
        self.ended_count = 0
        # What the running transaction changed, by place, None for a job that is gone.
        self._changed: dict[int, tuple[_Account, bytes, Job] | None] = {}
        # How many jobs have ended, by `ce_source`: in that transaction, and before it.
        self._ends: Counter[str] = Counter()
        self._finished: Counter[str] = Counter()
        # Held while jobs are changed, or an account's are copied: a millisecond or two.
        self._lock = threading.Lock()

    def load(self) -> None:
        """Read what memory mirrors, at the start and after a rollback."""
        sources = dict(self._execute("SELECT id, ce_source FROM accounts"))
        accounts = {
            number: _Account(number, ce_source) for number, ce_source in sources.items()
        }
        self._count = self._last_place = 0
        for place, number, key, *values in self._execute(
            "SELECT * FROM jobs ORDER BY last_seen_us, id"
        ):
            accounts[number].jobs[key] = Job(place, *values)
            self._count += 1
            self._last_place = max(self._last_place, place)
        self._accounts = {
            sources[number]: account for number, account in accounts.items()
        }
        self.begin()

    # -- For any thread -------------------------------------------------------

    def count(self, ce_source: str) -> int:
        """Return how many jobs of an account are in flight; costs next to nothing."""
        account = self._accounts.get(ce_source)
        return 0 if account is None else len(account.jobs)

    def finished(self, ce_source: str) -> int:
        """Return how many jobs of an account have ended since the start."""
        return self._finished[ce_source]

    def of(self, ce_source: str) -> list[JobInFlight]:
        """Return an account's jobs in flight, those seen longest ago first."""
        account = self._accounts.get(ce_source)
        if account is None:
            return []
        with self._lock:
            known = list(account.jobs.items())
        return [_in_flight(key.decode(), job) for key, job in known]

    def find(self, ce_source: str, request_id: str) -> JobInFlight | None:
        """Return a job; None if it isn't in flight. It costs next to nothing."""
        account = self._accounts.get(ce_source)
        # One with a lone surrogate, which has no UTF-8, isn't a job's.
        key = request_id.encode(errors="surrogatepass")
        job = None if account is None else account.jobs.get(key)
        return None if job is None else _in_flight(request_id, job)

    # -- In a transaction -----------------------------------------------------

    def begin(self) -> None:
        """Forget what the transaction before changed."""
        self._changed, self._ends = {}, Counter()

    def known(self, ce_source: str, key: bytes) -> Job | None:
        """Return a job in flight, as the running transaction has it."""
        account = self._accounts.get(ce_source)
        return None if account is None else account.jobs.get(key)

    def has_ended(self, ce_source: str, key: bytes) -> bool:
        """Whether a job has ended, as far as that is remembered."""
        account = self._accounts.get(ce_source)
        return account is not None and account.digest(key) in self._ended

    def judge(
        self, records: Sequence[Record], sums: Sequence[int]
    ) -> tuple[Sequence[Record], list[Job | None], set[int]]:
        """
        Judge what the transaction is about to append, by key and status, in its order.

        Returns:
            What is to be written: marked, or a dead letter, where that must be; the job
            of each, if it is in flight; and which were replaced.
        """
        written: list[Record] | None = None
        jobs: list[Job | None] = []
        replaced: set[int] = set()
        with self._lock:
            for index, record in enumerate(records):
                job, verdict = self._judge(record, sums[index])
                jobs.append(job)
                if verdict is not None:
                    written = written or list(records)
                    written[index] = self._answer(verdict, record)
                    replaced.add(index)
        return written or records, jobs, replaced

    def _judge(self, record: Record, total: int) -> tuple[Job | None, _Verdict | None]:
        """Learn what a record reports of its job, and judge it."""
        key, status = record.key, record.status
        if key is None or status is None:
            return None, _Verdict.LATE if self._is_late_picture(record) else None
        ce_source = record.envelope.ce_source
        account = self._accounts.get(ce_source) or self._add_account(ce_source)
        if record.extra:
            # It sums up as well which preview belongs to an event, on its own topic.
            preview = dict(record.extra).get(header_names.BRIDGE_PREVIEW_SHA256, b"")
            total = crc32(preview, total)
        job = account.jobs.get(key)
        if job is None:
            return self._begin_job(account, key, record, total)
        if status in TERMINAL_STATUSES:
            del account.jobs[key]
            self._count -= 1
            self._changed[job.place] = None
            self._end(account, key, ce_source)
            return job, None
        verdict = None
        if total == job.fingerprint:
            verdict = _Verdict.DUPLICATE
        elif _is_behind(job, status, record.progress):
            verdict = _Verdict.REGRESSION
        elif status != job.status or record.progress is not None:
            # Without a progress it says nothing of it, and takes nothing back.
            job.status, job.progress = status, record.progress
        job.last_seen_us, job.fingerprint = record.received_at_us, total
        account.jobs.move_to_end(key)
        self._changed[job.place] = account, key, job
        return job, verdict

    def _begin_job(
        self, account: _Account, key: bytes, record: Record, total: int
    ) -> tuple[Job | None, _Verdict | None]:
        if account.digest(key) in self._ended:
            return None, _Verdict.LATE
        assert record.status is not None
        at_us = record.received_at_us
        self._last_place += 1
        job = Job(self._last_place, record.status, record.progress, at_us, total)
        if record.status in TERMINAL_STATUSES:
            self._end(account, key, record.envelope.ce_source)
        else:
            self._count += 1
            account.jobs[key] = job
            self._changed[job.place] = account, key, job
        return job, None

    def write(self) -> None:
        """Write the jobs that changed, after their events have their places."""
        if not self._changed:
            return
        self._executemany(
            "INSERT OR REPLACE INTO jobs VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            [
                (
                    job.place,
                    account.number,
                    key,
                    job.status,
                    job.progress,
                    job.last_seen_us,
                    job.fingerprint,
                    job.partition,
                )
                for account, key, job in filter(None, self._changed.values())
            ],
        )
        gone = [(place,) for place, one in self._changed.items() if one is None]
        self._executemany("DELETE FROM jobs WHERE id = ?", gone)

    def expire(self, now_us: int) -> None:
        """Forget what is too old or too much; belongs into a transaction."""
        keep = self._retention
        # A clock that is set, in whichever direction, forgets no job early.
        before_us = min(now_us, _now_us()) - int(keep.unfinished_seconds * 1_000_000)
        most = keep.unfinished_jobs
        if self._count > most:
            most -= most // _SPARE_SHARE
        with self._lock:
            gone: list[tuple[_Account, bytes, Job]] = []
            for account, key, job in merge(
                *map(_by_age, self._accounts.values()),
                key=lambda one: one[2].last_seen_us,
            ):
                if job.last_seen_us >= before_us and self._count - len(gone) <= most:
                    break
                gone.append((account, key, job))
            for account, key, job in gone:
                del account.jobs[key]
                self._changed[job.place] = None
            self._count -= len(gone)
        self._news["forgotten_jobs"] += len(gone)
        self.ended_count, early = self._ended.forget(
            keep.ended_seconds, keep.ended_jobs
        )
        self._news["forgotten_ends"] += early

    def committed(self) -> None:
        """Count what the transaction that was committed has ended."""
        self._finished.update(self._ends)

    # -- Inside ---------------------------------------------------------------

    def _add_account(self, ce_source: str) -> _Account:
        account = _Account(self._account_number(ce_source), ce_source)
        # Replaced as a whole: other threads go through it.
        self._accounts = {**self._accounts, ce_source: account}
        return account

    def _end(self, account: _Account, key: bytes, ce_source: str) -> None:
        self._ends[ce_source] += 1
        self._ended.add(account.digest(key))

    def _is_late_picture(self, record: Record) -> bool:
        """
        Whether a preview belongs to an event, the next record of its job, that is late.

        Nothing can come between the two: they were read as one, and offered as one.
        Where late events are published, their previews are as well.
        """
        return (
            record.importance is Importance.PICTURE
            and record.envelope.ce_type == header_names.PREVIEW_TYPE
            and self._refuse_late is not None
            and record.key is not None
            and self.has_ended(record.envelope.ce_source, record.key)
        )

    def _answer(self, verdict: _Verdict, record: Record) -> Record:
        if verdict is _Verdict.LATE:
            if self._refuse_late is not None:
                self._news[verdict] += 1
                return self._refuse_late(record)
            verdict = _Verdict.REGRESSION
        self._news[verdict] += 1
        return _marked(record, verdict.encode())


def _now_us() -> int:
    return _BEGAN_US + time.monotonic_ns() // 1000


def _in_flight(request_id: str, job: Job) -> JobInFlight:
    return JobInFlight(request_id, job.status, job.progress, job.last_seen_us)


def _by_age(account: _Account) -> Iterator[tuple[_Account, bytes, Job]]:
    return ((account, key, job) for key, job in account.jobs.items())


def _is_behind(job: Job, status: str, progress: str | None) -> bool:
    if status != job.status:
        return status == _PROCESSING
    furthest = job.progress
    if progress is None or furthest is None or _number(progress) > _number(furthest):
        return False
    # Exact, as doubles aren't; they can only be wrong about what they call equal.
    return Decimal(progress) < Decimal(furthest)


def _marked(record: Record, word: bytes) -> Record:
    headers = dict(record.extra)
    before = headers.get(header_names.BRIDGE_ANOMALY)
    headers[header_names.BRIDGE_ANOMALY] = (
        word if before is None else b"%b,%b" % (before, word)
    )
    return msgspec.structs.replace(record, extra=tuple(headers.items()))
