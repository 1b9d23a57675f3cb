"""
The jobs whose end has not been seen, in memory.

What was committed decides, never what only was read. How this outlives the process
is the business of `job_table`.
"""

from __future__ import annotations

import sys
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from heapq import merge
from itertools import islice
from math import inf

from bridge.job_status import TERMINAL_STATUSES
from bridge.outbox.statistics import OutboxStatistics
from bridge.record import Envelope, JobInFlight, Record


__all__ = ["Account", "Heard", "Jobs"]

# (status, progress, when it was read): what is known of a job.
Heard = tuple[str, str | None, int]

# An event can come after the end of its job: dryAPI's servers are many. It must not
# bring the job back, which nothing would end any more. So the last 10,000 ends and up
# to as many older ones are known, in 3 MB: some ten minutes of 20 jobs a second. They
# are not written down: after a restart an event that comes so late brings its job back
# until `outbox.keep_jobs_seconds` or a status query ends it.
_ENDS_KNOWN = 10_000

# The oldest jobs of 200 accounts take 0.25 ms to find, so that too many of them are
# forgotten a hundredth at a time: 500 of the usual 50,000.
_SPARE_SHARE = 100


class Account:
    """
    The jobs of one account.

    Attributes:
        ce_source: Whose they are.
        jobs: What is known of each, by key; the one not heard of for longest first.
        changed: Keys of which the file doesn't have what is known here.
        places: Where jobs stand in the file, by key.
    """

    __slots__ = ("ce_source", "changed", "jobs", "places")

    def __init__(self, ce_source: str) -> None:
        self.ce_source = ce_source
        self.jobs: OrderedDict[bytes, Heard] = OrderedDict()
        self.changed: set[bytes] = set()
        self.places: dict[bytes, int] = {}


class Jobs:
    """
    The jobs in flight of all accounts; the outbox's thread writes, anybody reads.

    Args:
        max_jobs: At most so many; those not heard of for longest go first, some more
            than must.
        keep_seconds: One not heard of for so long goes.
        statistics: Where those are counted that went without their end.

    Attributes:
        accounts: The accounts by their `ce_source`.
    """

    def __init__(
        self,
        max_jobs: int = sys.maxsize,
        keep_seconds: float = inf,
        statistics: OutboxStatistics | None = None,
    ) -> None:
        self._max_jobs = max_jobs
        self._keep_us = keep_seconds * 1_000_000
        self._statistics = statistics or OutboxStatistics()
        self._count = 0
        self._ended: set[tuple[str, bytes]] = set()
        self._ended_before: set[tuple[str, bytes]] = set()
        # Held for as long as it takes to copy an account's jobs, or to note the
        # events of one commit: below a millisecond or two.
        self._lock = threading.Lock()
        self.accounts: dict[str, Account] = {}

    # -- For any thread -------------------------------------------------------

    def count(self, ce_source: str) -> int:
        """Return how many jobs of an account are in flight; costs next to nothing."""
        account = self.accounts.get(ce_source)
        return 0 if account is None else len(account.jobs)

    def of(self, ce_source: str) -> list[JobInFlight]:
        """Return an account's jobs in flight, not heard of for longest first."""
        account = self.accounts.get(ce_source)
        if account is None:
            return []
        with self._lock:
            known = list(account.jobs.items())
        return [JobInFlight(key.decode(), *heard) for key, heard in known]

    # -- For the outbox's thread ----------------------------------------------

    def note(self, records: Sequence[Record]) -> None:
        """Learn from committed records, in their order."""
        envelope: Envelope | None = None
        hear = self._hear
        with self._lock:
            for record in records:
                status, key = record.status, record.key
                if status is None or key is None:
                    continue
                if record.envelope is not envelope:
                    envelope = record.envelope
                    account = self.account(envelope.ce_source)
                hear(account, key, (status, record.progress, record.received_at_us))
            if self._count > self._max_jobs:
                spare = self._max_jobs // _SPARE_SHARE
                self._forget(self._count - self._max_jobs + spare)

    def account(self, ce_source: str) -> Account:
        """Give an account, adding it if it is new."""
        account = self.accounts.get(ce_source)
        if account is None:
            account = self.accounts[ce_source] = Account(ce_source)
        return account

    def restore(self, account: Account, key: bytes, heard: Heard) -> None:
        """Learn what a file has of a job, before there are readers."""
        self._count += key not in account.jobs
        account.jobs[key] = heard

    def _hear(self, account: Account, key: bytes, heard: Heard) -> None:
        jobs = account.jobs
        if key in jobs:
            if heard[0] in TERMINAL_STATUSES:
                del jobs[key]
                self._count -= 1
                self._end(account, key)
                _forget_in_file(account, key)
                return
            jobs[key] = heard
            jobs.move_to_end(key)
        elif heard[0] in TERMINAL_STATUSES:
            self._end(account, key)
            return
        elif self._has_ended(account, key):
            return
        else:
            jobs[key] = heard
            self._count += 1
        account.changed.add(key)

    def expire(self, now_us: int) -> None:
        """Forget what wasn't heard of for too long."""
        before_us = now_us - self._keep_us
        with self._lock:
            old = 0
            for account in self.accounts.values():
                for _, _, seen_us in account.jobs.values():
                    if seen_us >= before_us:
                        break
                    old += 1
            self._forget(max(old, self._count - self._max_jobs))

    def _forget(self, count: int) -> None:
        """Forget the jobs of all accounts that were not heard of for longest."""
        if count <= 0:
            return
        oldest = merge(*map(_by_age, self.accounts.values()), key=_seen_us)
        for account, key, _ in list(islice(oldest, count)):
            del account.jobs[key]
            _forget_in_file(account, key)
        self._count -= count
        self._statistics.forgotten_jobs += count

    def _end(self, account: Account, key: bytes) -> None:
        if len(self._ended) >= _ENDS_KNOWN:
            self._ended_before = self._ended
            self._ended = set()
        self._ended.add((account.ce_source, key))

    def _has_ended(self, account: Account, key: bytes) -> bool:
        job = (account.ce_source, key)
        return job in self._ended or job in self._ended_before


def _forget_in_file(account: Account, key: bytes) -> None:
    if key in account.places:
        account.changed.add(key)
    else:
        # It was never written, and won't be.
        account.changed.discard(key)


def _by_age(account: Account) -> Iterator[tuple[Account, bytes, int]]:
    for key, (_, _, seen_us) in account.jobs.items():
        yield account, key, seen_us


def _seen_us(job: tuple[Account, bytes, int]) -> int:
    return job[2]
