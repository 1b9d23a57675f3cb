"""One end-to-end test: an account, its servers and bridges, their end and judgment."""

from __future__ import annotations

import json
import secrets
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Self

import trio
from confluent_kafka.admin import AdminClient

from tests.conftest import Topic
from tests.e2e.jobs import JOB_EVENT, Load, job
from tests.kit.bridge_process import BridgeProcess, Metrics
from tests.kit.broker import KafkaBroker
from tests.kit.expected import Counts, Expected, Kind, ReadTopic
from tests.kit.gap_judge import Gap
from tests.kit.judge import Verdict, judge
from tests.kit.process import environment_without
from tests.kit.publisher import Event, Soketi
from tests.kit.reader import Record, read_topic


# What was received is noted four times a second: a bridge that is killed right after
# its first starts may have noted nothing.
EARLY_CRASH = "crashed|first_start"

_READ_SECONDS = 30.0
_COMMAND_SECONDS = 40.0

# Findings beyond these are of the same defect.
_SHOWN = 40


@dataclass(frozen=True)
class Account:
    """An account of dryAPI that no other test uses."""

    client_id: str
    channel: str
    token: str = field(repr=False)

    @classmethod
    def new(cls) -> Self:
        """Make an account that no other test has."""
        client_id = f"client-{secrets.token_hex(4)}"
        token = f"canary-{secrets.token_hex(12)}"
        return cls(client_id, f"private-client.{client_id}", token)


@dataclass(frozen=True)
class Ending:
    """What was on the topics at a scene's end, after they were judged."""

    jobs: list[Record]
    dead_letters: list[Record]
    gap_records: list[Record]
    previews: list[Record]
    verdict: Verdict

    @property
    def gaps(self) -> list[Gap]:
        """The gaps in the order of opening."""
        return self.verdict.gaps


class Scene:
    """One test's account, servers and bridges."""

    def __init__(
        self,
        folder: Path,
        account: Account,
        kafka: KafkaBroker,
        topic: Topic,
        soketi: Soketi,
    ) -> None:
        self.account = account
        self.kafka = kafka
        self.topic = topic
        self.soketi = soketi
        self._folder = folder
        self._made: list[BridgeProcess] = []
        self._leaky: list[BridgeProcess] = []
        self._accounts = [account]
        self._sources: set[str] = set()
        self._published: dict[str, list[bytes]] = {}
        self._loads: list[tuple[Load, str]] = []
        self._counts: list[Counts] = []
        self._all_counted = True
        self._ended = False

    def more_accounts(self, count: int) -> list[Account]:
        """Make accounts beside the scene's, whose tokens no bridge may show either."""
        accounts = [Account.new() for _ in range(count)]
        self._accounts += accounts
        return accounts

    def bridge(
        self,
        api_url: str,
        *,
        topic: str | None = None,
        wrapper: Sequence[str] = (),
        flags: Sequence[str] = (),
        leaks: bool = False,
        **settings: object,
    ) -> BridgeProcess:
        """Describe a bridge between the scene's soketi and its topic."""
        usual = {
            "client_id": self.account.client_id,
            "api_token": self.account.token,
            "api_url": api_url,
            "pusher_url": self.soketi.url,
            "pusher_app_key": self.soketi.app.key,
            "kafka_bootstrap_servers": self.topic.bootstrap_servers,
        }
        environment = {
            name.upper(): str(value)
            for name, value in (usual | settings).items()
            if value is not None
        }
        bridge = BridgeProcess(
            self._folder / f"bridge-{len(self._made) + 1}",
            topic or self.topic.name,
            environment,
            wrapper,
            flags,
        )
        self._made.append(bridge)
        if leaks:
            self._leaky.append(bridge)
        for account in self._accounts:
            self._sources.add(f"{api_url}/clients/{account.client_id}")
        return bridge

    @asynccontextmanager
    async def load(
        self,
        reader: BridgeProcess | None = None,
        *,
        account: Account | None = None,
        steady: bool = False,
        arrives: Literal["all", "some", "none"] = "all",
    ) -> AsyncIterator[Load]:
        """Publish on an account's channel."""
        async with self.soketi.publisher() as publisher, trio.open_nursery() as nursery:
            load = Load(publisher, (account or self.account).channel, reader)
            self._loads.append((load, arrives))
            if steady:
                nursery.start_soon(load.keep_running)
            yield load
            nursery.cancel_scope.cancel()

    async def publish(
        self, texts: Iterable[str], account: Account | None = None
    ) -> int:
        """Publish the `data` of events one by one; give their number."""
        channel, count = (account or self.account).channel, 0
        async with self.soketi.publisher() as publisher:
            for text in texts:
                await publisher.publish_batch([Event(channel, JOB_EVENT, text)])
                self._accept(text)
                count += 1
        return count

    def _accept(self, text: str) -> None:
        """Remember what was accepted, under the key that it must get."""
        try:
            key = json.loads(text)["request_id"]
        except (ValueError, TypeError, KeyError):
            key = ""
        key = key if isinstance(key, str) else ""
        self._published.setdefault(key, []).append(text.encode())

    async def records(self, expected: int | None = None) -> list[Record]:
        """Read the topic to its end, waiting for at least so many records."""
        return await self._read(self.topic.name, expected)

    async def dead_letters(self, expected: int | None = None) -> list[Record]:
        """Read the dead letters in the same way."""
        return await self._read(self.topic.dead_letter, expected)

    async def bounds(self, expected: int) -> list[Record]:
        """Wait for so many records that open or close a gap, and give them."""
        with trio.fail_after(_READ_SECONDS):
            while True:
                records = await self._read(self.topic.gaps)
                # What became of a gap's jobs is another matter.
                bounds = [each for each in records if b'"unknown":' not in _text(each)]
                if len(bounds) >= expected:
                    return bounds

    async def finish(self, bridge: BridgeProcess) -> None:
        """Run ten more jobs: what comes after everything else gets through."""
        async with self.load() as load:
            await load.run_together([job(3) for _ in range(10)])
        with trio.fail_after(_READ_SECONDS):
            while True:
                found = Counter(_key(record) for record in await self.records())
                # They are behind everything else of their partitions.
                if all(found[key] >= 5 for key in load.accepted):
                    break
        await bridge.wait_metrics(lambda now: now.waiting == 0)

    async def command(self, *words: str) -> tuple[int, str]:
        """Run one of the bridge's commands on the topic; give its code and output."""
        where = ["--topic", self.topic.name]
        where += ["--bootstrap-servers", self.topic.bootstrap_servers]
        with trio.fail_after(_COMMAND_SECONDS):
            done = await trio.run_process(
                [sys.executable, "-m", "bridge", *words, *where],
                capture_stdout=True,
                stderr=subprocess.STDOUT,
                check=False,
                env=environment_without("BRIDGE_"),
            )
        return done.returncode, done.stdout.decode()

    # -- The end --------------------------------------------------------------

    async def stop(self, bridge: BridgeProcess) -> None:
        """Ask a bridge to end in order; what it has counted is judged at the end."""
        metrics = await bridge.metrics()
        assert await bridge.stop() == 0, bridge.all_output
        (stopped,) = bridge.logged("service.stopped")
        self._counts.append(counts_of(metrics))
        # What came after the reading is in no count.
        if stopped["read"] != metrics.read or counts_of(metrics).waiting:
            self._all_counted = False

    async def end(
        self,
        *,
        gaps: Sequence[str] | Mapping[str, Sequence[str]] | None = ("first_start",),
        waiting: int | None = 0,
        judged: bool = True,
        **expected: Any,
    ) -> Ending:
        """Stop every bridge in order, read every topic, and judge all of them."""
        for bridge in self._made:
            assert not bridge.ended_unseen, bridge.all_output
            if bridge.running:
                await self.stop(bridge)
        self._ended = True
        topics = await self._read_all()
        label = expected.get("label", bytes)
        accepted, unsure = self._accepted(label)
        left, committed = self._outboxes(label)
        usual = {
            "accepted": accepted,
            "unsure": unsure,
            "committed": committed,
            "gaps": self._causes(gaps),
            "sources": self._sources,
            "counts": self._counts,
            "all_counted": self._is_counted(),
            "secrets": {self.soketi.app.secret}.union(
                account.token for account in self._accounts
            ),
        }
        verdict = judge(topics, Expected(**(usual | expected)))
        if waiting not in {None, left}:
            verdict.findings.append(f"{left} rows wait in the outboxes, not {waiting}")
        if judged:
            assert not verdict.findings, "\n".join(verdict.findings[:_SHOWN])
        records = {topic.kind: list(topic.records) for topic in topics}
        return Ending(
            jobs=records[Kind.JOBS],
            dead_letters=records[Kind.DEAD_LETTERS],
            gap_records=records[Kind.GAPS],
            previews=records.get(Kind.PREVIEWS, []),
            verdict=verdict,
        )

    def _is_counted(self) -> bool:
        """Whether every process has ended in order and was read at its end."""
        starts = sum(bridge.starts for bridge in self._made)
        return self._all_counted and starts == len(self._counts)

    def _causes(
        self, gaps: Sequence[str] | Mapping[str, Sequence[str]] | None
    ) -> Mapping[str, Sequence[str]] | None:
        if gaps is None or isinstance(gaps, Mapping):
            return gaps
        return {self.account.client_id: gaps} if gaps else {}

    def _accepted(
        self, label: Callable[[bytes], object]
    ) -> tuple[dict[str, list[object]], set[str]]:
        """Give what must be on the topics, and the jobs of which some may be lost."""
        accepted = {key: [*map(label, each)] for key, each in self._published.items()}
        unsure: set[str] = set()
        for load, arrives in self._loads:
            if arrives == "none":
                continue
            for key, values in load.accepted.items():
                accepted.setdefault(key, []).extend(map(label, values))
                if arrives == "some":
                    unsure.add(key)
        return accepted, unsure

    def _outboxes(
        self, label: Callable[[bytes], object]
    ) -> tuple[int, dict[str, object]]:
        """Count the rows that wait, and give those that Kafka has by their files."""
        left = 0
        committed: dict[str, object] = {}
        for folder, bridge in {each.outbox: each for each in self._made}.items():
            # What another program has in its place isn't an outbox.
            file, started = folder / "outbox.sqlite3", "service.started"
            if not file.exists() or started not in bridge.all_output:
                continue
            waiting = {row.ce_id for row in bridge.waiting_rows()}
            left += len(waiting)
            for row in bridge.rows():
                if row.ce_id not in waiting:
                    is_job = row.topic == self.topic.name
                    committed[row.ce_id] = label(row.value) if is_job else row.value
        return left, committed

    async def _read_all(self) -> list[ReadTopic]:
        """Read the topics of the scene that there are."""
        names = {
            Kind.JOBS: self.topic.name,
            Kind.DEAD_LETTERS: self.topic.dead_letter,
            Kind.GAPS: self.topic.gaps,
            Kind.PREVIEWS: f"{self.topic.name}.previews",
        }
        there = await trio.to_thread.run_sync(
            partition_counts, self.kafka.bootstrap_servers
        )
        return [
            ReadTopic(kind, name, await self._read(name), [there[name]])
            for kind, name in names.items()
            if name in there
        ]

    async def _read(self, topic: str, expected: int | None = None) -> list[Record]:
        return await trio.to_thread.run_sync(
            read_topic, self.kafka.bootstrap_servers, topic, expected, _READ_SECONDS
        )

    def close(self) -> None:
        """Kill what still runs, and look at everything that was said."""
        for bridge in self._made:
            bridge.kill()
        for bridge in self._made:
            if bridge in self._leaky:
                continue
            output = bridge.all_output
            assert not [one for one in self._accounts if one.token in output]
            assert "Traceback" not in output
            # Where a log line would hold one.
            assert '"exception":' not in output

    @property
    def ended(self) -> bool:
        """Whether it was judged."""
        return self._ended


def counts_of(metrics: Metrics) -> Counts:
    """Give what a bridge has counted of records other than gaps."""

    def total(*names: str) -> int:
        return sum(metrics.total(f"bridge_{name}") for name in names)

    def rows(name: str) -> dict[str, int]:
        return {
            topic: count
            for (topic,), count in metrics.table(f"bridge_rows_{name}").items()
            if not topic.endswith(".gaps")
        }

    came = total("outbox_accepted_total", "outbox_held_at_start")
    acknowledged = rows("acknowledged_total")
    letters = sum(
        count for topic, count in acknowledged.items() if topic.endswith(".dlq")
    )
    resent = rows("resent_total")
    return Counts(
        came=came + sum(rows("found_total").values()) + sum(resent.values()),
        published=sum(acknowledged.values()) - letters,
        dead_lettered=letters,
        dropped=total(
            "events_dropped_total",
            "preview_records_dropped_total",
            "outbox_superseded_total",
            "outbox_withdrawn_total",
            "outbox_discarded_total",
            "outbox_unsendable",
        ),
        waiting=metrics.buffered + sum(rows("waiting").values()) + total("outbox_held"),
        resent=sum(
            count for topic, count in resent.items() if not topic.endswith(".dlq")
        ),
    )


def without_preview(value: bytes) -> bytes:
    """Name an event whose preview may have been moved or dropped."""
    try:
        members = json.loads(value)
    except ValueError:
        return value
    preview = members.get("preview") if isinstance(members, dict) else None
    if not isinstance(preview, str):
        return value
    # Without its preview an event has no white space between members.
    bare = json.dumps({**members, "preview": None}, separators=(",", ":"))
    return bare.encode()


def partition_counts(bootstrap_servers: str) -> dict[str, int]:
    """Give how many partitions each topic of a broker has."""
    topics = AdminClient({"bootstrap.servers": bootstrap_servers}).list_topics(
        timeout=_READ_SECONDS
    )
    return {name: len(topic.partitions) for name, topic in topics.topics.items()}


def _text(record: Record) -> bytes:
    return record.value or b""


def _key(record: Record) -> str:
    return (record.key or b"").decode()
