"""
Reading a topic to an end that is known at the start.

Owns when that is over, and how long nothing may come before it has failed. What
the records mean is for those who take them.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence

import trio

from bridge.kafka.connection import silence
from bridge.kafka.reader import ConsumedRecord, Edge, Lane, Start, TopicReader
from bridge.kafka.scan import Progress
from bridge.settings import KafkaSettings


__all__ = ["OnProgress", "Take", "nobody_watches", "read_through"]

# Takes records in order per partition; tells whether they are enough.
Take = Callable[[Sequence[ConsumedRecord]], Awaitable[bool]]
OnProgress = Callable[[Progress], None]

# As for a proof: an election takes seconds, and what can't go on for longer has
# failed.
_SILENT_SECONDS = 60.0


def nobody_watches(_progress: Progress) -> None:
    """Pass over how far it has come."""


async def read_through(  # noqa: PLR0913 - each is one independent choice of the caller
    settings: KafkaSettings,
    topic: str,
    take: Take,
    *,
    start: Start = Edge.BEGINNING,
    ends: Mapping[Lane, int] | None = None,
    on_progress: OnProgress = nobody_watches,
) -> tuple[dict[Lane, int], dict[Lane, int]]:
    """
    Read committed records of one topic, until the ends or until it is enough.

    Args:
        settings: How to reach the brokers.
        topic: What to read; it must exist.
        take: Is given each run of records, those behind the ends left out.
        start: Where to start.
        ends: Where to stop; None for the ends that the topic has now.
        on_progress: Is told how far it has come.

    Returns:
        The first offsets that were not read, and the ends, both by lane.

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
        left = total = _left(positions, ends)
        on_progress(Progress(0, total))
        moved_at = trio.current_time()
        while left:
            with trio.move_on_at(moved_at + _SILENT_SECONDS) as scope:
                run = await reader.receive_run()
            if scope.cancelled_caught:
                raise silence(settings, topic, _SILENT_SECONDS)
            wanted = [one for one in run if one.offset < ends.get(_lane(one), 0)]
            positions = _within(reader.positions, ends)
            if run or _left(positions, ends) != left:
                left = _left(positions, ends)
                on_progress(Progress(total - left, total))
                if wanted and await take(wanted):
                    break
                # Now: what the taking took is none of the broker's time.
                moved_at = trio.current_time()
    return positions, ends


def _lane(record: ConsumedRecord) -> Lane:
    return record.topic, record.partition


def _within(positions: Mapping[Lane, int], ends: Mapping[Lane, int]) -> dict[Lane, int]:
    """Give where reading stands, but not behind the ends."""
    return {lane: min(positions.get(lane, 0), end) for lane, end in ends.items()}


def _left(positions: Mapping[Lane, int], ends: Mapping[Lane, int]) -> int:
    return sum(end - positions[lane] for lane, end in ends.items())
