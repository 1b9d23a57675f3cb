"""Resuming and opening again, against the model broker: moments hard to hit."""

from __future__ import annotations

import asyncio  # noqa: TID251 - what is tested runs on asyncio
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import Future
from contextlib import ExitStack
from pathlib import Path

import pytest
import structlog
import trio

from bridge.kafka.headers import HeaderWriter
from bridge.kafka.relay import relay as relay_module
from bridge.kafka.relay.group import Group
from bridge.kafka.relay.lane import Lane
from bridge.kafka.relay.relay import Relay
from bridge.kafka.relay.resuming import TopicReplacedError
from bridge.outbox.store import Placed
from bridge.record import StoredRecord
from bridge.settings import KafkaSettings
from tests.kafka.relay.relaying import record, until
from tests.models.model_broker import ModelBroker
from tests.models.model_client import ModelLog
from tests.models.model_log import Fault
from tests.models.plain_outbox import PlainOutbox
from tests.models.virtual_time import VirtualLoop


JOBS = "jobs"
PLACE = (JOBS, 0)
QUIET_SECONDS = 0.5

# In the loop's own time, which jumps.
LONG_SECONDS = 120.0


class Life:
    """A relay in a loop whose time jumps, from its start to its death.

    Args:
        outbox: Its outbox.
    """

    def __init__(self, outbox: PlainOutbox) -> None:
        self.outbox = outbox
        self.loop = VirtualLoop()
        self.relay = made(outbox)
        self.main = self.loop.create_task(self.relay.work())

    def offer(self, *numbers: int) -> None:
        """Commit events."""
        self.outbox.commit([record(JOBS, number) for number in numbers])

    def end(self) -> None:
        """Die."""
        self.outbox.close()
        self.main.cancel()
        self.loop.run_for(1.0)
        self.loop.close()


def made(outbox: PlainOutbox) -> Relay:
    """A relay for one topic."""
    return Relay(
        KafkaSettings(
            resume_quiet_seconds=QUIET_SECONDS,
            start_timeout_seconds=5.0,
            retry_backoff_seconds=0.1,
        ),
        [[JOBS]],
        outbox,
    )


@pytest.fixture
def broker() -> Iterator[ModelBroker]:
    """A broker with one partition."""
    made_broker = ModelBroker({JOBS: 1})
    with ExitStack() as stack:
        stack.enter_context(structlog.testing.capture_logs())
        for patch in made_broker.patches():
            stack.enter_context(patch)
        yield made_broker


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the outbox's file stands."""
    return tmp_path / "outbox.sqlite3"


@pytest.fixture
def life(broker: ModelBroker, path: Path) -> Iterator[Life]:
    """A relay whose lane is open."""
    del broker
    lives = Life(PlainOutbox(path))
    lives.loop.run_for(5.0)
    assert lives.relay.statistics.lanes == 1
    yield lives
    lives.end()


def values(broker: ModelBroker) -> list[bytes]:
    """What stands on the topic."""
    return [one.value.strip() for one in broker.visible(PLACE)]


def test_a_lane_that_finds_all_its_rows_counts_as_connected(
    broker: ModelBroker, life: Life
) -> None:
    """A batch was appended unheard: once the log told that, nothing is wrong."""
    broker.faults[PLACE].append(Fault.FAILED_AFTER_APPEND)
    life.offer(1)
    life.loop.run_for(0.02)
    assert life.relay.statistics.last_error is not None
    life.loop.run_for(LONG_SECONDS)
    assert life.outbox.pending == 0
    assert values(broker) == [b"1"]
    assert life.relay.statistics.connected


def test_a_start_waits_until_the_leader_has_worked_off_its_queue(
    broker: ModelBroker, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A late write lands after the leader stood still: the next process finds it."""
    first = Life(PlainOutbox(path))
    first.loop.run_for(5.0)
    broker.faults[PLACE].append(Fault.LATE)
    first.offer(1)
    first.loop.run_for(0.002)
    assert broker.late
    first.end()

    second = Life(PlainOutbox(path))
    bounds = ModelLog.bounds

    async def stand_still(self: ModelLog, numbers: Collection[int]) -> object:
        if (left := 5.0 - second.loop.time()) > 0:
            await asyncio.sleep(left)
            second.loop.call_later(QUIET_SECONDS / 2, broker.land)
        return await bounds(self, numbers)

    monkeypatch.setattr(ModelLog, "bounds", stand_still)
    second.loop.run_for(LONG_SECONDS)
    assert second.outbox.pending == 0
    assert values(broker) == [b"1"]
    second.end()


class Replaced(PlainOutbox):
    """An outbox whose file is found damaged by the first who reads."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._on_replaced: Callable[[], None] = lambda: None
        self.reads = 0

    def subscribe(
        self,
        on_committed: Callable[[list[Placed]], None],
        on_claimed: Callable[[list[tuple[str, int, int]]], None],
        on_replaced: Callable[[], None],
    ) -> None:
        """Name who is told."""
        self._on_replaced = on_replaced
        super().subscribe(on_committed, on_claimed, on_replaced)

    def read(
        self, topic: str, partition: int, after: int, max_rows: int, max_bytes: int
    ) -> Future[list[StoredRecord]]:
        """Read, but for the first time: the other file has no lane yet."""
        self.reads += 1
        if self.reads > 1:
            return super().read(topic, partition, after, max_rows, max_bytes)
        self._on_replaced()
        future: Future[list[StoredRecord]] = Future()
        future.set_exception(ValueError("jobs-0 is no lane of this outbox"))
        return future


async def test_what_was_asked_of_a_file_that_is_gone_ends_nothing(
    broker: ModelBroker, path: Path
) -> None:
    """A lane hears of the new file by an error first: the relay begins anew."""
    outbox = Replaced(path)
    outbox.commit([record(JOBS, number) for number in range(5)])
    relay = made(outbox)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(relay.run)
        await until(lambda: relay.statistics.published.get(JOBS, 0) == 5, 10.0)
        relay.abort()
    assert outbox.reads > 1
    assert len(values(broker)) == 5


class Slow:
    """A delivery whose lanes take their time to end."""

    wake = None

    def __init__(self, group: Group, writer: HeaderWriter) -> None:
        del group, writer

    async def prepare(self) -> None:
        """Be ready."""

    async def carry(self, lanes: Sequence[Lane]) -> None:
        """Find the topic made anew; another lane ends ten seconds later."""
        del lanes
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._wait())
            tasks.create_task(self._find())

    async def _wait(self) -> None:
        try:
            await asyncio.sleep(LONG_SECONDS)
        finally:
            await asyncio.sleep(10.0)

    async def _find(self) -> None:
        await asyncio.sleep(1.0)
        raise TopicReplacedError(JOBS)

    async def close(self) -> None:
        """Nothing is left."""


@pytest.mark.usefixtures("broker")
def test_a_relay_that_opens_lanes_again_can_be_ended(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is told to end while lanes of a topic that was made anew are closed."""
    monkeypatch.setattr(relay_module, "IdempotentDelivery", Slow)
    life = Life(PlainOutbox(path))
    life.loop.run_for(5.0)
    life.main.cancel()
    life.loop.run_for(LONG_SECONDS)
    assert life.main.done()
    life.end()
