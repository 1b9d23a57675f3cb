"""An outbox and a relay as the service runs them, and what a topic must show."""

from __future__ import annotations

import asyncio  # noqa: TID251 - what is made to wait runs on it
import time
from collections import Counter, defaultdict
from collections.abc import (
    AsyncIterator,
    Callable,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal

import pytest
import trio

from bridge.events.record import Envelope, Record
from bridge.kafka.producer import Producer
from bridge.kafka.relay.epoch import WireFormat
from bridge.kafka.relay.relay import Relay
from bridge.kafka.topics import NO_NEEDS, TopicNeeds, TopicRole
from bridge.outbox import Outbox, OutboxDirectory
from bridge.settings import KafkaSettings, OutboxSettings
from tests.conftest import Topic
from tests.kit import reader, writer
from tests.kit.broker import configure_broker, configure_topic
from tests.kit.writer import Sent


# Far above what any wait takes on a busy machine, below the 60 s of a test.
DEADLINE_SECONDS = 40.0

JOBS = 20

Delivery = Literal["idempotent", "transactional"]
DELIVERIES: list[Delivery] = ["idempotent", "transactional"]

ENVELOPE = Envelope(
    ce_source="https://api.example/clients/7",
    ce_type="dev.dryapi.request.status.updated",
    origin="socket",
    content_type="application/json",
)


def settings_for(topic: Topic, **changes: object) -> KafkaSettings:
    """Settings for the topic's broker, with waits that suit a test."""
    chosen: dict[str, object] = {
        "bootstrap_servers": topic.bootstrap_servers,
        "replication_factor": 1,
        "resume_quiet_seconds": 0.2,
        **changes,
    }
    return KafkaSettings(**chosen)  # type: ignore[arg-type]


def needs_of(topic: Topic, value_bytes: int = 1_000_000) -> dict[str, TopicNeeds]:
    """What the topic and its companions are for."""
    return {
        topic.name: TopicNeeds(TopicRole.EVENTS, value_bytes),
        topic.dead_letter: TopicNeeds(TopicRole.DEAD_LETTERS, value_bytes),
        topic.gaps: TopicNeeds(TopicRole.GAPS, 4096),
    }


def topics_of(topic: Topic) -> list[str]:
    """The topics, as the service has them."""
    return [topic.name, topic.dead_letter, topic.gaps]


def record(topic: str, number: int, *, size_bytes: int = 0, jobs: int = JOBS) -> Record:
    """Event `number`, of job `number % jobs`; its value begins with its number."""
    return Record(
        topic=topic,
        key=b"job-%d" % (number % jobs),
        value=(b"%d " % number).ljust(size_bytes, b"x"),
        # Now: a broker forgets an idempotent producer by its records' times, so
        # that old ones would be doubled by a retry after the broker's crash.
        received_at_us=time.time_ns() // 1000,
        envelope=ENVELOPE,
    )


@dataclass
class Rig:
    """A running outbox and its relay."""

    outbox: Outbox
    relay: Relay
    topics: Sequence[str]
    ended: trio.Event = field(default_factory=trio.Event)
    errors: list[Exception] = field(default_factory=list)

    def offer(self, topic: str, numbers: Iterable[int], size_bytes: int = 0) -> None:
        """Give the outbox events by their numbers."""
        self.outbox.offer(
            [record(topic, number, size_bytes=size_bytes) for number in numbers]
        )

    def sent(self, topic: str) -> int:
        """How many of a topic's rows Kafka has: acknowledged, or found there."""
        statistics = self.relay.statistics
        return statistics.published.get(topic, 0) + statistics.resumed.get(topic, 0)

    def counted(self, kind: str) -> dict[str, int]:
        """How many rows of each topic were `resent` or `refused`, where any was."""
        topics = dict(self.outbox.statistics.topics)
        counts = {topic: getattr(one, kind) for topic, one in topics.items()}
        return {topic: count for topic, count in counts.items() if count}

    async def all_sent(self, topic: str, count: int) -> None:
        """Wait until Kafka has so many of the topic's rows."""
        await until(lambda: self.sent(topic) >= count)

    async def committed(self, count: int) -> None:
        """Wait until so many records are on disk."""
        await until(lambda: self.outbox.statistics.committed >= count)

    async def nothing_waits(self) -> None:
        """Wait until all that was offered is committed and in Kafka."""
        await until(lambda: self.outbox.is_drained and self.outbox.statistics.rows == 0)

    async def run(self) -> None:
        """Run the relay and keep what it raises."""
        try:
            await self.relay.run()
        except Exception as error:  # noqa: BLE001 - the test looks at it
            self.errors.append(error)
        finally:
            self.ended.set()

    async def drain(self) -> None:
        """Let the relay finish, as a clean stop does."""
        self.relay.drain()
        await self.ended.wait()


def send_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let rows wait: batches that would be sent from now on never leave."""

    async def wait(*_: object, **__: object) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(Producer, "send", wait)


async def opened(running: Rig, partitions: int = 3) -> None:
    """Wait until so many partitions are open, and events of the first topic go."""
    await until(
        lambda: (
            running.relay.statistics.partitions >= partitions
            and running.outbox.knows(running.topics[:1])
        )
    )


async def feed(running: Rig, topic: Topic, count: int, *, first: int = 0) -> None:
    """Offer events, 1,000 a second."""
    for number in range(first, first + count, 10):
        running.offer(topic.name, range(number, number + 10))
        await trio.sleep(0.01)


async def until(condition: object, seconds: float = DEADLINE_SECONDS) -> None:
    """Wait until a condition holds; it belongs to another thread."""
    assert callable(condition)
    with trio.fail_after(seconds):
        while not condition():  # noqa: ASYNC110 - there is no event for it
            await trio.sleep(0.01)


@asynccontextmanager
async def rig(
    settings: KafkaSettings,
    topics: Sequence[str],
    folder: Path,
    *,
    dead_letter_topic: str | None = None,
    delivery: Delivery = "idempotent",
    wire_format: WireFormat | None = None,
    needs: Mapping[str, TopicNeeds] = NO_NEEDS,
    refuse_late: Callable[[Record], Record] | None = None,
) -> AsyncIterator[Rig]:
    """Run an outbox and its relay as `Relay` says; leaving aborts the relay."""
    limits = OutboxSettings(dir=folder, buffer_bytes=256 * 2**20)
    with OutboxDirectory(folder) as directory:
        outbox = Outbox(directory, limits, refuse_late=refuse_late)
        relay = Relay(
            settings,
            topics,
            outbox,
            dead_letter_topic=dead_letter_topic,
            delivery=delivery,
            wire_format=wire_format,
            needs=needs,
        )
        running = Rig(outbox, relay, topics)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(running.run)
            try:
                yield running
            finally:
                with trio.CancelScope(shield=True, deadline=trio.current_time() + 10):
                    relay.abort()
                    await running.ended.wait()


@asynccontextmanager
async def sending(
    topic: Topic,
    folder: Path,
    *,
    settings: KafkaSettings | None = None,
    delivery: Delivery = "idempotent",
    **changes: object,
) -> AsyncIterator[Rig]:
    """Run a relay of one topic, whose partitions are open."""
    chosen = settings or settings_for(topic, **changes)
    async with rig(chosen, [topic.name], folder, delivery=delivery) as running:
        await opened(running, topic.partitions)
        yield running


async def read_back(topic: Topic, name: str | None = None) -> list[reader.Record]:
    """Read a whole topic with a client that shares nothing with the bridge's."""
    return await trio.to_thread.run_sync(
        partial(
            reader.read_topic,
            topic.bootstrap_servers,
            name or topic.name,
            None,
            DEADLINE_SECONDS,
        )
    )


def numbers_of(records: Iterable[reader.Record]) -> list[int]:
    """The events' numbers."""
    return [int((one.value or b"").split(b" ")[0]) for one in records]


def check_topic(
    records: Sequence[reader.Record],
    expected: Iterable[int],
    refused: Iterable[tuple[int, int]] = (),
) -> None:
    """Assert that each event is there once, in its job's order, and where holes are."""
    found, wanted = Counter(numbers_of(records)), Counter(expected)
    assert found == wanted, {
        "missing": sorted(wanted - found),
        "too many": sorted(found - wanted),
    }
    identities = {one.headers["ce_id"] for one in records}
    assert len(identities) == len(records)
    sequences: dict[int, list[int]] = defaultdict(list)
    by_key: dict[bytes | None, list[int]] = defaultdict(list)
    homes: dict[bytes | None, set[int]] = defaultdict(set)
    for one, number in zip(records, numbers_of(records), strict=True):
        sequences[one.partition].append(int(one.headers["bridge_sequence"]))
        by_key[one.key].append(number)
        homes[one.key].add(one.partition)
    holes = set(refused)
    for partition, found_there in sequences.items():
        last = max(*found_there, *(at for place, at in holes if place == partition), 0)
        assert found_there == [
            number for number in range(1, last + 1) if (partition, number) not in holes
        ]
    for numbers in by_key.values():
        assert numbers == sorted(numbers)
    assert all(len(partitions) == 1 for partitions in homes.values())


def alter(topic: Topic, name: str | None = None, **configs: str) -> None:
    """Change a topic's settings; underscores stand for dots."""
    by_name = {key.replace("_", "."): value for key, value in configs.items()}
    configure_topic(topic.bootstrap_servers, name or topic.name, by_name)


def speed_up_cleaner(topic: Topic) -> None:
    """Let the broker compact every half second instead of every 15 s."""
    configure_broker(topic.bootstrap_servers, {"log.cleaner.backoff.ms": "500"})


def write_foreign(
    topic: Topic,
    partition: int,
    count: int,
    *,
    key: bytes | None = None,
) -> None:
    """Write records of another program."""
    # Of now: segments are closed by the age of their records.
    now_ms = time.time_ns() // 1_000_000
    records = [
        Sent(b"foreign %d" % number, key, {}, now_ms, partition)
        for number in range(count)
    ]
    writer.write(topic.bootstrap_servers, topic.name, records)


@contextmanager
def foreign_transaction(topic: Topic) -> Iterator[None]:
    """Have a transaction of another program open in each partition for the block."""
    records = [Sent(b"foreign", partition=one) for one in range(topic.partitions)]
    with writer.open_transaction(topic.bootstrap_servers, topic.name, records):
        yield
