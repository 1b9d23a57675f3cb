"""One course for every command: servers, a bridge, its load, the orderly end.

What happens in between is a fault of `faults`' table; what is true at the end decides
`verdict`.
"""

from __future__ import annotations

import json
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random

import trio

from tests.chaos.load import Load
from tests.chaos.upstream import WEBHOOK_SECRET, Member, Upstream, serving
from tests.chaos.vitals import Watch
from tests.chaos.witness import Follower
from tests.kit.bridge_process import BridgeProcess
from tests.kit.broker import KafkaBroker
from tests.kit.expected import Kind, ReadTopic
from tests.kit.kafka import KafkaServer
from tests.kit.process import ProcessError, free_ports
from tests.kit.proxy import FaultProxy
from tests.kit.reader import read_topic
from tests.kit.soketi import SoketiServer


Say = Callable[[str], None]

PARTITIONS = 6

# A failed job sends nothing; the bridge asks about it after that long.
STALE_SECONDS = 20.0

_TOPICS = {Kind.JOBS: "", Kind.DEAD_LETTERS: ".dlq", Kind.GAPS: ".gaps"}

# A topic of 100,000 records takes 2 s.
_READ_SECONDS = 120.0

# A lost connection is noticed within activity and pong timeout, 40 s; the session's
# longest wait is 30 s.
_SUBSCRIBED_SECONDS = 120.0

_DRAIN_SECONDS = 120.0

# Its deadline of 20 s, and what relay and outbox take.
_STOP_SECONDS = 32.0


@dataclass(frozen=True)
class Options:
    """What a run was asked for."""

    seed: int = 1
    delivery: str = "idempotent"
    rate: float = 0.0
    previews: tuple[float, int] = (0.0, 0)


@dataclass(frozen=True)
class Servers:
    """The servers around the bridge, and a folder for its files."""

    kafka: KafkaBroker
    soketi: SoketiServer
    folder: Path


@dataclass
class Happened:
    """One fault that happened; times are seconds since the epoch."""

    name: str
    causes: frozenset[str]  # of the gaps that it explains
    begun: float
    ended: float | None = None  # when everything was as before
    up: float | None = None  # when the server accepted connections again


class Course:
    """A topic and a bridge between a proxy in front of soketi and Kafka.

    With a rate there is one account, and a numbered load; without, jobs of
    the given accounts, and a consumer that reads along.
    """

    bridge: BridgeProcess
    dryapi: Upstream
    watch: Watch
    load: Load
    follower: Follower

    def __init__(
        self,
        name: str,
        servers: Servers,
        options: Options,
        say: Say = lambda _: None,
        *,
        members: Sequence[Member] = (),
        configs: Mapping[str, str] | None = None,
        replication_factor: int = -1,
        look_seconds: float = 2.0,
    ) -> None:
        self.topic = name
        self.servers = servers
        self.options = options
        self.members = members or [Member(name, "any")]
        self.proxy = FaultProxy(servers.soketi.url)
        self.faults: list[Happened] = []  # in the order in which they began
        self.findings: list[str] = []  # what the bridge did that nothing explains
        self.down_on_purpose = False
        # Whether faults are never broken off, and a bridge that one has ended is ready
        # at its end.
        self.faults_finish = not options.rate
        self._say = say
        self._began = time.monotonic()
        (self._webhook_port,) = free_ports(1)
        self._look_seconds = look_seconds
        create = servers.kafka.create_topics
        create({name: PARTITIONS}, configs, replication_factor=replication_factor)
        # These must not be what a fault is about.
        create({f"{name}.dlq": 1, f"{name}.gaps": 1}, configs)

    @property
    def kafka(self) -> KafkaServer:
        """The cluster, which faults may end."""
        assert isinstance(self.servers.kafka, KafkaServer)
        return self.servers.kafka

    @property
    def sources(self) -> set[str]:
        """The accounts, as records name them."""
        return {f"{self.dryapi.url}/clients/{each.client_id}" for each in self.members}

    def tell(self, line: str) -> None:
        """Say a line, with how long the course has lasted."""
        self._say(f"{time.monotonic() - self._began:>8.1f} s  {line}")

    @contextmanager
    def during(self, name: str, causes: frozenset[str]) -> Iterator[Happened]:
        """Note a fault that lasts as long as the block."""
        fault = Happened(name, causes, time.time())
        self.faults.append(fault)
        self.tell(f"{name} ...")
        try:
            yield fault
        finally:
            fault.ended = time.time()
            self.tell(f"... {name}, for {fault.ended - fault.begun:.1f} s")

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Start everything; what runs at the end of the block is killed."""
        soketi, options = self.servers.soketi, self.options
        hooks = f"http://127.0.0.1:{self._webhook_port}/webhooks/dryapi"
        async with (
            serving(soketi, self.members, hooks, options.seed) as self.dryapi,
            soketi.publisher() as publisher,
            trio.open_nursery() as nursery,
        ):
            await nursery.start(self.proxy.serve)
            self.bridge = self._make_bridge()
            self.watch = Watch(self.bridge, self._look_seconds)
            if options.rate:
                self.load = Load(
                    publisher,
                    f"private-client.{self.topic}",
                    options.rate,
                    Random(options.seed),
                    options.previews,
                )
            else:
                bootstrap_servers = self.servers.kafka.bootstrap_servers
                topics = [self.topic, f"{self.topic}.gaps"]
                self.follower = Follower(bootstrap_servers, topics)
                nursery.start_soon(self.follower.run)
            try:
                await self.bridge.start_and_wait()
                nursery.start_soon(self.watch.run)
                if options.rate:
                    nursery.start_soon(self.load.run)
                yield
            finally:
                self.bridge.kill()
            nursery.cancel_scope.cancel()

    def _make_bridge(self) -> BridgeProcess:
        settings = {
            "API_URL": self.dryapi.url,
            "PUSHER_URL": self.proxy.url,
            "PUSHER_APP_KEY": self.servers.soketi.app.key,
            "KAFKA_BOOTSTRAP_SERVERS": self.servers.kafka.bootstrap_servers,
            "DELIVERY": self.options.delivery,
        }
        flags = []
        if self.options.rate:
            (member,) = self.members
            settings |= {"CLIENT_ID": member.client_id, "API_TOKEN": member.token}
        else:
            config = self.servers.folder / "accounts.toml"
            config.write_text("\n".join(map(self._entry, self.members)))
            flags = ["--config", str(config)]
            settings["RECONCILIATION_STALE_AFTER_SECONDS"] = f"{STALE_SECONDS:g}"
        if any(member.webhooks for member in self.members):
            settings["WEBHOOK_LISTEN"] = f"127.0.0.1:{self._webhook_port}"
        folder = self.servers.folder / self.topic
        return BridgeProcess(folder, self.topic, settings, flags=flags)

    def _entry(self, member: Member) -> str:
        """Write an account's secrets to files; give its part of the configuration."""
        secrets = {"api_token": member.token}
        if member.webhooks:
            secrets["webhook_secret"] = WEBHOOK_SECRET
        lines = ["[[accounts]]", f"client_id = {json.dumps(member.client_id)}"]
        for name, secret in secrets.items():
            file = self.servers.folder / f"{member.client_id}.{name}"
            file.write_text(secret)
            lines.append(f"{name}_file = {json.dumps(str(file))}")
        return "\n".join([*lines, ""])

    async def stop_bridge(self) -> None:
        """End the bridge by SIGTERM; another exit code than 0 is a finding."""
        self.bridge.send(signal.SIGTERM)
        code = await self.bridge.wait_exit(_STOP_SECONDS)
        if code != 0:
            self.findings.append(f"it ended with {code} after SIGTERM")

    async def finish(self, calm_seconds: float = 5.0) -> None:
        """Wait until the bridge receives events and none waits, then end it."""
        bridge = self.bridge
        with self.ending():
            await bridge.wait_ready(_SUBSCRIBED_SECONDS)
            # A second's events: not the last of a dying connection.
            most = (await bridge.metrics()).read + self.options.rate
            await bridge.wait_metrics(lambda now: now.read > most, _SUBSCRIBED_SECONDS)
            await trio.sleep(calm_seconds)
            await self.load.stop()
            await trio.sleep(calm_seconds)
            await bridge.wait_metrics(lambda now: now.waiting == 0, _DRAIN_SECONDS)
            await self.stop_bridge()

    @contextmanager
    def ending(self) -> Iterator[None]:
        """Let what goes wrong at the end be a finding."""
        self.tell("calm, until everything that is on its way has arrived")
        try:
            yield
        except ProcessError as error:
            self.findings.append(f"at the end: {str(error).splitlines()[0]}")
            self.bridge.kill()

    async def read_topics(self) -> list[ReadTopic]:
        """Read the committed records of all topics."""
        read = []
        for kind, companion in _TOPICS.items():
            name, partitions = self.topic + companion, 1 if companion else PARTITIONS
            records = await trio.to_thread.run_sync(
                read_topic,
                self.servers.kafka.bootstrap_servers,
                name,
                None,
                _READ_SECONDS,
            )
            read.append(ReadTopic(kind, name, records, [partitions]))
        return read
