"""
Reads one topic for as long as the board runs, whatever becomes of Kafka.

Owns when reading begins again and what people are told meanwhile. That Kafka is away is
a state and no end; what can't get better by itself is an error at the start alone.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Final

import structlog
import trio

from bridge.board.figures import Standing
from bridge.errors import KafkaError, KafkaRefusedError
from bridge.kafka.reader import ConsumedRecord, Start, TopicReader
from bridge.settings import KafkaSettings


__all__ = ["Follower", "Take"]

_log = structlog.get_logger("bridge.board")

# Is given each run, and whether it is the last that is there now.
Take = Callable[[list[ConsumedRecord], bool], None]

# As aiokafka's own waits: a broker that is back is found within seconds.
_FIRST_WAIT_SECONDS: Final = 0.5
_LONGEST_WAIT_SECONDS: Final = 10.0

# Some lines of the page.
_MAX_NOTE: Final = 300


class Follower:
    """
    Reads one topic.

    Args:
        settings: How to reach the brokers.
        topic: What to read.
        start: Where to begin; after an interruption it goes on where it was.
        take: Is given what is read.
        standing: Is told how reading stands.
        is_required: Whether the board is nothing without it: then what Kafka refuses at
            the start is an error, else a note.
    """

    def __init__(  # noqa: PLR0913 - each is one independent choice of the caller
        self,
        settings: KafkaSettings,
        topic: str,
        start: Start,
        take: Take,
        standing: Standing,
        *,
        is_required: bool,
    ) -> None:
        self._settings = settings
        self._topic = topic
        self._start = start
        self._take = take
        self._standing = standing
        self._is_required = is_required
        self._wait_seconds = _FIRST_WAIT_SECONDS

    async def run(self) -> None:
        """
        Read until cancelled.

        Raises:
            KafkaRefusedError: Before anything was read a required topic is missing or
                may not be read, or the credentials are refused.
            ConfigError: A certificate or key can't be used.
        """
        while True:
            try:
                await self._read()
            except KafkaError as error:
                self._note(error)
            await trio.sleep(self._wait_seconds)
            self._wait_seconds = min(2 * self._wait_seconds, _LONGEST_WAIT_SECONDS)

    async def _read(self) -> None:
        """Read until that fails."""
        standing = self._standing
        async with TopicReader(
            self._settings, [self._topic], start=self._start
        ) as reader:
            standing.has_begun = True
            standing.away_since_ms = standing.note = None
            _log.info("board.reading", topic=self._topic)
            # What lies before the first run is told at once, and a topic that is empty.
            self._hand_on([], reader)
            while True:
                run = await reader.receive_run()
                # A record that can't be read would be met again and again.
                self._wait_seconds = _FIRST_WAIT_SECONDS
                self._hand_on(run, reader)

    def _hand_on(self, run: list[ConsumedRecord], reader: TopicReader) -> None:
        standing = self._standing
        positions: Mapping[tuple[str, int], int] = reader.positions
        if positions:
            self._start = positions
        standing.lag = reader.lag
        standing.away_since_ms = _epoch_ms(reader.silent_since_seconds)
        self._take(run, reader.is_at_end)

    def _note(self, error: KafkaError) -> None:
        """Say why nothing is read, or give up."""
        standing = self._standing
        is_refused = isinstance(error, KafkaRefusedError)
        if is_refused and self._is_required and not standing.has_begun:
            raise error
        if self._is_required:
            note = str(error)[:_MAX_NOTE]
        elif is_refused:
            note = f"{self._topic} is missing, or this user may not read it."
        else:
            note = f"{self._topic} isn't read for now."
        if standing.note != note:
            _log.warning("board.not_reading", topic=self._topic, error=str(error))
        standing.note = note
        if standing.away_since_ms is None:
            standing.away_since_ms = _epoch_ms(time.monotonic())


def _epoch_ms(at_seconds: float | None) -> int | None:
    """Turn a moment of the clock that only goes forward into one that people know."""
    if at_seconds is None:
        return None
    return int((time.time() - (time.monotonic() - at_seconds)) * 1000)
