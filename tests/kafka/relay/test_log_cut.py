"""A log that lost acknowledged records: its broker's files were put back."""

from __future__ import annotations

import shutil
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from functools import partial
from pathlib import Path

import pytest
import structlog
import trio

from tests.conftest import Topic
from tests.kafka.relay.relaying import (
    Rig,
    feed,
    numbers_of,
    opened,
    read_back,
    rig,
    settings_for,
    until,
    write_foreign,
)
from tests.kit import reader
from tests.kit.kafka import KafkaServer


def check_resent(
    records: Sequence[reader.Record],
    *,
    kept: Iterable[int],
    lost: Iterable[int],
    later: Iterable[int],
) -> int:
    """Assert that the log got again what it lost, marked and in order."""
    ours = [one for one in records if "bridge_outbox" in one.headers]
    marked = [one for one in ours if "bridge_anomaly" in one.headers]
    plain = [one for one in ours if "bridge_anomaly" not in one.headers]
    assert {one.headers["bridge_anomaly"] for one in marked} <= {b"resent"}
    kept, lost, later = set(kept), set(lost), set(later)
    assert max(Counter(numbers_of(plain)).values()) == 1
    assert max(Counter(numbers_of(marked)).values(), default=1) == 1
    assert kept <= set(numbers_of(plain)) <= kept | later
    assert lost <= set(numbers_of(marked)) <= lost | later
    assert set(numbers_of(ours)) == kept | lost | later
    names: dict[int, set[bytes]] = defaultdict(set)
    for one, number in zip(ours, numbers_of(ours), strict=True):
        names[number].add(one.headers["ce_id"])
    assert all(len(ce_ids) == 1 for ce_ids in names.values())
    for partition in {one.partition for one in ours}:
        _check_lane([one for one in ours if one.partition == partition])
    return len(marked)


def _check_lane(records: Sequence[reader.Record]) -> None:
    """Assert that a lane's records stand in order up to a cut, and again from it on."""
    sequences = [int(one.headers["bridge_sequence"]) for one in records]
    resent = [
        index for index, one in enumerate(records) if "bridge_anomaly" in one.headers
    ]
    first = resent[0] if resent else len(records)
    before, after = sequences[:first], sequences[first:]
    if not resent:
        assert before == list(range(1, len(before) + 1))
        return
    # From the first missing row on, without a hole.
    assert after == list(range(after[0], after[0] + len(after)))
    # What came before it, and what was sent until the cut was found.
    assert before[: after[0] - 1] == list(range(1, after[0]))
    late = before[after[0] - 1 :]
    assert late == sorted(late)
    assert all(sequence in after for sequence in late)
    assert all("bridge_anomaly" in one.headers for one in _twice(records, late))


def _twice(
    records: Sequence[reader.Record], late: Sequence[int]
) -> list[reader.Record]:
    """Give the second record of each sequence that is there twice."""
    return [
        [one for one in records if int(one.headers["bridge_sequence"]) == sequence][-1]
        for sequence in late
    ]


KEPT, LOST, LATER = range(100), range(100, 160), range(160, 240)


def bridge(topic: Topic, folder: Path) -> AbstractAsyncContextManager[Rig]:
    """Run a bridge of a topic."""
    return rig(settings_for(topic), [topic.name], folder / topic.name)


async def send(running: Rig, topic: Topic, numbers: range) -> None:
    """Have events sent."""
    await opened(running)
    sent = running.sent(topic.name)
    running.offer(topic.name, numbers)
    await running.all_sent(topic.name, sent + len(numbers))


async def settled(running: Rig, topic: Topic) -> None:
    """Send events; assert what the topic has then, and what was counted."""
    await feed(running, topic, len(LATER), first=LATER[0])
    await until(lambda: running.counted("resent"))
    await running.nothing_waits()
    marked = check_resent(await read_back(topic), kept=KEPT, lost=LOST, later=LATER)
    # Marked as well is what was sent before the loss was noticed.
    assert running.counted("resent") == {topic.name: len(LOST)}
    assert marked >= len(LOST)
    assert running.errors == []


async def cut_under(server: KafkaServer, folder: Path, *topics: Topic) -> None:
    """Take from a broker what bridges have sent: two that run, and one that is down."""
    data, copy = server.data_dir / "node-1" / "data", folder / "copy"

    def take() -> None:
        server.stop()
        shutil.copytree(data, copy)
        server.start()

    def put_back() -> None:
        server.stop()
        shutil.rmtree(data)
        shutil.copytree(copy, data)
        server.start()

    runs, anew, down = topics
    async with AsyncExitStack() as stack:
        first = await stack.enter_async_context(bridge(runs, folder))
        await send(first, runs, KEPT)
        for topic in (anew, down):
            async with bridge(topic, folder) as running:
                await send(running, topic, KEPT)
                await running.drain()
        await trio.to_thread.run_sync(take)
        # Nothing is known of its producer: its next batch isn't refused for its
        # sequence.
        second = await stack.enter_async_context(bridge(anew, folder))
        for running, topic in ((first, runs), (second, anew)):
            await send(running, topic, LOST)
        async with bridge(down, folder) as running:
            await send(running, down, LOST)
            await running.drain()
        await trio.to_thread.run_sync(put_back)
        for running, topic in ((first, runs), (second, anew)):
            await settled(running, topic)
    # More foreign records than were lost stand where the lost ones stood.
    for partition in range(down.partitions):
        await trio.to_thread.run_sync(write_foreign, down, partition, len(LOST))
    async with bridge(down, folder) as running:
        await opened(running)
        assert running.counted("resent") == {down.name: len(LOST)}
        await settled(running, down)


@pytest.mark.timeout(180)  # it takes 20 s where nothing else runs
async def test_a_log_that_lost_its_tail_gets_it_again(tmp_path: Path) -> None:
    """From the first missing row on, in order and marked; each loss is told once."""
    server, names = KafkaServer(data_dir=tmp_path / "kafka"), ("runs", "anew", "down")
    with structlog.testing.capture_logs() as lines:
        try:
            await trio.to_thread.run_sync(server.start)
            for name in names:
                await trio.to_thread.run_sync(partial(server.create_topic, name, 3))
            servers = server.bootstrap_servers
            topics = [Topic(name, "-", "-", 3, servers) for name in names]
            await cut_under(server, tmp_path, *topics)
        finally:
            with trio.CancelScope(shield=True):
                await trio.to_thread.run_sync(server.kill)
    cuts = [line for line in lines if line["event"] == "partition.log_truncated"]
    assert {
        name: sorted(line["partition"] for line in cuts if line["topic"] == name)
        for name in names
    } == {name: [0, 1, 2] for name in names}
