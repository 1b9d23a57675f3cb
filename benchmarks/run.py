"""
One run: start a contender, let the source write, measure, judge, remove everything.

CPU time and memory are read from the operating system, and so is how much of the
machine other programs used: on a busy machine absolute figures mean little.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple, TypeAlias

import psutil
from confluent_kafka import TopicPartition
from confluent_kafka.admin import OffsetSpec

from benchmarks.contenders import ROOT, Contender, Stage
from benchmarks.load import DONE, READY, Firehose, Latency, Traffic, latency_of
from benchmarks.program import RunError
from benchmarks.soketi import SoketiSource
from benchmarks.verdict import Verdict, verify
from tests.kit.broker import KafkaBroker, existing_kafka
from tests.kit.kafka import KafkaServer
from tests.kit.process import ChildProcess, free_ports, start_all, stop_all
from tests.kit.reader import read_topic


# Of a run's topic.
PARTITIONS = 6

_START_SECONDS = 30.0
_STOP_SECONDS = 10.0

# A run that is slower than this many events a second has gone wrong; so has one in
# which nothing arrives for so long, and what is missing then counts as lost.
_SLOWEST = 1000.0
_LEAST_SECONDS = 60.0
_STALL_SECONDS = 10.0

# How often it is looked whether a flood has arrived: 1 % of 100,000 events.
_LOOK_SECONDS = 0.02

# Between the last record and the last reading, so that what a contender does after a
# broker's acknowledgment is counted too.
_SETTLE_SECONDS = 0.3

_ADMIN_SECONDS = 10.0

Source: TypeAlias = Firehose | SoketiSource


class Servers(NamedTuple):
    """What runs use."""

    kafka: KafkaBroker
    source: Source
    folder: Path  # for files; the caller removes it
    pids: tuple[int, ...]  # of both: their CPU time isn't other programs'


@contextmanager
def kafka_running() -> Iterator[tuple[KafkaBroker, tuple[int, ...]]]:
    """Give the broker that the environment names, or run one; and its processes."""
    existing = existing_kafka()
    if existing is not None:
        existing.check()
        yield existing, ()
    else:
        with KafkaServer() as server:
            yield server, server.pids


@contextmanager
def firehose_running(folder: Path) -> Iterator[tuple[Firehose, int]]:
    """Run a firehose inside the block; give it and its process."""
    (port,) = free_ports(1)
    with running(_program(["firehose", str(port)], folder)) as child:
        yield Firehose(port), child.pid


def _program(argv: list[str], folder: Path) -> ChildProcess:
    """Describe the process of a program of `load`."""
    return ChildProcess(
        argv[0],
        [sys.executable, "-m", "benchmarks.load", *argv],
        log=folder / f"{argv[0]}.log",
        cwd=ROOT,
        ready=lambda child: READY in child.output(),
    )


@contextmanager
def running(child: ChildProcess) -> Iterator[ChildProcess]:
    """Have a process running and ready inside the block; ProcessError if it isn't."""
    start_all([child], deadline_seconds=_START_SECONDS)
    try:
        yield child
    finally:
        stop_all([child], grace_seconds=_STOP_SECONDS)


@contextmanager
def staged(
    kafka: KafkaBroker, source: Source, traffic: Traffic, folder: Path
) -> Iterator[Stage]:
    """Have what a contender needs, topics of its own among it, inside the block."""
    topic = f"bench-{uuid.uuid4().hex[:12]}"
    files = folder / topic
    files.mkdir()
    (port,) = free_ports(1)
    topics = {topic: PARTITIONS, f"{topic}.dlq": 1, f"{topic}.gaps": 1}
    kafka.create_topics(topics)
    try:
        yield Stage(
            pusher_url=source.pusher_url,
            api_url=source.api_url,
            app_key=source.app_key,
            kafka=kafka.bootstrap_servers,
            topic=topic,
            events=traffic.events,
            folder=files,
            port=port,
        )
    finally:
        kafka.delete_topics(*topics)
        shutil.rmtree(files, ignore_errors=True)


def wait_subscribed(source: Source) -> None:
    """Wait until exactly one client is subscribed; RunError if it isn't in time."""
    deadline = time.monotonic() + _START_SECONDS
    while source.subscribed() != 1:
        if time.monotonic() > deadline:
            raise RunError(f"no client subscribed at {source.name} in time")
        time.sleep(_LOOK_SECONDS)


# -- What a run costs ---------------------------------------------------------


@dataclass(frozen=True)
class Usage:
    """What was used from a meter's start to its end."""

    cpu_seconds: float  # of the contender's processes, in steps of 10 ms
    others_cores: float  # that were busy, on average, with other programs
    rest_bytes: int  # the contender's resident memory at the start
    peak_bytes: int  # the largest that was seen


class _Meter:
    """Measures a contender and its children; `helpers` are the benchmark's others."""

    def __init__(self, contender: int, *helpers: int) -> None:
        self._contender = psutil.Process(contender)
        self._helpers = [psutil.Process(pid) for pid in (*helpers, os.getpid())]
        self._rest_bytes = self._peak_bytes = self._resident_bytes()
        self._began = self._seconds()

    def look(self) -> None:
        """Note the memory; call it now and then."""
        self._peak_bytes = max(self._peak_bytes, self._resident_bytes())

    def read(self) -> Usage:
        """Give what was used until now."""
        self.look()
        pairs = zip(self._seconds(), self._began, strict=True)
        cpu, helpers, machine, idle = (now - before for now, before in pairs)
        others = (machine - idle - cpu - helpers) / machine * (os.cpu_count() or 1)
        return Usage(cpu, max(others, 0.0), self._rest_bytes, self._peak_bytes)

    def _family(self) -> list[psutil.Process]:
        return [self._contender, *self._contender.children(recursive=True)]

    def _resident_bytes(self) -> int:
        return sum(process.memory_info().rss for process in self._family())

    def _seconds(self) -> tuple[float, float, float, float]:
        """Give the CPU time of contender, helpers and all cores, and the idle time."""
        times = psutil.cpu_times()
        # Linux counts a guest's time in `user` as well.
        doubled = getattr(times, "guest", 0.0) + getattr(times, "guest_nice", 0.0)
        idle = times.idle + getattr(times, "iowait", 0.0)
        own, helpers = (
            sum(sum(process.cpu_times()[:2]) for process in processes)
            for processes in (self._family(), self._helpers)
        )
        return own, helpers, sum(times) - doubled, idle


# -- The run ------------------------------------------------------------------


@dataclass(frozen=True)
class Run:
    """What one run gave."""

    contender: str  # its title
    source: str  # from where events came: the firehose or soketi
    traffic: Traffic
    rate: float | None  # events a second that were written; None for a flood
    start_seconds: float  # from the process's start until it was subscribed
    # From the first write to the last event's arrival: on the topic, or in the reader
    # that has no topic.
    events_per_second: float
    cpu_us_per_event: float  # from the first write on, for each event that arrived
    usage: Usage
    verdict: Verdict | None  # None without a topic
    latency: Latency | None  # from the write to a consumer; None for a flood


def measure(
    servers: Servers,
    contender: Contender,
    traffic: Traffic,
    rate: float | None,
    beside: Callable[[ChildProcess], AbstractContextManager[object]] = nullcontext,
) -> Run:
    """
    Run a contender once, at a rate of events a second or as fast as the source can.

    `beside` is given the contender's process, entered once that is subscribed, and left
    when the last event has arrived.

    Raises:
        RunError: A process ended in the middle, no event arrived, or the source failed.
        ProcessError: A process didn't start.
        BrokerError, ReadTimeoutError: Kafka failed.
    """
    source = servers.source
    with staged(servers.kafka, source, traffic, servers.folder) as stage:
        began = time.monotonic()
        with running(contender.process(stage)) as child:
            wait_subscribed(source)
            start_seconds = time.monotonic() - began
            with beside(child):
                if rate is None:
                    usage, ns = _flood(servers, contender, traffic, stage, child)
                    latency = None
                else:
                    usage, ns, latency = _paced(servers, traffic, rate, stage, child)
        verdict = None
        if contender.publishes:
            records = read_topic(stage.kafka, stage.topic, None, timeout=_START_SECONDS)
            verdict = verify(records, traffic)
    count = traffic.events - (verdict.lost if verdict else 0)
    return Run(
        contender=contender.title,
        source=source.name,
        traffic=traffic,
        rate=rate,
        start_seconds=start_seconds,
        events_per_second=count / (ns / 1e9),
        cpu_us_per_event=usage.cpu_seconds * 1e6 / max(count, 1),
        usage=usage,
        verdict=verdict,
        latency=latency,
    )


def _flood(
    servers: Servers,
    contender: Contender,
    traffic: Traffic,
    stage: Stage,
    child: ChildProcess,
) -> tuple[Usage, int]:
    """Write all at once; give the cost, and nanoseconds until all has arrived."""
    meter = _Meter(child.pid, *servers.pids)
    stamps_ns = servers.source.emit(traffic, None, _deadline_seconds(traffic, _SLOWEST))
    before, last_ns = -1, time.monotonic_ns()
    while before < traffic.events:
        count, now_ns = _arrived(servers.kafka, contender, stage, child)
        if count > before:
            before, last_ns = count, now_ns
        elif now_ns - last_ns > _STALL_SECONDS * 1e9:
            break
        _check_running(child)
        meter.look()
        time.sleep(_LOOK_SECONDS)
    time.sleep(_SETTLE_SECONDS)
    return meter.read(), last_ns - stamps_ns[0]


def _arrived(
    kafka: KafkaBroker, contender: Contender, stage: Stage, child: ChildProcess
) -> tuple[int, int]:
    """Count the events that have arrived, and say as of when."""
    if contender.publishes:
        latest: OffsetSpec = OffsetSpec.latest()  # type: ignore[no-untyped-call] # theirs
        ends = {TopicPartition(stage.topic, n): latest for n in range(PARTITIONS)}
        futures = kafka.admin.list_offsets(ends, request_timeout=_ADMIN_SECONDS)
        count = sum(future.result().offset for future in futures.values())
        return count, time.monotonic_ns()
    # A reader without a topic writes one line at the end; its last word is the moment.
    line = child.output()
    if line.endswith("\n"):
        return stage.events, int(line.split()[-1])
    return 0, time.monotonic_ns()


def _paced(
    servers: Servers, traffic: Traffic, rate: float, stage: Stage, child: ChildProcess
) -> tuple[Usage, int, Latency | None]:
    """Write at a rate, and have a consumer note when each event arrives."""
    file = stage.folder / "received.json"
    argv = [stage.kafka, stage.topic, str(file), json.dumps(asdict(traffic))]
    with running(_program(["consumer", *argv], stage.folder)) as reader:
        meter = _Meter(child.pid, *servers.pids, reader.pid)
        limit_seconds = _deadline_seconds(traffic, min(rate, _SLOWEST))
        stamps_ns = servers.source.emit(traffic, rate, limit_seconds)
        deadline = time.monotonic() + limit_seconds
        while DONE not in reader.output():
            _check_running(child, reader)
            if time.monotonic() > deadline:
                raise RunError("no event arrived, or the last ones came too late")
            meter.look()
            time.sleep(_LOOK_SECONDS)
        time.sleep(_SETTLE_SECONDS)
        usage = meter.read()
    received_ns: list[int] = json.loads(file.read_text())
    latency = latency_of(stamps_ns, received_ns, rate)
    return usage, max(received_ns) - stamps_ns[0], latency


def _check_running(*children: ChildProcess) -> None:
    for child in children:
        if not child.running:
            raise RunError(str(child.error("ended before all events had arrived")))


def _deadline_seconds(traffic: Traffic, slowest: float) -> float:
    return _LEAST_SECONDS + traffic.events / slowest
