"""How fast a full outbox empties once Kafka is back: one broker, half a million events.

Owns the filling, through the socket while Kafka is away, and the clock. Events come
from the benchmark's firehose, which is faster than any real server.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import trio

from benchmarks.orders import Firehose
from benchmarks.traffic import APP_KEY, CLIENT_ID, Traffic
from benchmarks.verification import verify
from tests.chaos.stage import PARTITIONS, Options
from tests.kit.bridge_process import BridgeProcess
from tests.kit.kafka import KafkaServer
from tests.kit.process import ChildProcess, free_ports, start_all
from tests.kit.reader import read_topic


__all__ = ["DRAIN", "Drained", "drain"]

DRAIN = "drain"

_EVENTS = 500_000
_JOBS = 1000
_TOPIC = "chaos-drain"

# The goal that this measures.
_GOAL_PER_SECOND = 50_000

_FILL_SECONDS = 120.0
_DRAIN_SECONDS = 120.0
_READ_SECONDS = 120.0
_START_SECONDS = 10.0
_LOOK_SECONDS = 0.02

_MIB = 2**20


@dataclass(frozen=True)
class Drained:
    """
    What was measured.

    Attributes:
        events: How many events waited.
        fill_seconds: How long it took to read and commit them.
        first_seconds: From when Kafka served until it had the first record.
        drain_seconds: From the first record until nothing waited.
        cpu_seconds: What the bridge used meanwhile.
        rss_bytes: Its memory before Kafka was away, when the outbox was full, at
            most while it drained.
        findings: What is not as it should be.
    """

    events: int
    fill_seconds: float
    first_seconds: float
    drain_seconds: float
    cpu_seconds: float
    rss_bytes: tuple[int, int, int]
    findings: list[str] = field(default_factory=list)

    @property
    def rate(self) -> float:
        """Events a second, from the first record to the last."""
        return self.events / self.drain_seconds

    def __str__(self) -> str:
        sizes = ", ".join(f"{size / _MIB:.0f}" for size in self.rss_bytes)
        return (
            f"drain: {self.events:,} events read without Kafka in"
            f" {self.fill_seconds:.1f} s; back, the first record after"
            f" {self.first_seconds:.1f} s, then {self.rate:,.0f} events/s"
            f" ({self.drain_seconds:.1f} s, {1e6 * self.cpu_seconds / self.events:.1f}"
            f" us CPU an event); memory {sizes} MiB"
        )


async def drain(options: Options, folder: Path, say: Callable[[str], None]) -> Drained:
    """Fill an outbox while Kafka is away, bring it back, and measure."""
    traffic = Traffic(_EVENTS, jobs=_JOBS)
    (port,) = free_ports(1)
    firehose = Firehose(port)
    child = ChildProcess(
        "the firehose",
        [sys.executable, "-m", "benchmarks.firehose", str(port)],
        log=folder / "firehose.log",
        cwd=Path(__file__).parents[2],
        ready=lambda _: firehose.answers(),
    )
    with KafkaServer() as kafka:
        for topic in (_TOPIC, f"{_TOPIC}.dlq", f"{_TOPIC}.gaps"):
            kafka.create_topic(topic, PARTITIONS if topic == _TOPIC else 1)
        bridge = BridgeProcess(
            folder / _TOPIC,
            _TOPIC,
            {
                "CLIENT_ID": CLIENT_ID,
                "API_TOKEN": "any",
                "API_URL": firehose.api_url,
                "PUSHER_URL": firehose.pusher_url,
                "PUSHER_APP_KEY": APP_KEY,
                "KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap_servers,
                "DELIVERY": options.delivery,
            },
        )
        try:
            start_all([child], deadline_seconds=_START_SECONDS)
            await bridge.start_and_wait()
            drained = await _measure(kafka, bridge, firehose, traffic, say)
            assert await bridge.stop() == 0
        finally:
            bridge.kill()
            child.kill()
        records = await trio.to_thread.run_sync(
            read_topic, kafka.bootstrap_servers, _TOPIC, _EVENTS, _READ_SECONDS
        )
    verdict = verify(records, traffic)
    if not verdict.flawless:
        drained.findings.append(str(verdict))
    if drained.rate < _GOAL_PER_SECOND:
        drained.findings.append(f"slower than {_GOAL_PER_SECOND:,} events/s")
    return drained


async def _measure(
    kafka: KafkaServer,
    bridge: BridgeProcess,
    firehose: Firehose,
    traffic: Traffic,
    say: Callable[[str], None],
) -> Drained:
    process = psutil.Process(bridge.pid)
    at_first = process.memory_info().rss
    await trio.to_thread.run_sync(kafka.stop)
    began = time.monotonic()
    await trio.to_thread.run_sync(firehose.emit, traffic, None, _FILL_SECONDS)
    await bridge.wait_metrics(lambda now: now.committed >= _EVENTS, _FILL_SECONDS)
    filled = time.monotonic()
    say(f"drain: {_EVENTS:,} events wait; Kafka comes back ...")
    full = most = process.memory_info().rss

    await trio.to_thread.run_sync(kafka.start)
    back, cpu = time.monotonic(), process.cpu_times()
    first: float | None = None
    with trio.fail_after(_DRAIN_SECONDS):
        while (now := await bridge.metrics()).waiting:
            most = max(most, process.memory_info().rss)
            if first is None and now.published:
                first = time.monotonic()
            await trio.sleep(_LOOK_SECONDS)
    empty = time.monotonic()
    first = first or back
    used = process.cpu_times()
    return Drained(
        events=_EVENTS,
        fill_seconds=filled - began,
        first_seconds=first - back,
        drain_seconds=empty - first,
        cpu_seconds=used.user + used.system - cpu.user - cpu.system,
        rss_bytes=(at_first, full, most),
    )
