"""
What was read and given up: counted, told when it begins and when it is over.

Who drops what is decided in `buffer` and `writer`. Several threads come here,
but only where something is dropped, and none stays long.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Sequence

import msgspec
import structlog

from bridge.outbox.statistics import OutboxStatistics
from bridge.record import Loss, Record


__all__ = ["Dropped", "Losses"]

_log = structlog.get_logger("bridge.outbox")


class Dropped(msgspec.Struct):
    """
    What one step gave up.

    Attributes:
        records: How many records.
        previews: How many others only lost their preview.
        since_us: When the last record before the first dropped one was read;
            None if that isn't known.
        last_us: When the last dropped one was read.
    """

    records: int = 0
    previews: int = 0
    since_us: int | None = None
    last_us: int = 0

    def add(self, record: Record, since_us: int | None) -> None:
        """Count a record that is given up; `since_us` as in `since_us`."""
        if not self.records:
            self.since_us = since_us
        self.records += 1
        self.last_us = max(self.last_us, record.received_at_us)


class _Open(msgspec.Struct):
    """A loss that goes on."""

    number: int
    since_us: int | None
    records: int
    last_us: int


class Losses:
    """
    The losses of one process; at most one of a cause at a time.

    Args:
        statistics: Where drops are counted.
        on_loss: Is told of each when it begins and when it is over; must neither
            wait nor offer.

    Attributes:
        is_open: Whether any goes on.
    """

    def __init__(
        self, statistics: OutboxStatistics, on_loss: Callable[[Loss], None]
    ) -> None:
        self._statistics = statistics
        self._on_loss = on_loss
        self._open: dict[str, _Open] = {}
        self._count = 0
        # Beginning and end reach `on_loss` in this order, whoever notices them.
        self._lock = threading.Lock()
        self.is_open = False

    def note(self, cause: str, dropped: Dropped) -> None:
        """Count what was dropped; its loss begins or goes on."""
        with self._lock:
            self._statistics.dropped_previews += dropped.previews
            if dropped.records:
                self._statistics.dropped[cause] += dropped.records
                self._begin(cause, dropped)

    def begin(self, cause: str, since_us: int | None) -> None:
        """Begin a loss that lasts until `end`; how many records isn't known yet."""
        with self._lock:
            self._begin(cause, Dropped(since_us=since_us, last_us=sys.maxsize))

    def survive(self, records: Sequence[Record]) -> None:
        """End what is over, now that there is room again for these records."""
        with self._lock:
            for cause, loss in list(self._open.items()):
                for record in records:
                    if record.received_at_us >= loss.last_us:
                        self._end(cause, record.received_at_us)
                        break

    def end(self, cause: str, until_us: int, more: int = 0) -> None:
        """End the loss of a cause, if one goes on, of so many records more."""
        with self._lock:
            if cause in self._open:
                self._open[cause].records += more
                self._end(cause, until_us)

    def close(self, until_us: int) -> None:
        """End all of them: this process accepts nothing any more."""
        with self._lock:
            for cause in list(self._open):
                self._end(cause, until_us)

    def _begin(self, cause: str, dropped: Dropped) -> None:
        loss = self._open.get(cause)
        if loss is not None:
            loss.records += dropped.records
            loss.last_us = max(loss.last_us, dropped.last_us)
            # Older records may be given up after younger ones.
            if loss.since_us is not None and dropped.since_us is not None:
                loss.since_us = min(loss.since_us, dropped.since_us)
            return
        self._count += 1
        loss = self._open[cause] = _Open(
            self._count, dropped.since_us, dropped.records, dropped.last_us
        )
        self.is_open = True
        if dropped.records:
            _log.error("buffer.overflow", cause=cause)
        self._on_loss(Loss(loss.number, cause, loss.since_us, None, loss.records))

    def _end(self, cause: str, until_us: int) -> None:
        loss = self._open.pop(cause)
        self.is_open = bool(self._open)
        if loss.last_us != sys.maxsize:
            _log.info("buffer.has_room", cause=cause, dropped=loss.records)
        self._on_loss(Loss(loss.number, cause, loss.since_us, until_us, loss.records))
