"""
Which job is asked about next.

Owns the order, and nothing of time or calls. A day's budget is 200 calls for many
accounts, and a gap can leave thousands of jobs: what is asked first is what has most
likely finished, so that each call writes as many ends as it can.

A job that dryAPI didn't know (404), or of which it said that it still runs, is not put
back for the same gap. The first is gone for dryAPI, and asking again changes nothing.
The second was running *after* the gap, so its end is still to come: the socket brings
it, and another call would take the place of a job that may have ended unheard.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from heapq import heapify, heappop, heappush
from typing import Final, TypeAlias, TypeVar

from bridge.outbox.values import JobInFlight


__all__ = ["Key", "Queue", "Rank", "portions", "rank"]

_T = TypeVar("_T")

Key: TypeAlias = tuple[str, str]
"""A job: the `client_id` of its account, and its `request_id`, which two may share."""

Rank: TypeAlias = tuple[int, int, float, int]
"""How early a job is asked about: the lowest is first."""

# A running job is nearer to its end than one that has only begun.
_STAGES: Final = {"in_progress": 0, "processing": 1}

# What is done with so many jobs takes some milliseconds: then others have their turn.
_PORTION: Final = 500

# Entries of the heap that lead nowhere may be as many as those that do, and this more.
_SPARE: Final = 1000


def rank(job: JobInFlight, tries: int = 0) -> Rank:
    """
    Say how early a job is asked about.

    Args:
        job: What is known of it.
        tries: How often it was asked about without an answer. Each puts it behind all
            that weren't: one job that the endpoint can't answer must not hold up the
            others.

    Returns:
        The lower, the earlier: `in_progress` before the rest, the highest progress
        first, then the one that was heard of longest ago.
    """
    progress = -1.0 if job.progress is None else float(job.progress)
    stage = _STAGES.get(job.status, len(_STAGES))
    return tries, stage, -progress, job.last_seen_us


class Queue:
    """The jobs that wait to be asked about; each is in it once."""

    def __init__(self) -> None:
        self._heap: list[tuple[Rank, Key]] = []
        self._ranks: dict[Key, Rank] = {}
        self._counts: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._ranks)

    def __contains__(self, key: Key) -> bool:
        return key in self._ranks

    def put(self, key: Key, rank: Rank) -> None:
        """Add a job, or give one that is there another place."""
        before = self._ranks.get(key)
        if before == rank:
            return
        self._counts[key[0]] += before is None
        self._ranks[key] = rank
        heappush(self._heap, (rank, key))
        self._clear_out()

    def discard(self, key: Key) -> None:
        """Take a job out, if it is there."""
        if self._ranks.pop(key, None) is not None:
            self._counts[key[0]] -= 1
            self._clear_out()

    def count(self, client_id: str) -> int:
        """Say how many jobs of an account are in it."""
        return self._counts[client_id]

    def first(self) -> Key | None:
        """Give the job that is asked about next, and leave it in; None if none is."""
        while self._heap:
            rank, key = self._heap[0]
            if self._ranks.get(key) == rank:
                return key
            heappop(self._heap)
        return None

    def keys(self) -> list[Key]:
        """Give all jobs, in no order."""
        return list(self._ranks)

    def _clear_out(self) -> None:
        """Let go of entries that lead nowhere, before they are many to pass over."""
        if len(self._heap) > 2 * len(self._ranks) + _SPARE:
            self._heap = [(rank, key) for key, rank in self._ranks.items()]
            heapify(self._heap)


def portions(items: Sequence[_T]) -> Iterator[Sequence[_T]]:
    """Part many jobs, so that the loop isn't held up by all of them at once."""
    for begin in range(0, len(items), _PORTION):
        yield items[begin : begin + _PORTION]
