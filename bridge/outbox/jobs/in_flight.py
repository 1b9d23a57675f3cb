"""
The jobs whose end has not been seen, in memory.

What was committed decides, never what only was read. How this outlives the process
is the business of `table`.
"""

from __future__ import annotations

import sys
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from hashlib import blake2b
from heapq import merge
from itertools import islice
from math import inf
from typing import Self

from bridge.outbox.jobs.ended import DIGEST_BYTES, Ended
from bridge.outbox.records import JobInFlight
from bridge.outbox.statistics import OutboxStatistics
from bridge.settings import OutboxSettings


__all__ = ["ENDED", "Account", "Heard", "Jobs"]

# What is known of a job: (status and progress, the furthest that were told; when its
# last event was read; that event's fingerprint, None from files that had none).
Heard = tuple[str, str | None, int, int | None]

# What is known of one that has ended.
ENDED: Heard = ("ended", None, 0, None)

# The oldest jobs of 200 accounts take 0.25 ms to find, so that too many of them are
# forgotten a hundredth at a time: 500 of the usual 50,000.
_SPARE_SHARE = 100

# What a clock does in one step that isn't slewed, as NTP does up to 0.5 ms a second.
_JUMP_US = 1_000_000


class Account:
    """
    The jobs of one account.

    Attributes:
        ce_source: Whose they are.
        jobs: What is known of each, by key; the one not heard of for longest first.
        changed: Keys of which the file doesn't have what is known here.
        places: Where jobs stand in the file, by key.
        finished: How many of its jobs have ended since the start.
    """

    __slots__ = ("_salt", "ce_source", "changed", "finished", "jobs", "places")

    def __init__(self, ce_source: str) -> None:
        self.ce_source = ce_source
        self.jobs: OrderedDict[bytes, Heard] = OrderedDict()
        self.changed: set[bytes] = set()
        self.places: dict[bytes, int] = {}
        self.finished = 0
        self._salt = blake2b(ce_source.encode()).digest()

    def digest(self, key: bytes) -> bytes:
        """Give what `Ended` keeps of a job; two accounts may use one key."""
        return blake2b(self._salt + key, digest_size=DIGEST_BYTES).digest()


class Jobs:
    """
    The jobs in flight of all accounts; the outbox's thread writes, anybody reads.

    Args:
        max_jobs: At most so many; those not heard of for longest go first, some more
            than must.
        keep_seconds: One not heard of for so long goes.
        statistics: Where those are counted that went without their end.
        ended: The jobs that have ended.
        clock: Tells seconds and never jumps, as events' own times may.

    Attributes:
        accounts: The accounts by their `ce_source`.
        ended: The jobs that have ended; for the outbox's thread.
        statistics: Where is counted what becomes of jobs.
    """

    def __init__(
        self,
        max_jobs: int = sys.maxsize,
        keep_seconds: float = inf,
        statistics: OutboxStatistics | None = None,
        ended: Ended | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._max_jobs = max_jobs
        self._keep_us = keep_seconds * 1_000_000
        self.statistics = statistics or OutboxStatistics()
        # One that is empty counts as False.
        self.ended = Ended(statistics=self.statistics) if ended is None else ended
        self._clock = clock
        # When it was looked at last by both clocks, and how far the events' one has
        # jumped ahead since it would have told what has been kept for too long.
        self._looked: tuple[int, float] | None = None
        self._ahead_us = 0.0
        self._jumped_at = -inf
        self._count = 0
        # Held for as long as it takes to copy an account's jobs, or to note the
        # events of one commit: below a millisecond or two.
        self._lock = threading.Lock()
        self.accounts: dict[str, Account] = {}

    @classmethod
    def within(cls, settings: OutboxSettings, statistics: OutboxStatistics) -> Self:
        """Make one that knows no more than the settings let it."""
        ended = Ended(settings.max_ended_jobs, settings.keep_ended_seconds, statistics)
        return cls(
            settings.max_jobs_in_flight, settings.keep_jobs_seconds, statistics, ended
        )

    # -- For any thread -------------------------------------------------------

    def count(self, ce_source: str) -> int:
        """Return how many jobs of an account are in flight; costs next to nothing."""
        account = self.accounts.get(ce_source)
        return 0 if account is None else len(account.jobs)

    def finished(self, ce_source: str) -> int:
        """Return how many jobs of an account have ended since the start."""
        account = self.accounts.get(ce_source)
        return 0 if account is None else account.finished

    def of(self, ce_source: str) -> list[JobInFlight]:
        """Return an account's jobs in flight, not heard of for longest first."""
        account = self.accounts.get(ce_source)
        if account is None:
            return []
        with self._lock:
            known = list(account.jobs.items())
        return [JobInFlight(key.decode(), *heard[:3]) for key, heard in known]

    def find(self, ce_source: str, request_id: str) -> JobInFlight | None:
        """Return a job; None if it isn't in flight. It costs next to nothing."""
        account = self.accounts.get(ce_source)
        # One with a lone surrogate, which has no UTF-8, is no job's.
        key = request_id.encode(errors="surrogatepass")
        heard = None if account is None else account.jobs.get(key)
        return None if heard is None else JobInFlight(request_id, *heard[:3])

    # -- For the outbox's thread ----------------------------------------------

    def learn(
        self,
        told: Mapping[Account, Mapping[bytes, Heard]],
        *,
        is_from_before: bool = False,
    ) -> None:
        """
        Learn what committed events tell.

        Args:
            told: What is known now of each job that they are of, by account and key,
                the one heard of last at the end; `ENDED` of one that has ended.
            is_from_before: Whether a process before committed them.
        """
        ended = bytearray()
        with self._lock:
            for account, jobs_told in told.items():
                jobs, changed = account.jobs, account.changed
                for key, heard in jobs_told.items():
                    if heard is ENDED:
                        ended += account.digest(key)
                        account.finished += not is_from_before
                        if jobs.pop(key, None) is not None:
                            self._count -= 1
                            _forget_in_file(account, key)
                        continue
                    if key in jobs:
                        jobs.move_to_end(key)
                    else:
                        self._count += 1
                    jobs[key] = heard
                    changed.add(key)
            if self._count > self._max_jobs:
                spare = self._max_jobs // _SPARE_SHARE
                self._forget(self._count - self._max_jobs + spare)
        if ended:
            self.ended.add(ended)

    def has_ended(self, account: Account, key: bytes) -> bool:
        """Whether a job that isn't in flight has ended, as far as that is known."""
        return account.digest(key) in self.ended

    def account(self, ce_source: str) -> Account:
        """Give an account, adding it if it is new."""
        account = self.accounts.get(ce_source)
        if account is None:
            account = self.accounts[ce_source] = Account(ce_source)
        return account

    def restore(self, account: Account, key: bytes, place: int, heard: Heard) -> None:
        """
        Learn what a file has of a job, before there are readers.

        Args:
            account: Whose job it is.
            key: Its key.
            place: Where it stands in the file.
            heard: What is known of it. Should it be known to have ended, the file has
                that alone from now on.
        """
        account.places[key] = place
        if self.has_ended(account, key):
            account.changed.add(key)
            return
        self._count += key not in account.jobs
        account.jobs[key] = heard

    def expire(self, now_us: int) -> None:
        """Forget what wasn't heard of for too long."""
        before_us = now_us - self._jumped_ahead_us(now_us) - self._keep_us
        with self._lock:
            old = 0
            for account in self.accounts.values():
                for _, _, seen_us, _ in account.jobs.values():
                    if seen_us >= before_us:
                        break
                    old += 1
            self._forget(max(old, self._count - self._max_jobs))
        self.ended.expire()

    def _jumped_ahead_us(self, now_us: int) -> float:
        """
        Tell how far the clock has jumped ahead since the oldest job was heard of.

        Once as much time has passed since then as a job is kept for, those are gone
        that were heard of before.
        """
        at = self._clock()
        if self._looked is not None:
            before_us, before = self._looked
            jump_us = now_us - before_us - (at - before) * 1_000_000
            if abs(jump_us) > _JUMP_US:
                self._ahead_us = max(self._ahead_us + jump_us, 0.0)
                self._jumped_at = at
        if (at - self._jumped_at) * 1_000_000 > self._keep_us:
            self._ahead_us = 0.0
        self._looked = now_us, at
        return self._ahead_us

    def _forget(self, count: int) -> None:
        """Forget the jobs of all accounts that were not heard of for longest."""
        if count <= 0:
            return
        oldest = merge(*map(_by_age, self.accounts.values()), key=_seen_us)
        for account, key, _ in list(islice(oldest, count)):
            del account.jobs[key]
            _forget_in_file(account, key)
        self._count -= count
        self.statistics.forgotten_jobs += count


def _forget_in_file(account: Account, key: bytes) -> None:
    if key in account.places:
        account.changed.add(key)
    else:
        # It was never written, and won't be.
        account.changed.discard(key)


def _by_age(account: Account) -> Iterator[tuple[Account, bytes, int]]:
    for key, (_, _, seen_us, _) in account.jobs.items():
        yield account, key, seen_us


def _seen_us(job: tuple[Account, bytes, int]) -> int:
    return job[2]
