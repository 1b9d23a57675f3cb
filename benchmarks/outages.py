"""
What fails while events are published to a real soketi, and one run through it.

A server is stopped, killed or frozen and comes back; publishing goes on all along. Then
all records are read back. What became of each event is for `verdict`.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import trio

from benchmarks.contenders import Contender
from benchmarks.load import Traffic
from benchmarks.program import RunError, run_trio
from benchmarks.run import running, staged, wait_subscribed
from benchmarks.soketi import Attempt, SoketiSource
from benchmarks.verdict import Evidence, FaultVerdict, judge
from tests.chaos.witness import Follower
from tests.kit.gap_judge import read_gaps
from tests.kit.kafka import KafkaServer
from tests.kit.process import ChildProcess
from tests.kit.reader import read_topic
from tests.kit.soketi import SoketiServer


# Before the outage; the first second fills caches.
_BEFORE_SECONDS = 3.0

# After it, and after the contender is subscribed again, if it ever is: pysher waits
# 10 s before it connects again, pusher-js longer.
_AFTER_SECONDS = 3.0
_SUBSCRIBED_SECONDS = 25.0

# No run publishes for so long.
_MOST_SECONDS = 120.0

_KAFKA_STILL_SECONDS = 10.0

# With its start, which takes some three seconds, Kafka is away for ten; soketi, whose
# start takes one to three, for two.
_KAFKA_AWAY_SECONDS = 7.0
_SOKETI_AWAY_SECONDS = 1.0

_READ_SECONDS = 60.0
_LOOK_SECONDS = 0.05

# How Python and Node write an uncaught error, on a line of its own.
_ERROR = re.compile(r"^(?:\w+\.)*[A-Z]\w+: .+$", re.MULTILINE)


class Ground(NamedTuple):
    """What all runs use; the servers are ours."""

    kafka: KafkaServer
    soketi: SoketiServer
    source: SoketiSource
    folder: Path  # for files; the caller removes it


class Outage(NamedTuple):
    """An outage."""

    name: str
    meaning: str  # for the report
    # Lets it happen, and returns when everything answers again.
    happen: Callable[[Ground], None]
    # After so long without a record at the end no more will come.
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
OUTAGES = {
    name: Outage(name, meaning, happen, silence_seconds)
    for name, meaning, happen, silence_seconds in (
        ("soketi-restarted", "soketi restarted with SIGTERM", _restart_soketi, 3.0),
        ("soketi-killed", "soketi killed, back after 2 s", _kill_soketi, 3.0),
        ("kafka-frozen", "Kafka frozen for 10 s", _freeze_kafka, 12.0),
        ("kafka-killed", "Kafka killed, back after 10 s", _kill_kafka, 12.0),
    )
}
"""All outages, by their names."""


@dataclass(frozen=True)
class FaultRun:
    """What one run gave."""

    contender: str  # its title
    outage: str
    outage_seconds: float  # until everything answered again
    verdict: FaultVerdict
    findings: list[str]  # what is wrong with the gaps that were reported
    end: str | None  # how its process ended by itself, if it did

    @property
    def flawless(self) -> bool:
        """Whether nothing is wrong."""
        return self.verdict.flawless and not self.findings and self.end is None


def through(
    contender: Contender, outage: Outage, ground: Ground, rate: float
) -> FaultRun:
    """
    Run a contender through an outage once, at a rate of events a second.

    Raises:
        ProcessError: A process or a server didn't start.
        RunError: The contender was never subscribed.
        BrokerError: The broker refused a topic.
        ReadTimeoutError: The topic couldn't be read back.
    """
    traffic = Traffic(int(rate * _MOST_SECONDS))
    with staged(ground.kafka, ground.source, traffic, ground.folder) as stage:
        follower = Follower(stage.kafka, [stage.topic])
        with running(contender.process(stage)) as child:
            wait_subscribed(ground.source)
            course = _Course(ground, outage, child, follower)
            run_trio(course.run, traffic, rate)
            end = _end(child)
        records, of_gaps = (
            read_topic(stage.kafka, topic, None, timeout=_READ_SECONDS)
            for topic in (stage.topic, f"{stage.topic}.gaps")
        )
        # Only a bridge reports any.
        gaps, findings = read_gaps(of_gaps)
        evidence = Evidence(
            traffic=traffic,
            attempts=course.attempts,
            ended=course.ended,
            unsubscribed=course.unsubscribed,
            records=records,
            seen=follower.seen_of(stage.topic),
            gaps=gaps,
        )
    verdict, seconds = judge(evidence), course.ended - course.begun
    return FaultRun(contender.title, outage.name, seconds, verdict, findings, end)


class _Course:
    """Load, outage and consumer, side by side."""

    def __init__(
        self, ground: Ground, outage: Outage, child: ChildProcess, follower: Follower
    ) -> None:
        self._ground = ground
        self._outage = outage
        self._child = child
        self._follower = follower
        self._going = True
        self._is_unsubscribed = False
        self.attempts: list[Attempt] = []
        self.unsubscribed: list[float] = []
        self.begun = self.ended = 0.0

    async def run(self, traffic: Traffic, rate: float) -> None:
        """Publish, let it happen, publish on, and wait until nothing more comes."""
        async with trio.open_nursery() as reading:
            reading.start_soon(self._follower.run)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._publish, traffic, rate)
                nursery.start_soon(self._look)
                try:
                    await self._suffer()
                finally:
                    self._going = False
            await self._settle()
            reading.cancel_scope.cancel()

    async def _publish(self, traffic: Traffic, rate: float) -> None:
        publish = self._ground.source.publish
        self.attempts = await trio.to_thread.run_sync(
            publish, traffic, rate, lambda: self._going
        )

    async def _suffer(self) -> None:
        await trio.sleep(_BEFORE_SECONDS)
        self.begun = time.time()
        await trio.to_thread.run_sync(self._outage.happen, self._ground)
        self.ended = time.time()
        with trio.move_on_after(_SUBSCRIBED_SECONDS):
            # `_look` sees it.
            while self._is_unsubscribed and self._child.running:  # noqa: ASYNC110
                await trio.sleep(_LOOK_SECONDS)
        await trio.sleep(_AFTER_SECONDS)

    async def _look(self) -> None:
        """Note when no client is subscribed."""
        while self._going:
            moment = time.time()
            self._is_unsubscribed = await trio.to_thread.run_sync(self._has_no_client)
            if self._is_unsubscribed:
                self.unsubscribed += [moment, time.time()]
            await trio.sleep(_LOOK_SECONDS)

    def _has_no_client(self) -> bool:
        try:
            return self._ground.source.subscribed() == 0
        except RunError:
            return True  # soketi is away

    async def _settle(self) -> None:
        """Wait until all that was accepted is there, or nothing more comes."""
        accepted = sum(attempt.taken is True for attempt in self.attempts)
        seen = self._follower.seen
        count, since = -1, trio.current_time()
        while len(seen) < accepted and self._child.running:
            if len(seen) > count:
                count, since = len(seen), trio.current_time()
            if trio.current_time() > since + self._outage.silence_seconds:
                return
            await trio.sleep(_LOOK_SECONDS)


def _end(child: ChildProcess) -> str | None:
    """Say how a process ended that should have run on."""
    if child.running:
        return None
    errors = _ERROR.findall(child.output()) or ["without an error message"]
    return f"ended by itself with exit code {child.exit_code}: {errors[-1]}"
