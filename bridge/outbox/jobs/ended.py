"""
The jobs that have ended, in memory: nothing may follow their last record.

Eight bytes of each are kept, its digest, and which job ended before which. How this
outlives the process is the business of `ended_table`.
"""

from __future__ import annotations

import sys
import time
from array import array
from collections import deque
from collections.abc import Callable, Iterator
from math import inf
from struct import iter_unpack

from bridge.outbox.statistics import OutboxStatistics


__all__ = ["DIGEST_BYTES", "Ended", "Span"]

# Two of them choose a bucket, six stand in it. A new job is taken for one of two
# million others once in 1.5 * 10**12 times, since six bytes are found at any place of
# a bucket: at a million jobs a day once in 4,000 years. Its events are dead letters
# then.
DIGEST_BYTES = 8
_IN_BUCKET = 6
_BUCKETS = 1 << 16

# So many are forgotten at once, 1 ms of work, and no more than a hundredth of what is
# kept, in number or in time.
_SPAN_JOBS = 4096
_SPARE_SHARE = 100


class Span:
    """
    Jobs that ended one after the other, and are forgotten together.

    Attributes:
        buckets: Where the digest of each is, in the order of their ends.
        began_at: When the first of them ended, by the clock.
        ended_at: When the last of them did.
        row: The last row of the file that holds no younger job; 0 if none ends here.
    """

    __slots__ = ("began_at", "buckets", "ended_at", "row")

    def __init__(self, at: float) -> None:
        self.buckets = array("H")
        self.began_at = self.ended_at = at
        self.row = 0


class Ended:
    """
    A set of digests that forgets the oldest; for the outbox's thread.

    In a bucket digests stand in the order in which they came, so that the first one is
    the first to go.

    Args:
        max_jobs: At most so many; some more than must go at once.
        keep_seconds: Each is known for so long at least, if they aren't too many.
        statistics: Where they are counted.
        clock: Tells seconds and never jumps: a wall clock that does must not make
            anything forgotten.

    Attributes:
        unwritten: The digests of the last ones, those that no file has.
        gone_row: Rows of the file up to this one hold nothing that is known here.
    """

    def __init__(
        self,
        max_jobs: int = sys.maxsize,
        keep_seconds: float = inf,
        statistics: OutboxStatistics | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._max_jobs = max_jobs
        self._keep_seconds = keep_seconds
        self._statistics = statistics or OutboxStatistics()
        self._clock = clock
        self._span_jobs = max(min(_SPAN_JOBS, max_jobs // _SPARE_SHARE), 1)
        self._span_seconds = keep_seconds / _SPARE_SHARE
        self._buckets = [b""] * _BUCKETS
        self._spans: deque[Span] = deque()
        self._count = 0
        self.unwritten = bytearray()
        self.gone_row = 0

    def __len__(self) -> int:
        """How many are known."""
        return self._count

    def __contains__(self, digest: bytes) -> bool:
        """Whether a job has ended, as far as it is known."""
        return digest[2:] in self._buckets[digest[0] << 8 | digest[1]]

    def add(self, digests: bytes | bytearray) -> None:
        """Learn that jobs have ended just now: their digests, one after the other."""
        self.unwritten += digests
        self._add(digests, self._clock())
        self._bound()

    def expire(self) -> None:
        """Forget those that ended too long ago."""
        before = self._clock() - self._keep_seconds
        while self._spans and self._spans[0].ended_at < before:
            self._forget_oldest()
        self._statistics.ended_jobs = self._count

    # -- For the file ---------------------------------------------------------

    def restore(self, digests: bytes, age_seconds: float, row: int) -> None:
        """
        Learn what a row of a file tells; rows come in their order.

        Args:
            digests: One after the other.
            age_seconds: How long ago the last of them ended.
            row: The row's number.
        """
        self._add(digests, self._clock() - age_seconds)
        self._note_row(row)
        self._bound()

    def missing(self, digests: bytes) -> bytes:
        """Give those that aren't known."""
        starts = range(0, len(digests), DIGEST_BYTES)
        each = (digests[start : start + DIGEST_BYTES] for start in starts)
        return b"".join([digest for digest in each if digest not in self])

    def written(self, row: int) -> None:
        """Learn that all that was unwritten stands in a row now."""
        self.unwritten.clear()
        self._note_row(row)

    def rewritten(self, rows: list[int]) -> None:
        """Learn that another file has all spans, each in a row."""
        self.unwritten.clear()
        self.gone_row = 0
        for span, row in zip(self._spans, rows, strict=True):
            span.row = row

    def spans(self) -> Iterator[tuple[bytes, float]]:
        """Give the digests of each span, oldest first, and its age in seconds."""
        now, places = self._clock(), array("Q", bytes(8 * _BUCKETS))
        for span in self._spans:
            digests = bytearray()
            for number in span.buckets:
                place = places[number]
                places[number] = end = place + _IN_BUCKET
                digests += number.to_bytes(2)
                digests += self._buckets[number][place:end]
            yield bytes(digests), now - span.ended_at

    # -- Inside ---------------------------------------------------------------

    def _add(self, digests: bytes | bytearray, at: float) -> None:
        step = self._span_jobs * DIGEST_BYTES
        for start in range(0, len(digests), step):
            span = self._open_span(at)
            known, buckets = self._buckets, span.buckets
            for number, rest in iter_unpack(">H6s", digests[start : start + step]):
                known[number] += rest
                buckets.append(number)
        self._count += len(digests) // DIGEST_BYTES

    def _open_span(self, at: float) -> Span:
        """Give the span for jobs that ended then; it has room for a step of them."""
        span = self._spans[-1] if self._spans else None
        if (
            span is None
            or len(span.buckets) >= self._span_jobs
            or at - span.began_at > self._span_seconds
        ):
            span = Span(at)
            self._spans.append(span)
        span.ended_at = max(span.ended_at, at)
        return span

    def _note_row(self, row: int) -> None:
        if self._spans:
            self._spans[-1].row = row
        else:
            self.gone_row = row

    def _bound(self) -> None:
        while self._count > self._max_jobs:
            self._statistics.forgotten_ends += len(self._spans[0].buckets)
            self._forget_oldest()

    def _forget_oldest(self) -> None:
        span, buckets = self._spans.popleft(), self._buckets
        for number in span.buckets:
            buckets[number] = buckets[number][_IN_BUCKET:]
        self._count -= len(span.buckets)
        self.gone_row = max(self.gone_row, span.row)
        # The last ones are those that were not written.
        del self.unwritten[: -self._count * DIGEST_BYTES or None]
