"""
Where events come from: a Pusher server, and who signs for its channels.

Owns what contenders and the benchmark know of it. The firehose (`orders`) and a real
soketi look alike from here.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from benchmarks.traffic import APP_KEY, Traffic


__all__ = ["FIREHOSE", "SOKETI", "Emission", "Source", "Upstream"]

# What sources are called; all targets are measured with the first.
FIREHOSE = "firehose"
SOKETI = "soketi"


@dataclass(frozen=True)
class Upstream:
    """
    What a contender is told.

    Attributes:
        pusher_url: Where a Pusher client connects: `ws://host:port`.
        api_url: Whose `/broadcasting/auth` authorises channels: `http://host:port`.
        app_key: The app's key.
    """

    pusher_url: str
    api_url: str
    app_key: str = APP_KEY


@dataclass(frozen=True)
class Emission:
    """
    When events were written, by `time.monotonic_ns`.

    Attributes:
        started_ns: Before the first.
        written_ns: After the last.
        stamps_ns: Before each; empty for a flood.
    """

    started_ns: int
    written_ns: int
    stamps_ns: list[int] = field(default_factory=list)


class Source(Protocol):
    """What has events written, seen from the benchmark."""

    @property
    def upstream(self) -> Upstream:
        """What contenders are told of it."""

    def wait_subscribed(self, count: int = 1) -> None:
        """
        Wait until exactly so many clients are subscribed.

        Raises:
            OrderError: They weren't in time.
        """

    def emit(
        self, traffic: Traffic, rate: float | None, deadline_seconds: float
    ) -> Emission:
        """
        Have events written and wait until they are.

        Args:
            traffic: The events.
            rate: Events a second; None for as fast as they are taken.
            deadline_seconds: How long that may take.

        Raises:
            OrderError: It failed, or took too long.
        """
