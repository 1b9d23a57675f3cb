"""
One run of a load of previews: through intake, outbox and relay into a real Kafka.

Owns the run and what is read of it: bytes on the broker's disk, time, CPU, and whether
all arrived. Which runs there are, and the table, is `previews`'.
"""

from __future__ import annotations

import tempfile
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import psutil
import trio

from benchmarks.course import RunError
from benchmarks.preview_load import EVENTS_A_JOB, PREVIEWS_A_JOB, PreviewLoad
from bridge.events.intake import Intake, strip_preview
from bridge.kafka.relay.relay import Relay
from bridge.outbox import Outbox, OutboxDirectory
from bridge.pusher.protocol import ChannelEvent, decode
from bridge.settings import KafkaSettings, OutboxSettings
from tests.kit.kafka import KafkaServer


__all__ = ["Codec", "Previews", "Result", "run"]

Previews = Literal["inline", "drop", "topic"]
Codec = Literal["none", "lz4", "zstd"]

_PARTITIONS = 6

# What one read of the socket brings at most; its events are accepted together.
_READ_BYTES = 131_072

_LOOK_SECONDS = 0.005
_RUN_SECONDS = 120.0


@dataclass(frozen=True)
class Result:
    """
    What one run gave.

    Attributes:
        preview_bytes: About how long the sharpest preview is.
        previews: The setting of that name.
        codec: The setting `kafka.compression`.
        events: How many events.
        frame_bytes: How long their frames are together.
        job_bytes: What the topic of jobs takes on the broker's disk.
        image_bytes: What the topic of previews takes there.
        seconds: From the first event to the last acknowledgement.
        cpu_seconds: This process's.
        broker_seconds: The broker's CPU time.
        flaws: What wasn't as it should be.
    """

    preview_bytes: int
    previews: Previews
    codec: Codec
    events: int
    frame_bytes: int
    job_bytes: int
    image_bytes: int
    seconds: float
    cpu_seconds: float
    broker_seconds: float
    flaws: tuple[str, ...] = ()

    @property
    def disk_bytes(self) -> int:
        """What all of it takes on the broker's disk."""
        return self.job_bytes + self.image_bytes


@dataclass(frozen=True)
class _Topics:
    """The topics of one run."""

    jobs: str
    images: str
    dead_letters: str

    @property
    def all(self) -> tuple[str, str, str]:
        return self.jobs, self.images, self.dead_letters


def run(
    kafka: KafkaServer,
    load: PreviewLoad,
    messages: Sequence[str],
    previews: Previews,
    codec: Codec,
) -> Result:
    """
    Send a load once.

    Args:
        kafka: Where to, of one node.
        load: Whose events they are.
        messages: Their frames.
        previews: Where previews go.
        codec: How batches are compressed.

    Raises:
        RunError: Not all was acknowledged in time.
    """
    name = f"previews-{uuid.uuid4().hex[:12]}"
    topics = _Topics(name, f"{name}.previews", f"{name}.dlq")
    for topic in topics.all:
        kafka.create_topic(topic, _PARTITIONS)
    try:
        with tempfile.TemporaryDirectory(prefix="bridge-bench-") as folder:
            sending = _Sending(kafka, Path(folder), topics, previews, codec)
            trio.run(sending.run, messages)
        jobs = len(messages) // EVENTS_A_JOB
        return Result(
            preview_bytes=load.preview_bytes,
            previews=previews,
            codec=codec,
            events=len(messages),
            frame_bytes=sum(map(len, messages)),
            job_bytes=_log_bytes(kafka, topics.jobs),
            image_bytes=_log_bytes(kafka, topics.images),
            seconds=sending.seconds,
            cpu_seconds=sending.cpu_seconds,
            broker_seconds=sending.broker_seconds,
            flaws=tuple(sending.flaws(len(messages), jobs * PREVIEWS_A_JOB)),
        )
    finally:
        kafka.delete_topics(*topics.all)


def _log_bytes(kafka: KafkaServer, topic: str) -> int:
    """Add up the segments of a topic; the broker keeps batches as they came."""
    folders = kafka.data_dir.glob(f"node-1/data/{topic}-*")
    return sum(
        segment.stat().st_size for folder in folders for segment in folder.glob("*.log")
    )


class _Sending:
    """Intake, outbox and relay, wired as the service does, without a socket."""

    def __init__(
        self,
        kafka: KafkaServer,
        folder: Path,
        topics: _Topics,
        previews: Previews,
        codec: Codec,
    ) -> None:
        self._broker = psutil.Process(kafka.pid)
        self._folder = folder
        self._topics = topics
        self._previews: Previews = previews
        self._settings = KafkaSettings(
            bootstrap_servers=kafka.bootstrap_servers,
            compression=codec,
            replication_factor=1,
        )
        self.seconds = self.cpu_seconds = self.broker_seconds = 0.0

    async def run(self, messages: Sequence[str]) -> None:
        """Send everything and wait for the last acknowledgement."""
        topics = self._topics
        with OutboxDirectory(self._folder) as directory:
            outbox = Outbox(
                directory,
                OutboxSettings(dir=self._folder),
                strip_preview=strip_preview,
            )
            self._outbox = outbox
            self._relay = relay = Relay(
                self._settings,
                topics.all,
                outbox,
                dead_letter_topic=topics.dead_letters,
            )
            intake = Intake(
                ce_source="https://api/clients/1",
                topic=topics.jobs,
                dead_letter_topic=topics.dead_letters,
                offer=outbox.offer,
                previews=self._previews,
                preview_topic=topics.images,
            )
            self._intake = intake.statistics
            async with trio.open_nursery() as nursery:
                nursery.start_soon(relay.run)
                try:
                    await self._measure(intake, messages)
                finally:
                    relay.abort()

    async def _measure(self, intake: Intake, messages: Sequence[str]) -> None:
        partitions = _PARTITIONS * len(self._topics.all)
        with trio.move_on_after(_RUN_SECONDS) as scope:
            while self._relay.statistics.partitions < partitions:  # noqa: ASYNC110
                await trio.sleep(_LOOK_SECONDS)
            started, cpu, broker = self._now()
            await self._feed(intake, messages)
            statistics = self._outbox.statistics
            while not (self._outbox.is_drained and statistics.rows == 0):  # noqa: ASYNC110
                await trio.sleep(_LOOK_SECONDS)
            ended, cpu_then, broker_then = self._now()
            self.seconds = ended - started
            self.cpu_seconds, self.broker_seconds = cpu_then - cpu, broker_then - broker
        if scope.cancelled_caught:
            raise RunError(f"not all acknowledged within {_RUN_SECONDS:g} s")

    def _now(self) -> tuple[float, float, float]:
        broker = self._broker.cpu_times()
        return time.monotonic(), time.process_time(), broker.user + broker.system

    async def _feed(self, intake: Intake, messages: Sequence[str]) -> None:
        """Accept events as reads of the socket would bring them."""
        run: list[ChannelEvent] = []
        size = 0
        for text in messages:
            event = decode(text)
            assert type(event) is ChannelEvent
            run.append(event)
            size += len(text)
            if size >= _READ_BYTES:
                intake.accept(run, time.time_ns() // 1000)
                run, size = [], 0
                await trio.lowlevel.checkpoint()
                while self._outbox.is_crowded:  # noqa: ASYNC110 - a thread's
                    await trio.sleep(_LOOK_SECONDS)
        intake.accept(run, time.time_ns() // 1000)

    def flaws(self, events: int, previews: int) -> list[str]:
        """Tell what wasn't published as it should be."""
        published = self._relay.statistics.published
        expected = {
            self._topics.jobs: events,
            self._topics.images: previews if self._previews == "topic" else 0,
            self._topics.dead_letters: 0,
        }
        found = {topic: published.get(topic, 0) for topic in expected}
        flaws = [
            f"{topic}: {found[topic]:,} of {count:,}"
            for topic, count in expected.items()
            if found[topic] != count
        ]
        lightened = self._outbox.statistics.dropped_previews
        return [*flaws, *([f"{lightened:,} lost their preview"] if lightened else [])]
