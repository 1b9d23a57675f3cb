"""
What was read and given up: counted, told when it begins and when it is over.

Who drops what is decided in `buffer` and `writer`. Several threads come here,
but only where something is dropped, and none stays long.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Self

import msgspec
import structlog

from bridge.events.record import Importance, Record
from bridge.outbox.records import Loss
from bridge.outbox.statistics import OutboxStatistics
from bridge.outbox.tallies import Cell


__all__ = ["Dropped", "Losses", "Share"]

_log = structlog.get_logger("bridge.outbox")

# For so long nothing must be dropped before a loss is over. A flood fills and empties
# the buffer again and again, 118 times in 8 s as measured: that is one loss.
_CALM_SECONDS = 1.0


class Share(msgspec.Struct):
    """
    What was given up of one account's records.

    Attributes:
        records: How many.
        since_us: When the last record before the first dropped one was read,
            whosever; None if that isn't known.
        last_us: When the last dropped one was read.
    """

    records: int
    since_us: int | None
    last_us: int

    def add(self, records: int, since_us: int | None, last_us: int) -> None:
        """Count records more; older ones may be given up after younger ones."""
        if self.since_us is not None:
            # A begin that isn't known may be any.
            self.since_us = None if since_us is None else min(self.since_us, since_us)
        self.records += records
        self.last_us = max(self.last_us, last_us)


class Dropped(msgspec.Struct):
    """
    What one step gave up.

    Attributes:
        previews: How many records only lost their preview.
        pictures: How many records of previews alone; no event is lost with them.
        shares: What was given up of the others, by `ce_source`.
        cells: How many records of both, by their kind and origin.
    """

    previews: int = 0
    pictures: int = 0
    shares: dict[str, Share] = msgspec.field(default_factory=dict)
    cells: dict[Cell, int] = msgspec.field(default_factory=dict)

    @classmethod
    def of(cls, records: Iterable[Record], since_us: int | None) -> Self:
        """Count records that are given up together; `since_us` as in `Share`."""
        dropped = cls()
        for record in records:
            dropped.add(record, since_us)
        return dropped

    @property
    def records(self) -> int:
        """How many records beside those of previews, of all accounts."""
        return sum([share.records for share in self.shares.values()])

    def __bool__(self) -> bool:
        """Whether anything was given up."""
        return bool(self.shares or self.previews or self.pictures)

    def add(self, record: Record, since_us: int | None) -> None:
        """Count a record that is given up; `since_us` as in `Share`."""
        envelope = record.envelope
        cell = envelope.kind, envelope.origin
        self.cells[cell] = self.cells.get(cell, 0) + 1
        if record.importance is Importance.PICTURE:
            self.pictures += 1
            return
        ce_source = envelope.ce_source
        share = self.shares.get(ce_source)
        if share is None:
            self.shares[ce_source] = Share(1, since_us, record.received_at_us)
        else:
            share.add(1, since_us, record.received_at_us)


class _Open(msgspec.Struct):
    """
    A loss that goes on.

    Attributes:
        number: As in `Loss`.
        share: What it is of.
        until_us: When the first record was read that was kept again: it is over, if
            nothing more is dropped. None if there was none yet.
    """

    number: int
    share: Share
    until_us: int | None = None


class Losses:
    """
    The losses of one process; at most one of a cause and an account at a time.

    A drop begins the loss of its account. The first record that is kept again, of
    whatever account, is its end, which is told when nothing at all has been dropped for
    a second: see `settle`.

    Args:
        statistics: Where drops are counted.
        on_loss: Is told of each when it begins and when it is over; must neither
            wait nor offer.

    Attributes:
        await_record: Whether any ends with the next record that is kept.
    """

    def __init__(
        self, statistics: OutboxStatistics, on_loss: Callable[[Loss], None]
    ) -> None:
        self._statistics = statistics
        self._on_loss = on_loss
        # By cause and `ce_source`, which is None for a loss of any account.
        self._open: dict[tuple[str, str | None], _Open] = {}
        # By cause, while losses of accounts are open: what all of them have lost.
        self._lost: dict[str, int] = {}
        self._count = 0
        # When there was a drop last, or a record that was kept again.
        self._moved_at = 0.0
        # Beginning and end reach `on_loss` in this order, whoever notices them.
        self._lock = threading.Lock()
        self.await_record = False

    def note(self, cause: str, dropped: Dropped) -> None:
        """Count what was dropped; the losses of its accounts begin or go on."""
        with self._lock:
            self._statistics.dropped_previews += dropped.previews
            self._statistics.dropped_pictures += dropped.pictures
            self._statistics.tallies.drop(dropped.cells)
            if not dropped.shares:
                return
            self._moved_at = time.monotonic()
            self._statistics.dropped[cause] += dropped.records
            of_any = self._open.get((cause, None))
            for ce_source, share in dropped.shares.items():
                if of_any is None:
                    self._drop(cause, ce_source, share)
                else:
                    of_any.share.add(share.records, share.since_us, share.last_us)

    def begin(self, cause: str, since_us: int | None) -> None:
        """Begin a loss of any account, until `end`; how many records isn't known."""
        with self._lock:
            loss = self._open.get((cause, None))
            if loss is None:
                self._begin(cause, None, Share(0, since_us, 0))
            elif since_us is not None and loss.share.since_us is not None:
                loss.share.since_us = min(loss.share.since_us, since_us)

    def survive(self, records: Sequence[Record]) -> None:
        """Find ends, now that there is room again for these records."""
        with self._lock:
            self.await_record = False
            for (_, ce_source), loss in self._open.items():
                if ce_source is None or loss.until_us is not None:
                    continue
                for record in records:
                    if record.received_at_us >= loss.share.last_us:
                        loss.until_us = record.received_at_us
                        self._moved_at = time.monotonic()
                        break
                else:
                    self.await_record = True

    def settle(self) -> None:
        """Tell of those that are over, once it has been calm; to be called often."""
        if not self._open or time.monotonic() - self._moved_at < _CALM_SECONDS:
            return
        with self._lock:
            # Somebody may have dropped a record before the lock was free.
            if time.monotonic() - self._moved_at < _CALM_SECONDS:
                return
            for (cause, ce_source), loss in list(self._open.items()):
                if loss.until_us is not None:
                    self._end(cause, ce_source, loss.until_us)

    def end(self, cause: str, until_us: int, more: int = 0) -> None:
        """End what `begin` began, if it goes on, of so many records more."""
        with self._lock:
            loss = self._open.get((cause, None))
            if loss is not None:
                loss.share.records += more
                self._end(cause, None, until_us)

    def close(self, until_us: int) -> None:
        """End all of them: this process accepts nothing any more."""
        with self._lock:
            for (cause, ce_source), loss in list(self._open.items()):
                end_us = until_us if loss.until_us is None else loss.until_us
                self._end(cause, ce_source, end_us)
            self.await_record = False

    def _drop(self, cause: str, ce_source: str, share: Share) -> None:
        self.await_record = True
        loss = self._open.get((cause, ce_source))
        if loss is not None:
            loss.share.add(share.records, share.since_us, share.last_us)
            loss.until_us = None
            self._lost[cause] += share.records
            return
        if cause not in self._lost:
            self._lost[cause] = 0
            _log.error("buffer.overflow", cause=cause)
        self._lost[cause] += share.records
        # Whoever dropped it may go on reading its own.
        self._begin(cause, ce_source, msgspec.structs.replace(share))

    def _begin(self, cause: str, ce_source: str | None, share: Share) -> None:
        self._count += 1
        loss = self._open[cause, ce_source] = _Open(self._count, share)
        self._tell(cause, ce_source, loss, None)

    def _end(self, cause: str, ce_source: str | None, until_us: int) -> None:
        loss = self._open.pop((cause, ce_source))
        if ce_source is not None and not self._is_lossy(cause):
            _log.info("buffer.has_room", cause=cause, dropped=self._lost.pop(cause))
        self._tell(cause, ce_source, loss, until_us)

    def _is_lossy(self, cause: str) -> bool:
        """Whether a loss of an account is open."""
        return any(
            cause == of_one and ce_source is not None
            for of_one, ce_source in self._open
        )

    def _tell(
        self, cause: str, ce_source: str | None, loss: _Open, until_us: int | None
    ) -> None:
        share = loss.share
        self._on_loss(
            Loss(
                number=loss.number,
                cause=cause,
                ce_source=ce_source,
                since_us=share.since_us,
                until_us=until_us,
                records=share.records,
            )
        )
