"""
One bridge with so many accounts on a real soketi: its start, rest, events and return.

Owns what happens in such a run and what is counted. The order of runs and the table
are `sessions`'.
"""

from __future__ import annotations

import json
import re
import shutil
import statistics
import time
import uuid
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from urllib.request import urlopen

import psutil
import trio

from benchmarks.contenders import program
from benchmarks.course import RunError
from benchmarks.measuring import Meter
from tests.e2e.jobs import Load, job
from tests.kit.dryapi import AUTH, DryApi
from tests.kit.kafka import KafkaServer
from tests.kit.process import ChildProcess, free_ports, start_all, stop_all
from tests.kit.reader import Record, read_topic
from tests.kit.soketi import SoketiServer


__all__ = ["Ground", "Rest", "Result", "Return", "Stream", "most_in_a_second"]

_PARTITIONS = 6

_START_SECONDS = 60.0
_STOP_SECONDS = 30.0
_ARRIVE_SECONDS = 120.0
_READ_SECONDS = 60.0
_HTTP_SECONDS = 10.0

# A start is over by then: code is loaded, buffers have their size.
_SETTLE_SECONDS = 5.0

_LOOK_SECONDS = 0.02

# How many accounts get events side by side; soketi is the slowest of all anyway.
_PUBLISHERS = 4

# Of a job: processing, eight steps, done.
_STEPS = 8
_JOB_EVENTS = _STEPS + 2

_SUBSCRIBED = re.compile(r"^bridge_subscribed\{[^}]*\} 1", re.MULTILINE)
_PUBLISHED = re.compile(
    r"^bridge_records_published_total\{[^}]*\} ([0-9.e+]+)", re.MULTILINE
)


@dataclass(frozen=True)
class Rest:
    """
    A start, and a bridge that nothing happens to.

    Attributes:
        accounts: How many.
        seconds: How long it was watched.
        start_seconds: From the process's start to the first authorisation.
        subscribed_seconds: From then until all were subscribed.
        connects_a_second: The most authorisations asked for in any second.
        memory_bytes: Resident, the median of one look a second.
        cpu_seconds: User and system time of all the seconds.
        others_cores: Cores that others used meanwhile.
    """

    accounts: int
    seconds: float
    start_seconds: float
    subscribed_seconds: float
    connects_a_second: int
    memory_bytes: float
    cpu_seconds: float
    others_cores: float


@dataclass(frozen=True)
class Stream:
    """
    Events of all accounts at once.

    Attributes:
        accounts: How many.
        events: How many events soketi took, of all accounts.
        events_per_second: From the first one's publishing to the last one's arrival
            in Kafka.
        flaws: What was wrong with what stood on the topic, a line for each; a few.
    """

    accounts: int
    events: int
    events_per_second: float
    flaws: tuple[str, ...]


@dataclass(frozen=True)
class Return:
    """
    What became of a bridge whose soketi was killed and started again.

    Attributes:
        subscribed_seconds: From soketi's first answer until all were subscribed.
        connects_a_second: The most authorisations asked for in any second.
    """

    subscribed_seconds: float
    connects_a_second: int


@dataclass(frozen=True)
class Result:
    """
    What one bridge gave.

    Attributes:
        rest: Its start, and what it needs at rest.
        stream: Its events; None if there were to be none.
        back: Its return after a restart of soketi.
    """

    rest: Rest
    stream: Stream | None
    back: Return


class Ground:
    """
    The servers, on which bridges are started one after the other.

    Args:
        kafka: The broker.
        soketi: The Pusher server.
        folder: For files; the caller removes it.
    """

    def __init__(
        self,
        kafka: KafkaServer,
        soketi: SoketiServer,
        folder: Path,
    ) -> None:
        self._kafka = kafka
        self._soketi = soketi
        self._folder = folder

    def run(self, accounts: int, seconds: float, events: int) -> Result:
        """
        Run a bridge once.

        Args:
            accounts: How many it has.
            seconds: How long it is watched at rest.
            events: How many to publish afterwards; 0 for none.

        Raises:
            RunError: Not all were subscribed, or not all arrived, in time.
            ProcessError: It didn't start.
        """
        bridge = _Bridge(self._kafka, self._soketi, self._folder, accounts)
        with bridge.running():
            rest = bridge.rest(seconds, (*self._kafka.pids, self._soketi.pid))
            stream = bridge.stream(events) if events else None
            return Result(rest, stream, bridge.back())


class _Bridge:
    """One bridge with its accounts, topics and files."""

    def __init__(
        self, kafka: KafkaServer, soketi: SoketiServer, folder: Path, accounts: int
    ) -> None:
        self._kafka = kafka
        self._soketi = soketi
        self._client_ids = [f"account-{number:03}" for number in range(accounts)]
        self._dryapi = DryApi(soketi, dict.fromkeys(self._client_ids, "any"))
        self._since = 0.0
        self._topic = f"sessions-{uuid.uuid4().hex[:12]}"
        self._files = folder / self._topic
        (self._port,) = free_ports(1)
        self._began = 0.0

    @property
    def _asked(self) -> list[float]:
        """When signatures were asked for since the last connection's end."""
        times = [each.at for each in self._dryapi.requests if each.path == AUTH]
        return [at for at in times if at >= self._since]

    @contextmanager
    def running(self) -> Iterator[None]:
        """Have it running, its start not awaited, inside the block."""
        self._files.mkdir()
        topics = {
            self._topic: _PARTITIONS,
            f"{self._topic}.dlq": 1,
            f"{self._topic}.gaps": 1,
        }
        for name, partitions in topics.items():
            self._kafka.create_topic(name, partitions)
        try:
            with self._dryapi.serving():
                self._child = child = self._process()
                self._began = time.time()
                start_all([child], deadline_seconds=_START_SECONDS)
                try:
                    yield
                finally:
                    stop_all([child], grace_seconds=_STOP_SECONDS)
        finally:
            self._kafka.delete_topics(*topics)
            shutil.rmtree(self._files, ignore_errors=True)

    def _process(self) -> ChildProcess:
        token = self._files / "token"
        token.write_text("any")
        config = self._files / "bridge.toml"
        config.write_text(
            "\n".join(
                f"[[accounts]]\nclient_id = {json.dumps(client_id)}\n"
                f"api_token_file = {json.dumps(str(token))}\n"
                for client_id in self._client_ids
            )
        )
        settings = {
            "BRIDGE_API_URL": self._dryapi.url,
            "BRIDGE_PUSHER_URL": self._soketi.url,
            "BRIDGE_PUSHER_APP_KEY": self._soketi.app.key,
            "BRIDGE_KAFKA_BOOTSTRAP_SERVERS": self._kafka.bootstrap_servers,
            "BRIDGE_OUTBOX_DIR": str(self._files / "outbox"),
            "BRIDGE_OPERATIONS_LISTEN": f"127.0.0.1:{self._port}",
            "BRIDGE_LOG_LEVEL": "warning",
        }
        return program(
            "bridge",
            ["bridge", "--topic", self._topic, "--config", str(config)],
            self._files,
            environment=settings,
            ready=lambda _: bool(self._asked),
        )

    # -- At rest --------------------------------------------------------------

    def rest(self, seconds: float, helpers: Sequence[int]) -> Rest:
        """Wait until all are subscribed, then watch it."""
        subscribed = self._wait_subscribed()
        first = min(self._asked)
        time.sleep(_SETTLE_SECONDS)
        process = psutil.Process(self._child.pid)
        meter = Meter(self._child.pid, helpers)
        watched = time.monotonic()
        sizes = []
        while time.monotonic() < watched + seconds:
            time.sleep(1.0)
            sizes.append(process.memory_info().rss)
        usage = meter.read()
        return Rest(
            accounts=len(self._client_ids),
            seconds=time.monotonic() - watched,
            start_seconds=first - self._began,
            subscribed_seconds=subscribed - first,
            connects_a_second=most_in_a_second(self._asked),
            memory_bytes=statistics.median(sizes),
            cpu_seconds=usage.cpu_seconds,
            others_cores=usage.others_cores,
        )

    # -- With events ----------------------------------------------------------

    def stream(self, events: int) -> Stream:
        """Publish to all accounts, wait until all is in Kafka, and judge it."""
        each = max(1, events // _JOB_EVENTS // len(self._client_ids))
        began = time.monotonic()
        accepted = trio.run(self._publish, each)
        count = sum(len(texts) for jobs in accepted.values() for texts in jobs.values())
        self._wait(
            lambda: self._published() >= count, _ARRIVE_SECONDS, "all had arrived"
        )
        seconds = time.monotonic() - began
        records = read_topic(
            self._kafka.bootstrap_servers, self._topic, count, _READ_SECONDS
        )
        return Stream(
            accounts=len(self._client_ids),
            events=count,
            events_per_second=count / seconds,
            flaws=tuple(_flaws(records, accepted, self._dryapi.url)),
        )

    async def _publish(self, jobs: int) -> dict[str, dict[str, list[bytes]]]:
        """Let each account have so many jobs; give what soketi took, by account."""
        accepted: dict[str, dict[str, list[bytes]]] = {}
        limit = trio.CapacityLimiter(_PUBLISHERS)
        async with self._soketi.publisher() as publisher:

            async def serve(client_id: str) -> None:
                async with limit:
                    load = Load(publisher, f"private-client.{client_id}")
                    await load.run_together([job(_STEPS) for _ in range(jobs)])
                    accepted[client_id] = load.accepted

            async with trio.open_nursery() as nursery:
                for client_id in self._client_ids:
                    nursery.start_soon(serve, client_id)
        return accepted

    def _published(self) -> int:
        return sum(
            int(float(line[1]))
            for line in _PUBLISHED.finditer(self._metrics())
            if f'"{self._topic}"' in line[0]
        )

    # -- After a restart of soketi --------------------------------------------

    def back(self) -> Return:
        """Kill soketi, start it again, and wait until all are subscribed."""
        self._since = time.time()
        self._soketi.kill()
        self._wait(
            lambda: not _SUBSCRIBED.search(self._metrics()),
            _STOP_SECONDS,
            "it had noticed the end of soketi",
        )
        self._soketi.start()
        up = time.time()
        return Return(self._wait_subscribed() - up, most_in_a_second(self._asked))

    # -- What it says ---------------------------------------------------------

    def _metrics(self) -> str:
        address = f"http://127.0.0.1:{self._port}/metrics"
        with urlopen(address, timeout=_HTTP_SECONDS) as answer:
            assert answer.status == HTTPStatus.OK
            text: str = answer.read().decode()
            return text

    def _wait_subscribed(self) -> float:
        """Wait until all are subscribed, and tell when they were."""
        self._wait(
            lambda: len(_SUBSCRIBED.findall(self._metrics())) == len(self._client_ids),
            _START_SECONDS,
            "all were subscribed",
        )
        return time.time()

    def _wait(self, condition: Callable[[], bool], seconds: float, what: str) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            if not self._child.running:
                raise RunError(str(self._child.error(f"ended before {what}")))
            if time.monotonic() > deadline:
                raise RunError(f"not within {seconds:g} s: {what}")
            time.sleep(_LOOK_SECONDS)


def most_in_a_second(moments: Sequence[float]) -> int:
    """Tell how many of these moments lie within one second at most."""
    ordered = sorted(moments)
    return max(
        (
            bisect_left(ordered, moment + 1.0) - place
            for place, moment in enumerate(ordered)
        ),
        default=0,
    )


def _flaws(
    records: Sequence[Record],
    accepted: dict[str, dict[str, list[bytes]]],
    api_url: str,
) -> Iterator[str]:
    """Compare the topic with what soketi took: once, in order, under its account."""
    found: defaultdict[tuple[str, str], list[bytes | None]] = defaultdict(list)
    for record in records:
        source = record.headers["ce_source"].decode()
        found[source, (record.key or b"").decode()].append(record.value)
    for client_id, jobs in accepted.items():
        for request_id, texts in jobs.items():
            got = found.pop((f"{api_url}/clients/{client_id}", request_id), [])
            if got != texts:
                yield f"{client_id}, job {request_id}: {len(got)} of {len(texts)}"
    if found:
        yield f"{len(found)} jobs that were never published, or not there"
