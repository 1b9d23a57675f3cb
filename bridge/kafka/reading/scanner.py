"""
How a proof reads a topic: every offset once, from a start to a known end.

Owns the trio side; `scanning` has the other. Values are not given out, but what
stands at each offset is: a record, a marker, or nothing.
"""

from __future__ import annotations

from collections.abc import Callable

import trio

from bridge.kafka.handover import Handover
from bridge.kafka.loop import LoopThread
from bridge.kafka.reading.batches import ScannedRecord
from bridge.kafka.reading.scanned import Begin, Extent, Progress, Scanned
from bridge.kafka.reading.scanning import Scanning
from bridge.settings import KafkaSettings


__all__ = ["Begin", "Extent", "Progress", "Scanned", "ScannedRecord", "scan"]


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

    Memory stays bounded by two fetches per broker (8 MiB each), whatever the topic
    has.

    Args:
        settings: How to reach the brokers.
        topic: What to read; it must exist.
        begin: Is given what will be read, by partition, and gives what takes the
            parts. Both are called in the reading thread and hold it up; what they
            raise ends the scan.
        since_ms: Where to start, milliseconds since the epoch; None starts at the
            beginning.
        committed_only: Whether records of aborted transactions, and what stands
            behind an open one, are left out.
        on_progress: Is told, in the calling task, how far it has come.

    Raises:
        KafkaUnreachableError: No broker answers, at the start or for a minute.
        KafkaRefusedError: The topic is missing or may not be read, or the
            credentials are refused.
        KafkaError: What Kafka answers can't be used.
        ConfigError: A certificate or key can't be used.
    """
    # Progress takes no room: the thread never waits for this task.
    handover: Handover[Progress] = Handover(1)
    thread = LoopThread(
        "bridge-kafka-scanner",
        handover,
        lambda: Scanning(
            settings,
            topic,
            since_ms=since_ms,
            committed_only=committed_only,
            begin=begin,
            handover=handover,
        ).run(),
    )
    thread.start()
    try:
        while True:
            # The thread has its own deadlines.
            on_progress(await handover.get())
    except trio.EndOfChannel:
        return
    finally:
        await thread.stop()
