"""
What readers of every offset get: what is read, its parts, how far it has come.

Shapes alone: how they come about stands in `scanning`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TypeAlias

import msgspec

from bridge.kafka.reading.batches import ScannedRecord


__all__ = ["Begin", "Extent", "Progress", "Scanned"]


class Extent(msgspec.Struct, frozen=True):
    """
    What of a partition is read.

    Attributes:
        log_start: The first offset that the log still has.
        start: The first offset to read.
        end: The offset behind the last one to read.
        log_end: The offset behind the last record, committed or not.
    """

    log_start: int
    start: int
    end: int
    log_end: int


class Progress(msgspec.Struct, frozen=True):
    """
    How far a scan has come.

    Attributes:
        done: Offsets that were read, or found empty.
        total: Offsets that are to be read.
        size_bytes: None.
    """

    done: int
    total: int
    size_bytes: int = 0


class Scanned(msgspec.Struct, frozen=True):
    """
    A part of one partition.

    Attributes:
        partition: Which.
        records: Its records, in order; made while they are taken, all of them before
            the next part.
        absent: Tells, after that, how many offsets before the part's end were not
            read or hold nothing.
        gone_before: Records below this offset were deleted: retention, or a
            person who called for it.
    """

    partition: int
    records: Iterable[ScannedRecord]
    absent: Callable[[], int]
    gone_before: int


# Is told what will be read, and gives what takes the parts.
Begin: TypeAlias = Callable[[Mapping[int, Extent]], Callable[[Scanned], None]]
