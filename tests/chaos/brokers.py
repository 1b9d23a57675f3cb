"""`brokers`: what faults of brokers do to memory and log, and a full outbox.

One course for each fault. `drain` fills an outbox through the socket while Kafka is
away, from the benchmarks' firehose, which is faster than any real server, and measures
how fast it empties.
"""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from pathlib import Path
from random import Random

import trio

from benchmarks.orders import Firehose
from benchmarks.traffic import APP_KEY, CLIENT_ID, Traffic
from benchmarks.verification import verify
from tests.chaos.course import PARTITIONS, Course, Options, Say, Servers
from tests.chaos.faults import Fault, strike
from tests.chaos.runs import OUTAGE_BYTES, judge_topics
from tests.chaos.verdict import Verdict
from tests.chaos.vitals import MIB
from tests.kit.bridge_process import BridgeProcess
from tests.kit.kafka import KafkaServer
from tests.kit.process import ChildProcess, ProcessError, free_ports, start_all
from tests.kit.reader import read_topic


DRAIN = "drain"

_CALM_SECONDS = 8.0

# A partition's longest pause is 10 s, a broker's way back into the replica set some
# more.
_CATCH_UP_SECONDS = 120.0
_ROWS_ON_THE_WAY = 20

# A handful of lines a minute.
_QUIET_LINES = 20


async def measure(
    fault: Fault, servers: Servers, options: Options, say: Say
) -> tuple[Course, Verdict]:
    """Let a fault happen under load, and measure and judge what became of it."""
    say(f"{fault.name} ...")
    course = Course(
        f"brokers-{fault.name}",
        servers,
        options,
        configs=(
            {"min.insync.replicas": str(fault.in_sync)} if fault.in_sync else None
        ),
        replication_factor=fault.copies,
        look_seconds=0.5,
    )
    async with course.running():
        watch, bridge = course.watch, course.bridge
        await trio.sleep(_CALM_SECONDS)
        before, lines = await watch.look(), bridge.all_output.count("\n")
        seconds = fault.draws["brokers"][1][0][0]
        happened = await strike(course, fault, Random(options.seed), seconds)
        # What is on its way in any moment of the steady load.
        few = max(watch.samples[0].waiting or 0, _ROWS_ON_THE_WAY)
        try:
            await bridge.wait_metrics(lambda now: now.waiting <= few, _CATCH_UP_SECONDS)
        except ProcessError:
            if not bridge.running:
                raise
            course.findings.append(f"it did not catch up in {_CATCH_UP_SECONDS:g} s")
        after, lines = await watch.look(), bridge.all_output.count("\n") - lines
        await course.finish(calm_seconds=1.0)
    assert before is not None
    assert after is not None
    assert happened.ended is not None
    verdict, _ = await judge_topics(course, repeats=True)
    during = [each for each in watch.samples if happened.begun <= each.at <= after.at]
    peak = max(each.rss_bytes for each in during)
    lines_a_minute = 60 * lines / (after.at - happened.begun)
    reconnects = (after.connects or 0) - 1
    if reconnects:
        verdict.findings.append(f"the session was subscribed {reconnects} times more")
    if lines_a_minute > _QUIET_LINES:
        verdict.findings.append(f"{lines_a_minute:.0f} log lines a minute")
    if peak > before.rss_bytes + OUTAGE_BYTES:
        grown = (peak - before.rss_bytes) / MIB
        verdict.findings.append(f"memory grew by {grown:.0f} MiB")
    verdict.findings = [f"{fault.name}: {line}" for line in verdict.findings]
    output = [json.loads(line) for line in bridge.all_output.splitlines()]
    verdict.figures |= {
        "logged": Counter(
            f"{line['event']} ({line['error']})" if "error" in line else line["event"]
            for line in output
        ),
        "log lines a minute": round(lines_a_minute),
        "memory before": str(before),
        "highest memory": f"{peak / MIB:.1f} MiB",
        "memory after": str(after),
        "most waiting": max(each.waiting or 0 for each in during),
        "caught up after": f"{after.at - happened.ended:.1f} s",
    }
    return course, verdict


# -- A full outbox --------------------------------------------------------

_EVENTS = 500_000
_JOBS = 1000
_TOPIC = "chaos-drain"

# The goal that this measures.
_GOAL_PER_SECOND = 50_000

_DRAIN_SECONDS = 120.0
_START_SECONDS = 10.0


async def drain(options: Options, folder: Path, say: Say) -> list[str]:
    """Fill an outbox while Kafka is away, bring it back, and measure; give findings."""
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
        settings = {
            "CLIENT_ID": CLIENT_ID,
            "API_TOKEN": "any",
            "API_URL": firehose.api_url,
            "PUSHER_URL": firehose.pusher_url,
            "PUSHER_APP_KEY": APP_KEY,
            "KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap_servers,
            "DELIVERY": options.delivery,
        }
        bridge = BridgeProcess(folder / _TOPIC, _TOPIC, settings)
        try:
            start_all([child], deadline_seconds=_START_SECONDS)
            await bridge.start_and_wait()
            await trio.to_thread.run_sync(kafka.stop)
            await trio.to_thread.run_sync(firehose.emit, traffic, None, _DRAIN_SECONDS)
            await bridge.wait_metrics(
                lambda now: now.committed >= _EVENTS, _DRAIN_SECONDS
            )
            say(f"{DRAIN}: {_EVENTS:,} events wait; Kafka comes back ...")
            rate = await _empty(kafka, bridge)
            say(f"{DRAIN}: {rate:,.0f} events/s")
            assert await bridge.stop() == 0
        finally:
            bridge.kill()
            child.kill()
        records = await trio.to_thread.run_sync(
            read_topic, kafka.bootstrap_servers, _TOPIC, _EVENTS, _DRAIN_SECONDS
        )
    verdict = verify(records, traffic)
    findings = [] if verdict.flawless else [f"{DRAIN}: {verdict}"]
    if rate < _GOAL_PER_SECOND:
        findings.append(f"{DRAIN}: slower than {_GOAL_PER_SECOND:,} events/s")
    return findings


async def _empty(kafka: KafkaServer, bridge: BridgeProcess) -> float:
    """Bring Kafka back; give the rate from the first record until nothing waited."""
    await trio.to_thread.run_sync(kafka.start)
    first = time.monotonic()
    with trio.fail_after(_DRAIN_SECONDS):
        while (now := await bridge.metrics()).waiting:
            if not now.published:
                first = time.monotonic()
            await trio.sleep(0.02)
    return _EVENTS / (time.monotonic() - first)
