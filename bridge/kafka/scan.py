"""
Reads a topic to verify it: every record once, from a start to the current ends.

Owns the thread that reads. It returns no values, but which offset had which record, and
which records were deleted while they were being read.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

import msgspec
import trio

from bridge.kafka.connection import partitions_of
from bridge.kafka.log import Bounds, Log, translated
from bridge.kafka.loop import LoopThread
from bridge.kafka.requests import EARLIEST, LATEST, may_be_compacted
from bridge.settings import KafkaSettings


__all__ = ["Begin", "Extent", "Progress", "ScannedRecord", "Take", "scan"]

# An election takes seconds; a proof that can't go on for longer has failed.
SILENT_SECONDS = 60.0
# A display can't use more, and each wakes another thread.
_PROGRESS_SECONDS = 0.1

# (offset, key, headers). A tuple: a struct of a record takes longer to make.
ScannedRecord: TypeAlias = tuple[int, bytes | None, dict[str, bytes | None]]

# Takes a partition's next records in order, and the offset below which records of it
# were deleted: by retention, or by a person who called for it.
Take: TypeAlias = Callable[[int, Sequence[ScannedRecord], int], None]


class Extent(msgspec.Struct, frozen=True):
    """The offsets that are read of a partition, and those that its log has."""

    log_start: int
    start: int
    end: int
    # Behind the last record, committed or not.
    log_end: int


# Gets what will be read, by partition, and whether compaction may have left holes in
# it; gives what takes the records.
Begin: TypeAlias = Callable[[Mapping[int, Extent], bool], Take]


class Progress(msgspec.Struct, frozen=True):
    """How many offsets were read, or found empty, of how many."""

    done: int
    total: int


async def scan(  # noqa: PLR0913 - each is one independent choice of the caller
    settings: KafkaSettings,
    topic: str,
    begin: Begin,
    *,
    since_ms: int | None = None,
    committed_only: bool = True,
    on_progress: Callable[[Progress], None] = lambda _progress: None,
) -> None:
    """
    Read one topic up to the ends that it has now.

    Memory stays bounded by two fetches per broker (8 MiB each).

    Args:
        settings: How to reach the brokers.
        topic: What to read; it must exist.
        begin: See `Begin`. It and what it gives are called in the reading thread,
            because another one would wait for its turn at the interpreter most of the
            time; what they raise ends the scan.
        since_ms: Where to start, milliseconds since the epoch, if not at the beginning.
        committed_only: Whether records of aborted and open transactions, and what is
            behind an open one, are left out.
        on_progress: Gets, in the calling task, how far it has come.

    Raises:
        KafkaError: Why the topic can't be read.
        ConfigError: A certificate or key can't be used.
    """
    # Progress has no size: the thread never waits for this task.
    thread: LoopThread[Progress] = LoopThread("bridge-kafka-scanner")

    async def work() -> None:
        async with (
            translated(settings, [topic]),
            Log(settings, topic, SILENT_SECONDS) as log,
        ):
            async with asyncio.timeout(settings.start_timeout_seconds):
                partitions = await partitions_of(settings, log.client, [topic])
                numbers = [partition.partition for partition in partitions]
                extents = await _extents(log, numbers, since_ms, committed_only)
                may_be = await may_be_compacted(log.client, topic)
            take = begin(extents, may_be)
            await _read(log, extents, take, thread.put, aborted=not committed_only)

    thread.start(work)
    try:
        while True:
            # The thread has its own deadlines.
            on_progress(await thread.get())
    except trio.EndOfChannel:
        return
    finally:
        await thread.stop()


async def _extents(
    log: Log,
    numbers: Sequence[int],
    since_ms: int | None,
    committed_only: bool,  # noqa: FBT001 - one of Kafka's two isolation levels
) -> dict[int, Extent]:
    """Find out what there is to read; the ends are asked for last."""
    log_starts = await log.ask(numbers, EARLIEST)
    firsts = log_starts if since_ms is None else await log.ask(numbers, since_ms)
    ends = await log.ask(numbers, LATEST, committed_only=committed_only)
    log_ends = await log.ask(numbers, LATEST)
    extents = {}
    for number, log_start in log_starts.items():
        end, first = ends[number], firsts[number]
        # -1: nothing is as young as that.
        start = end if first < 0 else min(max(first, log_start), end)
        extents[number] = Extent(log_start, start, end, log_ends[number])
    return dict(sorted(extents.items()))


async def _read(
    log: Log,
    extents: Mapping[int, Extent],
    take: Take,
    progress: Callable[[Progress], None],
    *,
    aborted: bool,
) -> None:
    log_starts = {number: one.log_start for number, one in extents.items()}
    positions = {number: one.start for number, one in extents.items()}
    before = sum(positions.values())
    total = sum(one.end for one in extents.values()) - before
    ends = {number: Bounds(one.start, one.end) for number, one in extents.items()}
    tell_at = 0.0
    async for number, records in log.records(
        positions.copy(), ends, aborted=aborted, trimmed=log_starts.__setitem__
    ):
        taken = [(one.offset, one.key, dict(one.headers)) for one in records]
        take(number, taken, log_starts[number])
        positions[number] = taken[-1][0] + 1
        now = time.monotonic()
        if now >= tell_at:
            tell_at = now + _PROGRESS_SECONDS
            progress(Progress(sum(positions.values()) - before, total))
    for number, log_start in log_starts.items():
        # What went with the last records, none came after.
        take(number, [], log_start)
    progress(Progress(total, total))
