"""
How commands and pages of the bridge read topics.

Owns the trio side of reading: tail, dead letters, gaps and the board all read
through `TopicReader`. What a record means is its reader's business. A proof,
which needs no values but all the offsets, reads through `scanner`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Self

from bridge.kafka.handover import Handover
from bridge.kafka.loop import LoopThread
from bridge.kafka.reading.consumed import ConsumedRecord, Delivery, Edge, Lane, Start
from bridge.kafka.reading.fetching import Fetching
from bridge.settings import KafkaSettings


__all__ = ["ConsumedRecord", "Edge", "Lane", "Start", "TopicReader"]

# Some thousand records with headers, or 180 previews of 90 KB: enough to keep
# a fast reader busy while the next fetch is under way.
_BUFFER_BYTES = 16 * 1024 * 1024


class TopicReader:
    """
    Reads topics as a consumer without group, committed records only.

    `async with` connects and, at its end, stops the thread, also when it is
    cancelled. It is read by one task. A reader that lags holds the thread back;
    memory stays bounded by the buffer and one fetch per broker (8 MiB).
    While no broker answers it tries again; `silent_since_seconds` tells.

    Args:
        settings: How to reach the brokers.
        topics: What to read; all of them must exist.
        start: Where to start: an edge, milliseconds since the epoch, or offsets by
            (topic, partition). A partition that appears later, or that has no
            offset, is read from its beginning.
        buffer_bytes: How much waits for the reader before fetching pauses.

    Raises:
        KafkaUnreachableError: On entry, no broker answers.
        KafkaRefusedError: On entry or while reading, a topic is missing or may
            not be read, or the credentials are refused.
        KafkaError: What Kafka answers can't be used.
        ConfigError: On entry, a certificate or key can't be used.
    """

    def __init__(
        self,
        settings: KafkaSettings,
        topics: Sequence[str],
        *,
        start: Start = Edge.END,
        buffer_bytes: int = _BUFFER_BYTES,
    ) -> None:
        self._settings = settings
        self._topics = tuple(topics)
        self._start = start
        self._buffer_bytes = buffer_bytes
        self._handover: Handover[Delivery] | None = None
        self._thread: LoopThread[Delivery] | None = None
        self._known = Delivery([], 0, {}, {}, None)

    async def __aenter__(self) -> Self:
        handover = self._handover = Handover(self._buffer_bytes)
        self._thread = LoopThread(
            "bridge-kafka-reader",
            handover,
            lambda: Fetching(self._settings, self._topics, self._start, handover).run(),
        )
        self._thread.start()
        try:
            # The thread has its own deadline, kafka.start_timeout_seconds.
            self._known = await self._handover.get()
        except BaseException:
            await self._thread.stop()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._thread is not None
        await self._thread.stop()

    async def receive_run(self) -> list[ConsumedRecord]:
        """
        Wait for the next records; a cancelled call takes none.

        Returns:
            At most some thousand records, in order per partition. Empty when
            only what the reader knows has changed: positions (behind
            transaction markers), ends, or whether a broker answers.
        """
        if self._handover is None:
            raise RuntimeError("the reader is used inside its `async with` alone")
        self._known = await self._handover.get()
        return self._known.records

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> list[ConsumedRecord]:
        return await self.receive_run()

    @property
    def positions(self) -> Mapping[Lane, int]:
        """The offset behind the last record given out, by (topic, partition)."""
        return self._known.positions

    @property
    def ends(self) -> Mapping[Lane, int]:
        """The offset behind the last committed record, as last heard."""
        return self._known.ends

    @property
    def is_at_end(self) -> bool:
        """Whether everything that was in the topics has been given out."""
        return self.has_reached(self.ends)

    @property
    def lag(self) -> int:
        """How many offsets lie before the ends."""
        return sum(
            max(0, end - self.positions[lane]) for lane, end in self.ends.items()
        )

    @property
    def silent_since_seconds(self) -> float | None:
        """When the brokers fell silent (`time.monotonic`); None while they answer."""
        return self._known.silent_since_seconds

    def has_reached(self, ends: Mapping[Lane, int]) -> bool:
        """Tell whether reading has come to these offsets, `ends` of earlier say."""
        positions = self.positions
        return all(positions.get(lane, 0) >= end for lane, end in ends.items())
