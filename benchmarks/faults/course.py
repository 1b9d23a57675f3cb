"""
One contender through one outage, while events are published to soketi all along.

Owns the order of it and when a run is over. What fails stands in `outages`, what is
right in `verdict`.
"""

from __future__ import annotations

import os
import re
import time
from dataclasses import dataclass, field
from functools import partial

import trio

from benchmarks.contenders import Contender, Stage
from benchmarks.faults.outages import Ground, Outage
from benchmarks.faults.verdict import Evidence, FaultVerdict, judge
from benchmarks.orders import OrderError
from benchmarks.soketi import Attempt, SoketiSource
from benchmarks.staging import running, staged
from benchmarks.traffic import Traffic
from tests.chaos.witness import Follower
from tests.kit.gap_judge import Gap, read_gaps
from tests.kit.process import ChildProcess
from tests.kit.reader import read_topic


__all__ = ["FaultRun", "through"]

# Before the outage; the first second fills caches.
_BEFORE_SECONDS = 3.0

# After it, and after the contender is subscribed again, if it ever is: pysher waits
# 10 s before it connects anew, pusher-js longer.
_AFTER_SECONDS = 3.0
_SUBSCRIBED_SECONDS = 25.0

# No run publishes for so long.
_MOST_SECONDS = 120.0

_READ_SECONDS = 60.0
_LOOK_SECONDS = 0.05

# What Python and Node write of an error that nobody caught, in a line of its own.
_ERROR = re.compile(r"^(?:\w+\.)*[A-Z]\w+: .+$", re.MULTILINE)


@dataclass(frozen=True)
class FaultRun:
    """
    What one run gave.

    Attributes:
        contender: Its name.
        outage: The outage's name.
        rate: Events a second that were published.
        outage_seconds: From the outage's begin until everything answered again.
        verdict: What became of the events.
        gaps: What the contender reported, a phrase for each gap.
        findings: What is wrong with these reports.
        end: How its process ended by itself; None if it was there to the last.
        load_average: Of the last minute, at the start.
    """

    contender: str
    outage: str
    rate: float
    outage_seconds: float
    verdict: FaultVerdict
    gaps: list[str] = field(default_factory=list)
    findings: list[str] = field(default_factory=list)
    end: str | None = None
    load_average: float = 0.0

    @property
    def flawless(self) -> bool:
        """Whether nothing is wrong."""
        return self.verdict.flawless and not self.findings and self.end is None


def through(
    contender: Contender, outage: Outage, ground: Ground, rate: float
) -> FaultRun:
    """
    Run a contender once.

    Args:
        contender: Who.
        outage: What happens meanwhile.
        ground: The servers.
        rate: Events a second.

    Raises:
        ProcessError: A process or a server didn't start.
        OrderError: It was never subscribed.
        BrokerError: The broker refused a topic.
        ReadTimeoutError: The topic couldn't be read back.
    """
    load_average = os.getloadavg()[0]
    source = SoketiSource(ground.soketi, ground.api_url)
    traffic = Traffic(int(rate * _MOST_SECONDS))
    with staged(ground.kafka, source.upstream, traffic, ground.folder) as stage:
        with running(contender.process(stage)) as child:
            source.wait_subscribed()
            course = _Course(stage, source, outage, ground, rate)
            try:
                trio.run(course.run, child)
            except BaseExceptionGroup as group:
                raise _first(group) from group
            end = _end(child)
        gaps, findings = _gaps(stage)
        evidence = course.evidence(gaps)
    return FaultRun(
        contender=contender.name,
        outage=outage.name,
        rate=rate,
        outage_seconds=course.outage_seconds,
        verdict=judge(evidence),
        gaps=[str(gap) for gap in gaps],
        findings=findings,
        end=end,
        load_average=load_average,
    )


class _Course:
    """Load, outage and consumer, side by side."""

    def __init__(
        self,
        stage: Stage,
        source: SoketiSource,
        outage: Outage,
        ground: Ground,
        rate: float,
    ) -> None:
        self._stage = stage
        self._source = source
        self._outage = outage
        self._ground = ground
        self._rate = rate
        self._follower = Follower(stage.kafka, [stage.topic])
        self._going = True
        self._attempts: list[Attempt] = []
        self._is_deaf = False
        self._deaf: list[float] = []
        self._begun = self._ended = 0.0

    @property
    def outage_seconds(self) -> float:
        """How long it was until everything answered again."""
        return self._ended - self._begun

    async def run(self, child: ChildProcess) -> None:
        """
        Publish, let it happen, publish on, and wait until nothing comes any more.

        Args:
            child: The contender, which is subscribed.
        """
        async with trio.open_nursery() as reading:
            reading.start_soon(self._follower.run)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._publish)
                nursery.start_soon(self._look)
                try:
                    await self._suffer(child)
                finally:
                    self._going = False
            await self._settle(child)
            reading.cancel_scope.cancel()

    async def _publish(self) -> None:
        self._attempts = await trio.to_thread.run_sync(
            partial(
                self._source.publish,
                self._stage.traffic,
                self._rate,
                lambda: self._going,
            )
        )

    async def _suffer(self, child: ChildProcess) -> None:
        await trio.sleep(_BEFORE_SECONDS)
        self._begun = time.time()
        await trio.to_thread.run_sync(self._outage.happen, self._ground)
        self._ended = time.time()
        with trio.move_on_after(_SUBSCRIBED_SECONDS):
            # `_look` sees it.
            while self._is_deaf and child.running:  # noqa: ASYNC110
                await trio.sleep(_LOOK_SECONDS)
        await trio.sleep(_AFTER_SECONDS)

    async def _look(self) -> None:
        """Note when nobody is subscribed."""
        while self._going:
            moment = time.time()
            self._is_deaf = await trio.to_thread.run_sync(self._nobody_subscribed)
            if self._is_deaf:
                self._deaf += [moment, time.time()]
            await trio.sleep(_LOOK_SECONDS)

    def _nobody_subscribed(self) -> bool:
        try:
            return self._source.subscribed() == 0
        except OrderError:
            return True  # soketi is away

    async def _settle(self, child: ChildProcess) -> None:
        """Wait until all that was taken is there, or nothing comes any more."""
        accepted = sum(attempt.taken is True for attempt in self._attempts)
        seen = self._follower.seen
        count, since = -1, trio.current_time()
        while len(seen) < accepted and child.running:
            if len(seen) > count:
                count, since = len(seen), trio.current_time()
            if trio.current_time() > since + self._outage.silence_seconds:
                return
            await trio.sleep(_LOOK_SECONDS)

    def evidence(self, gaps: list[Gap]) -> Evidence:
        """Read the topic back, and give all that is known."""
        stage = self._stage
        return Evidence(
            traffic=stage.traffic,
            attempts=self._attempts,
            ended=self._ended,
            deaf=self._deaf,
            records=read_topic(stage.kafka, stage.topic, None, timeout=_READ_SECONDS),
            seen=self._follower.seen_of(stage.topic),
            gaps=gaps,
        )


def _first(error: BaseException) -> BaseException:
    """Give what went wrong first; nurseries wrap even an interrupt."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _end(child: ChildProcess) -> str | None:
    """Say how a process ended that was to run on."""
    if child.running:
        return None
    words = _ERROR.findall(child.output()) or ["without a word"]
    return f"ended by itself with exit code {child.exit_code}: {words[-1]}"


def _gaps(stage: Stage) -> tuple[list[Gap], list[str]]:
    """Read what a contender reported; only a bridge reports anything."""
    records = read_topic(
        stage.kafka, f"{stage.topic}.gaps", None, timeout=_READ_SECONDS
    )
    return read_gaps(records)
