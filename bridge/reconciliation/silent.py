"""
Which jobs of an account are asked about without a gap, because they are silent.

Owns the waits. The socket never tells that a job has failed, and soketi drops what a
slow reader doesn't take: such jobs stay in flight for ever, unless dryAPI is asked.
Most silent jobs, however, wait in a queue of dryAPI's, so that each is asked about ever
more rarely.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from bridge.outbox.values import JobInFlight
from bridge.reconciliation.order import Queue, rank


__all__ = ["Silent"]

# Four times a day: a job is forgotten by default when it was silent for a day.
_MOST_SECONDS: Final = 86_400.0 / 4

# Once may be a job that dryAPI's database hasn't got yet.
_MOST_NOT_FOUND: Final = 2

_US_PER_SECOND: Final = 1_000_000


class _Watched:
    """
    A silent job, or one that was asked about.

    Attributes:
        job: As it was heard of last.
        due: When it is asked about next.
        wait_seconds: How long it is left alone after that.
        tries: How often it was asked about.
        not_found: How often dryAPI didn't know it; it is left alone after two times.
    """

    __slots__ = ("due", "job", "not_found", "tries", "wait_seconds")

    def __init__(self, job: JobInFlight, due: float, wait_seconds: float) -> None:
        self.job = job
        self.due = due
        self.wait_seconds = wait_seconds
        self.tries = 0
        self.not_found = 0


class Silent:
    """
    The silent jobs of one account.

    Args:
        client_id: Whose.
        queue: Where those are put that are to be asked about now.
        after_seconds: How long a job says nothing before it is silent.
    """

    def __init__(self, client_id: str, queue: Queue, after_seconds: float) -> None:
        self._client_id = client_id
        self._queue = queue
        self._after_seconds = after_seconds
        self._watched: dict[str, _Watched] = {}

    def job(self, request_id: str) -> JobInFlight | None:
        """Give a job as it was heard of last; None if it isn't watched."""
        watched = self._watched.get(request_id)
        return None if watched is None else watched.job

    def look(self, jobs: Iterable[JobInFlight], now_us: int, at: float) -> None:
        """
        Find out which jobs are silent, and which no longer are.

        Args:
            jobs: Jobs of the account.
            now_us: Now, by the clock of their times.
            at: Now, by the clock of `asked`.
        """
        before_us = now_us - self._after_seconds * _US_PER_SECOND
        for job in jobs:
            watched = self._watched.get(job.request_id)
            if watched is not None and watched.job.last_seen_us != job.last_seen_us:
                self.forget(job.request_id)
                watched = None
            if watched is None:
                if job.last_seen_us > before_us:
                    continue
                watched = _Watched(job, at, self._after_seconds)
                self._watched[job.request_id] = watched
            self._put_if_due(watched, at)

    def keep(self, jobs: Iterable[JobInFlight]) -> None:
        """
        Let go of the jobs that are no longer in flight.

        Args:
            jobs: All jobs of the account.
        """
        for request_id in self._watched.keys() - {job.request_id for job in jobs}:
            self.forget(request_id)

    def _put_if_due(self, watched: _Watched, at: float) -> None:
        key = (self._client_id, watched.job.request_id)
        if watched.due <= at and watched.not_found < _MOST_NOT_FOUND:
            self._queue.put(key, rank(watched.job, watched.tries))

    def asked(self, job: JobInFlight, at: float, *, is_hopeless: bool = False) -> None:
        """
        Note that dryAPI has answered about a job that goes on, and leave it alone.

        Args:
            job: The job as it was when it was asked about.
            at: Now.
            is_hopeless: The answer was that it isn't known, or is of no use.
        """
        watched = self._watched.get(job.request_id)
        if watched is None:
            watched = _Watched(job, at, self._after_seconds)
            self._watched[job.request_id] = watched
        watched.tries += 1
        watched.not_found += is_hopeless
        watched.due = at + watched.wait_seconds
        longer = min(2 * watched.wait_seconds, _MOST_SECONDS)
        watched.wait_seconds = max(watched.wait_seconds, longer)
        self._queue.discard((self._client_id, job.request_id))

    def not_answered(self, request_id: str) -> None:
        """Note that there was no answer about a job, and put it behind the others."""
        watched = self._watched.get(request_id)
        if watched is not None:
            watched.tries += 1
            self._put_if_due(watched, watched.due)

    def forget(self, request_id: str) -> None:
        """Let go of a job that was heard of, or has ended."""
        self._watched.pop(request_id, None)
        self._queue.discard((self._client_id, request_id))
