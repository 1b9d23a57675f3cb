"""
Reading a topic to its end as it is at the start.

What the records mean is up to the caller.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence

import trio

from bridge.kafka.connection import silence
from bridge.kafka.reader import ConsumedRecord, Edge, PartitionId, Start, TopicReader
from bridge.kafka.scan import Progress
from bridge.settings import KafkaSettings


__all__ = ["OnProgress", "Take", "place", "read_all", "read_through"]

# Accepts records in order per partition; True once they are enough.
Take = Callable[[Sequence[ConsumedRecord]], Awaitable[bool | None]]
OnProgress = Callable[[Progress], None]

# As in `bridge.kafka.scan`: an election takes seconds; a longer silence is a failure.
_SILENT_SECONDS = 60.0


def place(record: ConsumedRecord) -> str:
    """Return where a record is: topic-partition@offset."""
    return f"{record.topic}-{record.partition}@{record.offset}"


async def read_through(  # noqa: PLR0913 - each is one independent choice of the caller
    settings: KafkaSettings,
    topic: str,
    take: Take,
    *,
    start: Start = Edge.BEGINNING,
    ends: Mapping[PartitionId, int] | None = None,
    on_progress: OnProgress = lambda _progress: None,
) -> tuple[dict[PartitionId, int], dict[PartitionId, int]]:
    """
    Read committed records of one topic, until the ends or until it is enough.

    Without `ends` they are those that the topic has now. Returns the first offsets that
    were not read, and the ends, both by partition.

    Raises:
        KafkaUnreachableError: No broker answers, at the start or for a minute.
        KafkaRefusedError: The topic is missing or may not be read, or the
            credentials are refused.
        KafkaError: What Kafka answers can't be used.
        ConfigError: A certificate or key can't be used.
    """
    async with TopicReader(settings, [topic], start=start) as reader:
        ends = dict(reader.ends if ends is None else ends)
        positions = _within(reader.positions, ends)
        left = total = sum(ends.values()) - sum(positions.values())
        on_progress(Progress(0, total))
        moved_at = trio.current_time()
        while left:
            with trio.move_on_at(moved_at + _SILENT_SECONDS) as scope:
                run = await reader.receive_run()
            if scope.cancelled_caught:
                raise silence(settings, topic, _SILENT_SECONDS)
            wanted = [
                one for one in run if one.offset < ends.get((topic, one.partition), 0)
            ]
            positions = _within(reader.positions, ends)
            before, left = left, sum(ends.values()) - sum(positions.values())
            if run or left != before:
                on_progress(Progress(total - left, total))
                if wanted and await take(wanted):
                    break
                # Now: the time that `take` took isn't the broker's.
                moved_at = trio.current_time()
    return positions, ends


async def read_all(
    settings: KafkaSettings,
    topic: str,
    take: Callable[[ConsumedRecord], None],
    *,
    since_ms: int | None = None,
    on_progress: OnProgress = lambda _progress: None,
) -> None:
    """
    Read each record as young as `since_ms`, to the ends that the topic has now.

    Raises as `read_through` does.
    """

    async def take_young(run: Sequence[ConsumedRecord]) -> None:
        for record in run:
            # Older ones may follow the first of that age.
            if since_ms is None or record.timestamp_ms >= since_ms:
                take(record)

    start = Edge.BEGINNING if since_ms is None else since_ms
    await read_through(
        settings, topic, take_young, start=start, on_progress=on_progress
    )


def _within(
    positions: Mapping[PartitionId, int], ends: Mapping[PartitionId, int]
) -> dict[PartitionId, int]:
    """Return how far it was read, but not behind the ends."""
    return {
        partition: min(positions.get(partition, 0), end)
        for partition, end in ends.items()
    }
