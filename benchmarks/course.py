"""
One run: start a contender, let the firehose write, measure, judge, tidy up.

Owns the order of it and when a run is over. What is measured stands in
`measuring`, what is right in `verification`, who runs in `contenders`.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks import consumer, firehose
from benchmarks.contenders import PARTITIONS, Contender, Stage, program
from benchmarks.figures import Latency, latency_of
from benchmarks.measuring import Meter, Usage
from benchmarks.orders import Firehose
from benchmarks.staging import running, staged
from benchmarks.traffic import Traffic
from benchmarks.upstream import FIREHOSE, Emission, Source
from benchmarks.verification import Verdict, verify
from benchmarks.watermarks import Watermarks
from benchmarks.websocket_alone import DONE_MARK
from tests.kit.broker import KafkaBroker
from tests.kit.process import ChildProcess, free_ports
from tests.kit.reader import read_topic


__all__ = ["Course", "Run", "RunError"]

_START_SECONDS = 30.0
_STOP_SECONDS = 10.0

# A run that is slower than this many events a second has gone wrong; so has one
# in which nothing arrives for so long, and what is missing then counts as lost.
_SLOWEST = 1000.0
_LEAST_SECONDS = 60.0
_STALL_SECONDS = 10.0

# How often it is looked whether a flood has arrived: 1 % of 100,000 events.
_LOOK_SECONDS = 0.02

# Between the last record on the topic and the last reading, so that what a
# contender does after a broker's acknowledgement is counted too.
_SETTLE_SECONDS = 0.3

# Of a trickle's latencies the first second's are left out: caches are filled then.
_LEAD_SECONDS = 1.0


class RunError(Exception):
    """A run didn't come to its end."""


@dataclass(frozen=True)
class Run:
    """
    What one run gave.

    Attributes:
        contender: Its name.
        traffic: The events.
        rate: Events a second that the firehose wrote; None for a flood.
        start_seconds: From the process's start to its readiness.
        events_per_second: From the first write to the last event's arrival: on
            the topic, or in the reader that has no topic.
        cpu_us_per_event: CPU of the contender's processes from the first write on,
            for each event that arrived.
        usage: All that was measured.
        load_average: Of the last minute, at the start.
        verdict: What stood on the topic; None for a contender that has none.
        latency: From the server's write to the consumer's receipt; only for a
            rate, and a contender that publishes.
        source: From where events came.
    """

    contender: str
    traffic: Traffic
    rate: float | None
    start_seconds: float
    events_per_second: float
    cpu_us_per_event: float
    usage: Usage
    load_average: float
    verdict: Verdict | None
    latency: Latency | None
    source: str = FIREHOSE


class Course:
    """
    Runs contenders one after the other on the same servers.

    Args:
        kafka: The broker.
        kafka_pids: Its processes, if they are ours.
        folder: For files; the caller removes it.
    """

    def __init__(
        self, kafka: KafkaBroker, kafka_pids: tuple[int, ...], folder: Path
    ) -> None:
        self._kafka = kafka
        self._folder = folder
        self._helpers = kafka_pids
        self._sources: list[Source] = []

    @contextmanager
    def open(self) -> Iterator[None]:
        """Have a firehose running inside the block, from which events come."""
        (port,) = free_ports(1)
        source = Firehose(port)
        child = program(
            "firehose",
            [firehose.__name__, str(port)],
            self._folder,
            ready=lambda _: source.answers(),
        )
        with running(child), self.reading(source, child.pid):
            yield

    @contextmanager
    def reading(self, source: Source, *pids: int) -> Iterator[None]:
        """
        Let events come from a source that runs already, inside the block.

        Args:
            source: It.
            pids: Its processes.
        """
        before = self._helpers
        self._helpers = (*before, *pids)
        self._sources.append(source)
        try:
            yield
        finally:
            self._sources.pop()
            self._helpers = before

    def run(
        self,
        contender: Contender,
        traffic: Traffic,
        rate: float | None,
    ) -> Run:
        """
        Run a contender once.

        Args:
            contender: Who.
            traffic: The events.
            rate: Events a second; None for as fast as the socket takes them.

        Raises:
            RunError: A process ended in the middle.
            ProcessError: A process didn't start.
            OrderError: The source of events failed.
            BrokerError: The broker refused a topic.
        """
        source = self._sources[-1]
        with staged(self._kafka, source.upstream, traffic, self._folder) as stage:
            load_average = os.getloadavg()[0]
            began = time.monotonic()
            with running(contender.process(stage)) as child:
                source.wait_subscribed(traffic.accounts)
                start_seconds = time.monotonic() - began
                if rate is not None and contender.publishes:
                    arrived = self._trickle_to_topic(stage, child, rate)
                else:
                    arrived = self._flood(contender, stage, child, rate)
            verdict = None
            if contender.publishes:
                records = read_topic(
                    stage.kafka, stage.topic, None, timeout=_START_SECONDS
                )
                verdict = verify(records, traffic)
            count = traffic.events - (verdict.lost if verdict else 0)
            seconds = (arrived.last_ns - arrived.emission.started_ns) / 1e9
            return Run(
                contender=contender.name,
                traffic=traffic,
                rate=rate,
                start_seconds=start_seconds,
                events_per_second=count / seconds,
                cpu_us_per_event=arrived.usage.cpu_seconds * 1e6 / max(count, 1),
                usage=arrived.usage,
                load_average=load_average,
                verdict=verdict,
                latency=arrived.latency,
            )

    def _flood(
        self,
        contender: Contender,
        stage: Stage,
        child: ChildProcess,
        rate: float | None,
    ) -> _Arrival:
        """Write, and wait until the contender has brought or taken all."""
        deadline_seconds = _deadline_seconds(stage.traffic, rate)
        watermarks = Watermarks(stage.kafka, stage.topic, PARTITIONS)
        meter = Meter(child.pid, self._helpers)
        emission = self._sources[-1].emit(stage.traffic, rate, deadline_seconds)

        def arrived() -> tuple[int, int]:
            if contender.publishes:
                return watermarks.total(), time.monotonic_ns()
            _, found, moment = child.output().partition(DONE_MARK)
            if found and moment.endswith("\n"):
                return stage.traffic.events, int(moment)
            return 0, time.monotonic_ns()

        last_ns = _await(arrived, stage.traffic.events, meter, child)
        time.sleep(_SETTLE_SECONDS)
        return _Arrival(emission, last_ns, meter.read(), None)

    def _trickle_to_topic(
        self, stage: Stage, child: ChildProcess, rate: float
    ) -> _Arrival:
        """Write at a rate, and have a consumer note when each event arrives."""
        file = stage.folder / "received.json"
        reader = program(
            "consumer",
            [
                consumer.__name__,
                stage.kafka,
                stage.topic,
                str(file),
                json.dumps(asdict(stage.traffic)),
            ],
            stage.folder,
            ready=lambda child: consumer.READY_MARK in child.output(),
        )
        deadline_seconds = _deadline_seconds(stage.traffic, rate)
        with running(reader):
            meter = Meter(child.pid, (*self._helpers, reader.pid))
            emission = self._sources[-1].emit(stage.traffic, rate, deadline_seconds)
            while consumer.DONE_MARK not in reader.output():
                _check_running(child, reader)
                meter.look()
                time.sleep(_LOOK_SECONDS)
            time.sleep(_SETTLE_SECONDS)
            usage = meter.read()
        received_ns: list[int] = json.loads(file.read_text())
        lead = int(rate * _lead_seconds(stage.traffic, rate))
        latencies = [
            (received - written) / 1e6
            for received, written in zip(
                received_ns[lead:], emission.stamps_ns[lead:], strict=True
            )
            if received  # 0 for what was lost, which the verdict tells
        ]
        return _Arrival(emission, max(received_ns), usage, latency_of(latencies))


@dataclass(frozen=True)
class _Arrival:
    """When all had arrived, and what it took."""

    emission: Emission
    last_ns: int
    usage: Usage
    latency: Latency | None


def _await(
    arrived: Callable[[], tuple[int, int]],
    events: int,
    meter: Meter,
    child: ChildProcess,
) -> int:
    """
    Wait until all events have arrived, or no more of them come.

    Args:
        arrived: Tells how many have, and as of when.
        events: How many should.
        meter: Looks at the memory meanwhile.
        child: Must not end meanwhile.

    Returns:
        When the last one arrived.
    """
    before, last_ns = -1, time.monotonic_ns()
    while True:
        count, now_ns = arrived()
        if count > before:
            before, last_ns = count, now_ns
        if count >= events or now_ns - last_ns > _STALL_SECONDS * 1e9:
            return last_ns
        _check_running(child)
        meter.look()
        time.sleep(_LOOK_SECONDS)


def _check_running(*children: ChildProcess) -> None:
    for child in children:
        if not child.running:
            raise RunError(str(child.error("ended before all events had arrived")))


def _lead_seconds(traffic: Traffic, rate: float | None) -> float:
    """Give how much of a trickle's begin is left out: never more than half."""
    return 0.0 if rate is None else min(_LEAD_SECONDS, traffic.events / rate / 2)


def _deadline_seconds(traffic: Traffic, rate: float | None) -> float:
    slowest = _SLOWEST if rate is None else min(rate, _SLOWEST)
    return _LEAST_SECONDS + traffic.events / slowest
