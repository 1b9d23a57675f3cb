"""
What fails while events are published, and what becomes of it.

Owns the outages: who is stopped, killed or frozen, and for how long.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.kit.kafka import KafkaServer
from tests.kit.soketi import SoketiServer


__all__ = ["OUTAGES", "Ground", "Outage"]

_KAFKA_STILL_SECONDS = 10.0

# With its start, which takes some three seconds, Kafka is away for ten; soketi, whose
# start takes one to three, for two.
_KAFKA_AWAY_SECONDS = 7.0
_SOKETI_AWAY_SECONDS = 1.0


@dataclass(frozen=True)
class Ground:
    """
    What runs stand on.

    Attributes:
        kafka: The broker, which is ours.
        soketi: The Pusher server, which is ours.
        api_url: Who signs for its channels.
        folder: For files; the caller removes it.
    """

    kafka: KafkaServer
    soketi: SoketiServer
    api_url: str
    folder: Path


@dataclass(frozen=True)
class Outage:
    """
    An outage.

    Attributes:
        name: Its short name.
        meaning: A phrase for the report.
        happen: Lets it happen, and ends when everything answers again.
        silence_seconds: After so long without a record at the end none comes any more.
    """

    name: str
    meaning: str
    happen: Callable[[Ground], None]
    silence_seconds: float


def _restart_soketi(ground: Ground) -> None:
    ground.soketi.stop()
    ground.soketi.start()


def _kill_soketi(ground: Ground) -> None:
    ground.soketi.kill()
    time.sleep(_SOKETI_AWAY_SECONDS)
    ground.soketi.start()


def _freeze_kafka(ground: Ground) -> None:
    ground.kafka.pause()
    try:
        time.sleep(_KAFKA_STILL_SECONDS)
    finally:
        ground.kafka.resume()


def _kill_kafka(ground: Ground) -> None:
    ground.kafka.kill()
    time.sleep(_KAFKA_AWAY_SECONDS)
    ground.kafka.start()


# KafkaJS waits up to 10 s before its last tries.
OUTAGES = (
    Outage(
        "soketi-restarted",
        "soketi ended with SIGTERM, and started again at once",
        _restart_soketi,
        silence_seconds=3.0,
    ),
    Outage(
        "soketi-killed",
        "soketi killed, and back after two seconds",
        _kill_soketi,
        silence_seconds=3.0,
    ),
    Outage(
        "kafka-frozen",
        "Kafka stood still for 10 s",
        _freeze_kafka,
        silence_seconds=12.0,
    ),
    Outage(
        "kafka-killed",
        "Kafka killed, and back on the same data after 10 s",
        _kill_kafka,
        silence_seconds=12.0,
    ),
)
