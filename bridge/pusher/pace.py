"""
A byte stream that is read in turns while much comes, and at once when little does.

Each message of a stream of small ones comes in a packet of its own, and each packet
wakes three threads, a commit and a request to Kafka: far more than the event itself
costs. So while one packet follows the other, the next read waits a moment and takes
what has come meanwhile. A packet that comes alone waits for nothing.

It stands below TLS: there a read brings all that has come, above it one record.
"""

from __future__ import annotations

import math
from typing import Final

import trio


__all__ = ["PacedStream"]

# The most that a packet waits for others, as long as the outbox waits between its
# rounds (`outbox.bell`): with 1 ms an event of 1,000 a second costs half as much
# again, with 5 ms half of them are 4 ms on their way
# (docs/measurements-2026-11.md).
_PACE_SECONDS: Final = 0.003

# Who waits is woken up to a millisecond late (epoll counts in whole ones), and packets
# of a steady stream have come by then: further apart they are alone again.
_FOLLOWS_SECONDS: Final = 2 * _PACE_SECONDS

# So many reads, each soon after another, make a stream: more than the answers of an
# enrolment, or what one job says at its end.
_STREAM_READS: Final = 3

# So much in one read pays for it: 35 events of a flood.
_ENOUGH_BYTES: Final = 8192


class PacedStream(trio.abc.Stream):
    """
    Another stream, read not more often than it pays.

    Args:
        stream: It; it is closed with this one.
    """

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream
        self._read_at = -math.inf
        self._row = 0

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        """Read what has come, after a moment if one packet follows the other."""
        if self._row >= _STREAM_READS:
            await trio.sleep_until(self._read_at + _PACE_SECONDS)
        received = await self._stream.receive_some(max_bytes)
        now = trio.current_time()
        is_little = len(received) < _ENOUGH_BYTES
        follows = is_little and now - self._read_at < _FOLLOWS_SECONDS
        self._row = self._row + 1 if follows else 0
        self._read_at = now
        return received

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send at once."""
        await self._stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        """Wait as the other stream does."""
        await self._stream.wait_send_all_might_not_block()

    async def aclose(self) -> None:
        """Close the other stream."""
        await self._stream.aclose()
