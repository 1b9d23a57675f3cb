"""Own transactions that their coordinator takes for ended, and that are open still.

A broker that starts again makes them by chance (KAFKA-20734); here a
partition isn't added at the coordinator, which reliably causes them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest
import structlog
import trio

from bridge.kafka.relay import transactional as delivering
from bridge.outbox import Outbox
from bridge.outbox.partitioner import partitioner
from tests.conftest import Topic
from tests.kafka.relay.faults import (
    LostEnds,
    note_transactions,
    unmentioned,
    unverified,
    wait_held_back,
    wait_nothing_held,
)
from tests.kafka.relay.relaying import (
    JOBS,
    Rig,
    check_topic,
    feed,
    opened,
    read_back,
    rig,
    settings_for,
    until,
)
from tests.kit.kafka import KafkaServer


@pytest.fixture
def credulous_kafka(own_kafka: KafkaServer) -> Iterator[KafkaServer]:
    """The suite's Kafka, which believes producers that a partition was added."""
    with unverified(own_kafka.bootstrap_servers):
        yield own_kafka
        own_kafka.start()


def transactional(
    topic: Topic, folder: Path, **changes: object
) -> AbstractAsyncContextManager[Rig]:
    """Run a transactional relay, as the service would."""
    settings = settings_for(topic, **changes)
    return rig(settings, [topic.name], folder, delivery="transactional")


async def hang(running: Rig, topic: Topic, *, transactions: int = 1) -> int:
    """Have events' transactions hang, and see that they do. Give the events' count."""
    count = await send(running, topic, transactions=transactions)
    await trio.to_thread.run_sync(wait_held_back, topic, [1])
    return count


async def send(running: Rig, topic: Topic, *, transactions: int = 1) -> int:
    """Send events; those of partition 1 stay in open transactions. Give their count."""
    await opened(running)
    await feed(running, topic, 100)
    await running.all_sent(topic.name, 100)
    return await send_now(running, topic, 100, transactions=transactions)


async def send_now(
    running: Rig, topic: Topic, count: int, *, transactions: int = 1
) -> int:
    """Send 30 events more in each transaction."""
    # A marker that comes later than what is sent next would end that, too.
    await trio.to_thread.run_sync(wait_nothing_held, topic)
    with unmentioned(topic, 1):
        for _ in range(transactions):
            running.offer(topic.name, range(count, count + 30))
            count += 30
            await running.all_sent(topic.name, count)
    return count


def hung(lines: list[structlog.typing.EventDict]) -> list[list[int]]:
    """The partitions of each line that says so."""
    return [
        list(line["offsets"]) for line in lines if line["event"] == "transaction.hangs"
    ]


@pytest.mark.usefixtures("credulous_kafka")
@pytest.mark.parametrize("transactions", [1, 2])
@pytest.mark.parametrize("is_acknowledged", [True, False])
async def test_a_start_ends_what_hangs(
    topic: Topic,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    *,
    is_acknowledged: bool,
    transactions: int,
) -> None:
    """Rows are committed where they stand, of either id, known to be there or not."""
    async with transactional(topic, tmp_path) as running:
        if not is_acknowledged:
            monkeypatch.setattr(Outbox, "acknowledge", lambda *_, **__: None)
        count = await hang(running, topic, transactions=transactions)
    monkeypatch.undo()
    with structlog.testing.capture_logs() as lines:
        async with transactional(topic, tmp_path) as running:
            await opened(running)
            await feed(running, topic, 100, first=count)
            await running.drain()
    assert hung(lines) == [[1]]
    assert not [one for one in lines if one["event"] == "kafka.unavailable"]
    check_topic(await read_back(topic), range(count + 100))


@pytest.mark.timeout(90)
async def test_a_bridge_that_runs_ends_what_hangs(
    credulous_kafka: KafkaServer, topic: Topic, tmp_path: Path
) -> None:
    """A later transaction with the same id does, or the next epoch."""
    async with transactional(topic, tmp_path) as running:
        count = await hang(running, topic)
        await trio.to_thread.run_sync(credulous_kafka.kill)
        await trio.to_thread.run_sync(credulous_kafka.start)
        await feed(running, topic, 100, first=count)
        # Sooner than the 30 s for which another producer's transaction is waited for.
        with trio.fail_after(25):
            await running.all_sent(topic.name, count + 100)
        await running.drain()
        assert running.errors == []
    check_topic(await read_back(topic), range(count + 100))


@pytest.mark.usefixtures("credulous_kafka")
@pytest.mark.parametrize("is_idle", [True, False])
async def test_what_hangs_is_noticed_without_another_row_for_its_partition(
    topic: Topic, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, is_idle: bool
) -> None:
    """Readers wait for what they could have already."""
    monkeypatch.setattr(delivering, "LOOK_SECONDS", 0.5)
    async with transactional(topic, tmp_path) as running:
        with structlog.testing.capture_logs() as lines:
            # It may be noticed before the next look at the log.
            count = await send(running, topic)
            numbers = [] if is_idle else elsewhere(topic, count, 100)
            for number in numbers:
                running.offer(topic.name, [number])
                await trio.sleep(0.02)
            await trio.to_thread.run_sync(wait_nothing_held, topic)
        await running.all_sent(topic.name, count + len(numbers))
        await running.drain()
        assert running.errors == []
    assert hung(lines) == [[1]]
    check_topic(await read_back(topic), [*range(count), *numbers])


def elsewhere(topic: Topic, first: int, count: int) -> list[int]:
    """Give numbers of events whose jobs have other partitions than 1."""
    partition_of = partitioner(topic.partitions)
    return [
        number
        for number in range(first, first + count)
        if partition_of(b"job-%d" % (number % JOBS)) != 1
    ]


@pytest.mark.usefixtures("credulous_kafka")
async def test_what_is_aborted_though_it_was_acknowledged_is_sent_again(
    topic: Topic, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bridge that dies while it ends what hangs leaves this to be aborted."""
    begun = note_transactions(monkeypatch)
    async with transactional(topic, tmp_path) as running:
        await opened(running)
        count = 0
        # Until the id that takes turns next is the one the next bridge begins with.
        while not begun or not begun[-1].endswith(".1"):
            running.offer(topic.name, range(count, count + 30))
            count += 30
            await running.all_sent(topic.name, count)
        count = await send_now(running, topic, count)
    with pytest.MonkeyPatch.context() as patch:
        ends = LostEnds(patch, times=10**6, applied=False)
        async with transactional(topic, tmp_path) as running:
            await until(lambda: ends.lost > 0)
    with structlog.testing.capture_logs() as lines:
        async with transactional(topic, tmp_path) as running:
            await opened(running)
            await feed(running, topic, 100, first=count)
            await running.drain()
            assert running.errors == []
    (line,) = [one for one in lines if one["event"] == "partition.log_truncated"]
    assert line["partition"] == 1
    check_topic(await read_back(topic), range(count + 100))
