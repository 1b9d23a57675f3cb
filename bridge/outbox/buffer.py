"""
The buffer between the reader and the outbox's thread, bounded by bytes.

The reader never waits: what finds no room is dropped and counted, the least
important first. Only this module knows what a record weighs in memory.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence

from bridge.events.record import Importance, Record, StoredRecord
from bridge.outbox.losses import Dropped


__all__ = ["Buffer", "total_weight", "weigh"]

# A Record with its key, tuple and bytes headers beside the value's own bytes,
# by sys.getsizeof on CPython 3.11, rounded up.
_RECORD_BYTES = 350

# A header of one record: its tuple and the bytes object's own header.
_HEADER_BYTES = 100

# From here on previews go: a buffer that the disk empties never comes so far, and
# events without previews find 4 MiB, 10,000 of them, in the quarter that is left.
_PREVIEWS_UP_TO = 3 / 4

# From here on the last events of jobs alone find room: 2 MiB, 5,000 of them.
_EVENTS_UP_TO = 7 / 8

# While the disk takes nothing, its thread keeps room for what is read meanwhile: it
# makes room between those two bounds, so that the reader seldom has to drop.
_CROWDED_AT = 13 / 16

# What the disk's thread may have in its hands: the rest can make room for last events
# meanwhile. Of 16 MiB this is what one transaction takes.
_IN_HANDS = 1 / 4

_Runs = list[tuple[Sequence[Record], int]]
_Lighten = Callable[[Record], Record | None]


def weigh(record: Record | StoredRecord) -> int:
    """Return what a record weighs in memory, in bytes."""
    return len(record.value) + _RECORD_BYTES + _weigh_extra(record)


def total_weight(records: Sequence[Record]) -> int:
    """Return what records weigh together: as `weigh`, at half of its cost."""
    weight = sum([len(record.value) for record in records])
    weight += _RECORD_BYTES * len(records)
    return weight + sum([_weigh_extra(record) for record in records if record.extra])


def _weigh_extra(record: Record | StoredRecord) -> int:
    return sum([_HEADER_BYTES + len(value) for _, value in record.extra])


class Buffer:
    """
    Runs of records on their way to disk.

    One thread puts, another one takes; a deque's ends are safe for that. Each side
    gives up what lies at its own end: the one that puts the newest records, the one
    that takes the oldest.

    Args:
        max_bytes: What the records in it may weigh.
        lighten: Gives a record without its preview, None if it has none.
    """

    def __init__(self, max_bytes: int, lighten: _Lighten) -> None:
        self._max_bytes = max_bytes
        self._previews_up_to = int(max_bytes * _PREVIEWS_UP_TO)
        self._events_up_to = int(max_bytes * _EVENTS_UP_TO)
        self._crowded_at = int(max_bytes * _CROWDED_AT)
        self._in_hands_bytes = int(max_bytes * _IN_HANDS)
        self._lighten = lighten
        self._runs: deque[tuple[Sequence[Record], int]] = deque()
        # Each counter has one writer, so that no lock is needed.
        self._put_bytes = 0
        self._taken_bytes = 0
        # Of the last record that was put.
        self._last_us: int | None = None
        # Held where one side looks at what the other one may touch as well: only
        # where the buffer is full, and for some milliseconds.
        self._lock = threading.Lock()
        # Whether there may be others than last events to give up.
        self._may_displace = True

    @property
    def size_bytes(self) -> int:
        """What the records weigh that were put and not yet released."""
        return self._put_bytes - self._taken_bytes

    @property
    def mark(self) -> int:
        """A place behind all that was put: see `has_passed`."""
        return self._put_bytes

    def has_passed(self, mark: int, in_hands: int) -> bool:
        """
        Whether what was put before a mark is released, or will be with `in_hands`.

        What is given up counts as released.
        """
        # Where the newest records were given up, the mark lies too far behind.
        return self._taken_bytes + in_hands >= mark or self.size_bytes <= in_hands

    @property
    def is_relaxed(self) -> bool:
        """Whether at least half of it is free again."""
        return 2 * self.size_bytes <= self._max_bytes

    @property
    def is_crowded(self) -> bool:
        """Whether `shed` should make room while nothing can be written."""
        return self.size_bytes > self._crowded_at

    def __bool__(self) -> bool:
        """Whether there is anything to take."""
        return bool(self._runs)

    # -- The reader's end -----------------------------------------------------

    def put(self, records: Sequence[Record]) -> Dropped | None:
        """
        Add records in order, as far as there is room for each.

        Args:
            records: Not changed by anybody from now on.

        Returns:
            What was given up, of these or of newer ones than the disk has seen;
            None if that is nothing.
        """
        if not records:
            return None
        weight = total_weight(records)
        size = self._put_bytes - self._taken_bytes
        if size + weight > self._previews_up_to:
            return self._squeeze(records)
        self._put_bytes += weight
        self._runs.append((records, weight))
        self._last_us = records[-1].received_at_us
        return None

    def _squeeze(self, records: Sequence[Record]) -> Dropped | None:
        """Put records one by one, each as its importance lets it."""
        dropped = Dropped()
        if self.size_bytes <= self._events_up_to:
            self._may_displace = True
        kept: list[Record] = []
        weight = 0
        for given in records:
            own = weigh(given)
            size = self.size_bytes + weight
            # As below: no preview can be too large for good.
            is_crowded = size and size + own > self._previews_up_to
            record = self._lightened(given, dropped) if is_crowded else given
            if record is None:
                continue
            if record is not given:
                own = weigh(record)
            if record.importance is Importance.TERMINAL:
                if size and size + own > self._max_bytes:
                    self._append(kept, weight)
                    kept, weight = [], 0
                    with self._lock:
                        size = self._displace(own, dropped)
                bound = self._max_bytes
            else:
                bound = self._events_up_to
            # A buffer that holds nothing takes one record of any size, so that
            # no record can be too large for it for good.
            if size and size + own > bound:
                dropped.add(record, kept[-1].received_at_us if kept else self._last_us)
                continue
            kept.append(record)
            weight += own
        self._append(kept, weight)
        return dropped or None

    def _append(self, records: list[Record], weight: int) -> None:
        if records:
            self._put_bytes += weight
            self._runs.append((records, weight))
            self._last_us = records[-1].received_at_us

    def _displace(self, wanted_bytes: int, dropped: Dropped) -> int:
        """
        Give up the newest records that aren't last events, for one that is.

        Returns:
            What the buffer holds now.
        """
        missing = self.size_bytes + wanted_bytes - self._max_bytes
        if not self._may_displace:
            return self.size_bytes
        runs: _Runs = []
        freed = seen = 0
        while freed < missing and self._runs:
            try:
                records, weight = self._runs.pop()
            except IndexError:
                # The other thread took the last ones.
                break
            seen += weight
            kept: list[Record] = []
            given_up: list[int] = []
            for place in range(len(records) - 1, -1, -1):
                record = records[place]
                if freed < missing and record.importance is not Importance.TERMINAL:
                    own = weigh(record)
                    freed += own
                    weight -= own
                    given_up.append(place)
                else:
                    kept.append(record)
            if given_up:
                self._note_displaced(records, given_up, dropped)
            if kept:
                kept.reverse()
                runs.append((kept, weight))
        self._runs.extend(reversed(runs))
        self._put_bytes -= freed
        # While the other thread holds most of it, there may be some in its hands.
        if freed < missing and 2 * seen >= self.size_bytes:
            self._may_displace = False
        return self.size_bytes

    @staticmethod
    def _note_displaced(
        records: Sequence[Record], places: list[int], dropped: Dropped
    ) -> None:
        """Count records of a run; of older ones only that they were read before."""
        first = min(places)
        before_us = records[0].received_at_us - 1
        since_us = records[first - 1].received_at_us if first else before_us
        for place in places:
            dropped.add(records[place], since_us)

    # -- The other end --------------------------------------------------------

    def take(self, max_rows: int, max_bytes: int) -> tuple[list[Record], int]:
        """
        Remove records from the front until a bound is reached.

        Args:
            max_rows: At most so many.
            max_bytes: They weigh no more, nor more than a quarter of the buffer,
                unless the first one alone does.

        Returns:
            The records and the weight that `release` must be told.
        """
        max_bytes = min(max_bytes, self._in_hands_bytes)
        taken: list[Record] = []
        size = 0
        while self._runs:
            try:
                records, weight = self._runs.popleft()
            except IndexError:
                # The reader is giving up the last ones: see `_displace`.
                break
            rows, room = max_rows - len(taken), max_bytes - size
            if len(records) > rows or weight > room:
                at_least = 0 if taken else 1
                kept, part = _fitting(records, rows, room, at_least)
                if kept < len(records):
                    self._runs.appendleft((records[kept:], weight - part))
                taken += records[:kept]
                return taken, size + part
            taken += records
            size += weight
        return taken, size

    def put_back(self, records: list[Record], weight: int) -> None:
        """Lay what `take` gave, and nobody released, in front again."""
        if records:
            self._runs.appendleft((records, weight))

    def release(self, size_bytes: int) -> None:
        """Give back the room of records that `take` gave and disk now has."""
        self._taken_bytes += size_bytes

    def shed(self, since_us: int | None, *, to_the_end: bool = False) -> Dropped:
        """
        Make room while nothing can be written: previews first, then events.

        The oldest go first: what is in front afterwards are last events of jobs.

        Args:
            since_us: When the last record was read that is on disk.
            to_the_end: Drop all that aren't last events.
        """
        dropped = Dropped()

        def spare(record: Record, before_us: int | None) -> Record | None:
            if record.importance is Importance.TERMINAL:
                return record
            dropped.add(record, since_us if before_us is None else before_us)
            return None

        enough_bytes = 0 if to_the_end else self._previews_up_to
        with self._lock:
            if not to_the_end:
                self._go_through(
                    lambda record, _: self._lightened(record, dropped),
                    enough_bytes,
                )
            self._go_through(spare, enough_bytes)
        return dropped

    def _go_through(
        self,
        change: Callable[[Record, int | None], Record | None],
        enough_bytes: int,
    ) -> None:
        """Change or drop records from the front until there is room."""
        runs: _Runs = []
        before_us: int | None = None
        while self.size_bytes > enough_bytes and self._runs:
            records, weight = self._runs.popleft()
            kept: list[Record] = []
            size = self.size_bytes
            for place, record in enumerate(records):
                if size <= enough_bytes:
                    kept += records[place:]
                    break
                changed = change(record, before_us)
                if changed is not record:
                    freed = weigh(record) - (weigh(changed) if changed else 0)
                    size -= freed
                    weight -= freed
                    self._taken_bytes += freed
                if changed is not None:
                    kept.append(changed)
                    before_us = changed.received_at_us
            if kept:
                runs.append((kept, weight))
        self._runs.extendleft(reversed(runs))

    # -- Both -----------------------------------------------------------------

    def lighten(self, records: Iterable[Record]) -> tuple[list[Record], Dropped]:
        """Give records without the previews that can go."""
        dropped = Dropped()
        lightened = [self._lightened(record, dropped) for record in records]
        return [record for record in lightened if record is not None], dropped

    def _lightened(self, record: Record, dropped: Dropped) -> Record | None:
        """Give what is left of a record where previews must go."""
        if record.importance is Importance.PICTURE:
            dropped.add(record, None)
            return None
        if record.importance is not Importance.PREVIEW:
            return record
        lighter = self._lighten(record)
        if lighter is None:
            return record
        dropped.previews += 1
        return lighter


def _fitting(
    records: Sequence[Record], max_rows: int, max_bytes: int, at_least: int
) -> tuple[int, int]:
    """Count the records from the front that keep two bounds, and weigh them."""
    count = size = 0
    for record in records[:max_rows]:
        weight = weigh(record)
        if size + weight > max_bytes and count >= at_least:
            break
        count, size = count + 1, size + weight
    return count, size
