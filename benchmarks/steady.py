"""
`make steady`: whether a bridge's memory stays the same under a steady load.

A real soketi publishes jobs that end, 500 at a time, ten events each; a real Kafka
takes the records. It fails if, once ten minutes have passed (half the time of a shorter
run), resident memory moves by 5 MB or more, or if events are missing at the end.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import tempfile
import time
import uuid
from collections.abc import Sequence
from pathlib import Path

import psutil
import trio

from benchmarks.load import CLIENT_ID
from benchmarks.program import RunError, conclude, count, run_trio, say, seconds
from benchmarks.run import PARTITIONS
from benchmarks.soketi import SoketiSource, soketi_running
from tests.kit.bridge_process import BridgeProcess
from tests.kit.kafka import KafkaServer
from tests.kit.process import ProcessError


# An hour's records would be three gigabytes.
_KEPT = {"retention.bytes": "50000000", "segment.bytes": "20000000"}

# Jobs that run at the same time, and the events of each until it has ended.
_JOBS = 500
_STEPS = 10

_LOOK_SECONDS = 60.0
_LEAST_LOOKS = 10
_WARM_SECONDS = 600.0
_END_SECONDS = 30.0

# Of the events that are due; soketi may be behind for a while.
_LEAST_SHARE = 0.9

_MB = 10**6
_MOST_BYTES = 5 * _MB


def main(arguments: Sequence[str] | None = None) -> int:
    """
    Run, print memory each minute, and judge.

    Returns:
        0; 1 if memory moved, events are missing or a server failed; 2 for wrong
        options; 130 if it was stopped.
    """
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.steady",
        description="Watch a bridge's memory under a steady load.",
    )
    parser.add_argument(
        "--for", type=seconds, default="1h", dest="seconds", help="such as 20m or 1h"
    )
    parser.add_argument("--rate", type=count, default=1000, help="events a second")
    modes = ("idempotent", "transactional")
    parser.add_argument("--delivery", choices=modes, default=modes[0])
    options = parser.parse_args(arguments)
    return conclude("make steady", lambda: _measure(options))


def _measure(options: argparse.Namespace) -> int:
    topic = f"steady-{uuid.uuid4().hex[:12]}"
    with (
        tempfile.TemporaryDirectory(prefix="bridge-steady-") as folder,
        KafkaServer() as kafka,
        soketi_running() as (_, source),
    ):
        names = {topic: PARTITIONS, f"{topic}.dlq": 1, f"{topic}.gaps": 1}
        kafka.create_topics(names, _KEPT)
        settings = {
            "CLIENT_ID": CLIENT_ID,
            "API_TOKEN": "any",
            "API_URL": source.api_url,
            "PUSHER_URL": source.pusher_url,
            "PUSHER_APP_KEY": source.app_key,
            "KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap_servers,
            "DELIVERY": options.delivery,
        }
        bridge = BridgeProcess(Path(folder) / "bridge", topic, settings)
        try:
            findings = run_trio(_watch, bridge, source, options.rate, options.seconds)
        finally:
            bridge.kill()
    for finding in findings:
        say(f"FINDING: {finding}")
    return 1 if findings else 0


async def _watch(
    bridge: BridgeProcess, source: SoketiSource, rate: float, runs_seconds: float
) -> list[str]:
    """Publish for so long; give what is wrong."""
    await bridge.start_and_wait()
    process = psutil.Process(bridge.pid)
    rest = process.memory_info().rss
    say(f"at rest {rest / _MB:.1f} MB; {rate:,} events/s for {runs_seconds / 60:g} min")
    warm_seconds = min(_WARM_SECONDS, runs_seconds / 2)
    # A short run needs several looks too.
    pause_seconds = min(_LOOK_SECONDS, runs_seconds / _LEAST_LOOKS)
    publishing = _Publishing(source, rate)
    warm: list[int] = []
    began = time.monotonic()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(publishing.run)
        try:
            at = 0.0
            while at < runs_seconds:
                await trio.sleep(min(pause_seconds, runs_seconds - at))
                at, rss = time.monotonic() - began, process.memory_info().rss
                warm += [rss] if at >= warm_seconds else []
                accepted, cpu_us = (
                    publishing.accepted,
                    sum(process.cpu_times()[:2]) * 1e6,
                )
                say(
                    f"{at / 60:6.1f} min {rss / _MB:6.1f} MB {accepted:>10,} events"
                    f" {cpu_us / max(accepted, 1):5.0f} us CPU each"
                )
        finally:
            publishing.going = False
    accepted, moved = publishing.accepted, max(warm) - min(warm)
    findings = []
    say(f"memory moved by {moved / _MB:.1f} MB after {warm_seconds / 60:g} min")
    if moved >= _MOST_BYTES:
        findings.append(f"memory moved by {moved / _MB:.1f} MB")
    if accepted < rate * runs_seconds * _LEAST_SHARE:
        findings.append(f"soketi accepted only {accepted:,} events")
    try:
        await bridge.wait_metrics(lambda now: now.published >= accepted, _END_SECONDS)
    except ProcessError as error:
        findings.append(f"of {accepted:,} events: {str(error).splitlines()[0]}")
    return findings


class _Publishing:
    """Publishes at a rate over one connection; `accepted` counts what soketi took."""

    def __init__(self, source: SoketiSource, rate: float) -> None:
        self._source = source
        self._rate = rate
        self.going = True
        self.accepted = 0

    async def run(self) -> None:
        """Publish in a thread as long as it is `going`."""
        await trio.to_thread.run_sync(self._run)

    def _run(self) -> None:
        requests = self._source.requests((n, _payload(n)) for n in itertools.count())
        for attempt in self._source.send(requests, self._rate, lambda: self.going):
            if not attempt.taken:
                raise RunError(f"soketi didn't accept event {attempt.event:,}")
            self.accepted += 1


def _payload(index: int) -> str:
    """Give an event; jobs take turns, and end one after the other."""
    turn, place = divmod(index, _JOBS)
    life, step = divmod(turn + place, _STEPS)
    ends = step == _STEPS - 1
    status = {
        "request_id": f"{life:08x}-8b3a-4d70-9c15-{place:012x}",
        "status": "done" if ends else "processing",
        "preview": None,
        "result_url": f"https://result.example/{life}/{place}.png" if ends else None,
        "progress": f"{(step + 1) * 100 / _STEPS:.2f}",
    }
    return json.dumps(status)


if __name__ == "__main__":
    sys.exit(main())
