"""
Whether a bridge under a steady load keeps its memory: 1,000 events/s of jobs that end.

A real soketi publishes to it, a real Kafka takes its records. It fails if, after the
first ten minutes, resident memory moves by 5 MB or more, or if events are left behind.
"""

from __future__ import annotations

import argparse
import http.client
import json
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import psutil

from benchmarks.amounts import seconds
from benchmarks.telling import say
from benchmarks.traffic import EVENT, channel_of
from tests.kit.bridge_process import BridgeProcess, Metrics
from tests.kit.dryapi import DryApi
from tests.kit.kafka import KafkaServer
from tests.kit.publisher import Soketi
from tests.kit.soketi import SoketiServer


_CLIENT_ID = "steady"
_PARTITIONS = 6

# An hour's records would be three gigabytes.
_KEPT = {"retention.bytes": "50000000", "segment.bytes": "20000000"}

# Pusher's HTTP API takes so many events a call.
_BATCH = 10

# Jobs that run at the same time, and what each says until it has ended.
_JOBS = 500
_STEPS = 10

_LOOK_SECONDS = 60.0
_WARM_SECONDS = 600.0
_END_SECONDS = 30.0
_HTTP_SECONDS = 10.0

_MB = 10**6
_MOST_BYTES = 5 * _MB


def main(arguments: Sequence[str] | None = None) -> int:
    """
    Run, print memory each minute, and judge.

    Returns:
        0; 1 if memory moved, or events were left behind.
    """
    options = _options(arguments)
    topic = f"steady-{uuid.uuid4().hex[:12]}"
    with (
        tempfile.TemporaryDirectory(prefix="bridge-steady-") as folder,
        KafkaServer() as kafka,
        SoketiServer() as soketi,
        DryApi(soketi, {_CLIENT_ID: "any"}).serving() as dryapi,
    ):
        names = {topic: _PARTITIONS, f"{topic}.dlq": 1, f"{topic}.gaps": 1}
        kafka.create_topics(names, _KEPT)
        settings = {
            "CLIENT_ID": _CLIENT_ID,
            "API_TOKEN": "any",
            "API_URL": dryapi.url,
            "PUSHER_URL": soketi.url,
            "PUSHER_APP_KEY": soketi.app.key,
            "KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap_servers,
            "DELIVERY": options.delivery,
        }
        bridge = BridgeProcess(Path(folder) / "bridge", topic, settings)
        with _running(bridge):
            return _measure(bridge, soketi, options.rate, options.seconds)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.steady",
        description="Watch a bridge's memory under a steady load.",
    )
    parser.add_argument(
        "--for", type=seconds, default="1h", dest="seconds", help="such as 20m or 1h"
    )
    parser.add_argument("--rate", type=float, default=1000.0, help="events a second")
    modes = ("idempotent", "transactional")
    parser.add_argument("--delivery", choices=modes, default=modes[0])
    return parser.parse_args(arguments)


@contextmanager
def _running(bridge: BridgeProcess) -> Iterator[None]:
    bridge.start()
    try:
        if not _until(lambda: (bridge.get("/readyz") or (0, ""))[0] == http.client.OK):
            raise SystemExit(f"the bridge isn't ready: {bridge.all_output}")
        yield
    finally:
        bridge.kill()


def _measure(bridge: BridgeProcess, soketi: Soketi, rate: float, runs: float) -> int:
    process = psutil.Process(bridge.pid)
    rest = process.memory_info().rss
    publishing = _Publishing(soketi, rate)
    say(f"at rest {rest / _MB:.1f} MB; {rate:,.0f} events/s for {runs / 60:g} minutes")
    samples: list[tuple[float, int]] = []
    began = time.monotonic()
    publishing.start()
    while (passed := time.monotonic() - began) < runs:
        time.sleep(min(_LOOK_SECONDS, runs - passed))
        rss, at = process.memory_info().rss, time.monotonic() - began
        samples.append((at, rss))
        times = process.cpu_times()
        cost = (times.user + times.system) / max(publishing.taken, 1) * 1e6
        say(
            f"{at / 60:6.1f} min {rss / _MB:6.1f} MB {publishing.taken:>10,} events"
            f" {cost:5.0f} us CPU each"
        )
    publishing.stop()
    findings = publishing.findings
    if publishing.taken < rate * runs * 0.9:
        findings.append(f"soketi took only {publishing.taken:,} events")

    def published() -> int:
        answer = bridge.get("/metrics")
        return 0 if answer is None else Metrics(answer[1]).published

    if not _until(lambda: published() >= publishing.taken):
        findings.append(f"published {published():,} of {publishing.taken:,} events")
    warm = [rss for at, rss in samples if at >= min(_WARM_SECONDS, runs / 2)]
    moved = max(warm) - min(warm)
    say(f"memory moved by {moved / _MB:.1f} MB once it was warm")
    if moved >= _MOST_BYTES:
        findings.append(f"memory moved by {moved / _MB:.1f} MB")
    for finding in findings:
        say(f"FINDING: {finding}")
    return 1 if findings else 0


class _Publishing(threading.Thread):
    """Publishes at a rate over one connection; it is behind for a while at most."""

    def __init__(self, soketi: Soketi, rate: float) -> None:
        super().__init__(daemon=True)
        self._soketi = soketi
        self._rate = rate
        self._ends = threading.Event()
        self.taken = 0
        self.findings: list[str] = []

    def stop(self) -> None:
        """Publish no more, and wait until that is so."""
        self._ends.set()
        self.join()

    def run(self) -> None:
        """Publish until stopped, or soketi refuses."""
        host = self._soketi.http_url.removeprefix("http://")
        connection = http.client.HTTPConnection(host, timeout=_HTTP_SECONDS)
        began = time.monotonic()
        try:
            while not self.findings and not self._ends.is_set():
                due = began + self.taken / self._rate
                time.sleep(max(due - time.monotonic(), 0.0))
                self._publish(connection)
        except (OSError, http.client.HTTPException) as error:
            self.findings.append(f"soketi doesn't answer: {error!r}")
        finally:
            connection.close()

    def _publish(self, connection: http.client.HTTPConnection) -> None:
        batch = [_event(self.taken + place) for place in range(_BATCH)]
        body = json.dumps({"batch": batch}).encode()
        path = f"/apps/{self._soketi.app.id}/batch_events"
        signed = self._soketi.sign_request(path, body)
        head = {"Content-Type": "application/json"}
        connection.request("POST", signed, body, head)
        answer = connection.getresponse()
        text = answer.read()
        if answer.status == http.client.OK:
            self.taken += _BATCH
        else:
            self.findings.append(f"soketi refused: {answer.status} {text!r}")


def _event(index: int) -> dict[str, str]:
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
    return {
        "name": EVENT,
        "channel": channel_of(_CLIENT_ID),
        "data": json.dumps(status),
    }


def _until(holds: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + _END_SECONDS
    while not holds():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True


if __name__ == "__main__":
    sys.exit(main())
