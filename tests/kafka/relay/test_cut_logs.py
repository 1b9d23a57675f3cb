"""Logs that lost acknowledged records, and logs that only look like it."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, contextmanager
from functools import partial
from pathlib import Path

import pytest
import structlog
import trio
from confluent_kafka import TopicPartition

from bridge.outbox.partitioner import partitioner
from tests.conftest import Topic
from tests.kafka.relay.faults import Forgery, forge_answers
from tests.kafka.relay.relaying import (
    DEADLINE_SECONDS,
    JOBS,
    Rig,
    alter,
    feed,
    numbers_of,
    opened,
    read_back,
    rig,
    send_nothing,
    sending,
    settings_for,
    speed_up_cleaner,
    until,
    write_foreign,
)
from tests.kit import reader
from tests.kit.broker import KafkaBroker, admin_of
from tests.kit.kafka import KafkaServer


@contextmanager
def nothing_is_called_lost() -> Iterator[list[str]]:
    """Give the events that are logged; no log may be called truncated."""
    events: list[str] = []
    with structlog.testing.capture_logs() as lines:
        yield events
    events += [line["event"] for line in lines]
    assert "partition.log_truncated" not in events


async def looked_again(
    running: Rig, topic: Topic, monkeypatch: pytest.MonkeyPatch, numbers: range
) -> None:
    """Let each partition's next batch fail, so that the log is read; send events."""
    for partition in range(topic.partitions):
        forge_answers(
            monkeypatch, Forgery(topic.name, partition, 45, times=1, appended=False)
        )
    sent, failed = running.sent(topic.name), running.relay.statistics.producer_recycles
    await feed(running, topic, len(numbers), first=numbers[0])
    await running.all_sent(topic.name, sent + len(numbers))
    assert running.relay.statistics.producer_recycles > failed


def placed(topic: Topic, numbers: range) -> Counter[int]:
    """Count the events of each partition."""
    where = partitioner(topic.partitions)
    return Counter(where(b"job-%d" % (number % JOBS)) for number in numbers)


async def check_rest(topic: Topic, gone: Mapping[int, int]) -> list[int]:
    """Assert that sequences go on behind what is gone; give the events there."""
    there = await read_back(topic)
    records = [one for one in there if "bridge_outbox" in one.headers]
    assert not any("bridge_anomaly" in one.headers for one in records)
    for partition in range(topic.partitions):
        lane = [one for one in records if one.partition == partition]
        first = gone[partition] + 1
        expected = list(range(first, first + len(lane)))
        assert [int(one.headers["bridge_sequence"]) for one in lane] == expected
    return sorted(numbers_of(records))


@pytest.mark.parametrize("share", [0.5, 1.0])
async def test_a_head_that_was_deleted_is_no_cut(
    topic: Topic, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, share: float
) -> None:
    """Up to the middle or the end: what was delivered stays delivered."""
    admin, gone = admin_of(topic.bootstrap_servers), dict.fromkeys(range(3), 0)

    def delete_head(numbers: range) -> None:
        for partition, count in placed(topic, numbers).items():
            gone[partition] = int(count * share)
            place = TopicPartition(topic.name, partition, gone[partition])
            for future in admin.delete_records([place]).values():
                future.result(DEADLINE_SECONDS)

    with nothing_is_called_lost():
        async with sending(topic, tmp_path) as running:
            running.offer(topic.name, range(120))
            await running.all_sent(topic.name, 120)
            await trio.to_thread.run_sync(delete_head, range(120))
            await looked_again(running, topic, monkeypatch, range(120, 200))
            await trio.to_thread.run_sync(delete_head, range(200))
            await running.drain()
        async with sending(topic, tmp_path) as running:
            await feed(running, topic, 100, first=200)
            await running.all_sent(topic.name, 100)
            assert running.relay.statistics.resumed == {}
    await check_rest(topic, gone)


async def recreate(kafka: KafkaBroker, topic: Topic, *, others: bool) -> None:
    """Delete the topic and make it again; others may write to it at once."""
    await trio.to_thread.run_sync(kafka.delete_topics, topic.name)
    await trio.to_thread.run_sync(kafka.create_topic, topic.name, topic.partitions)
    for partition in range(topic.partitions) if others else ():
        # Beyond the offsets that the partitions have come to.
        await trio.to_thread.run_sync(write_foreign, topic, partition, 150)


@pytest.mark.parametrize("others", [False, True])
@pytest.mark.timeout(90)
async def test_a_topic_recreated_under_a_running_bridge_is_no_cut(
    kafka: KafkaBroker,
    topic: Topic,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    *,
    others: bool,
) -> None:
    """Events flow to the new topic; nothing of the old one is sent again."""
    settings = settings_for(topic, start_timeout_seconds=3.0)
    with nothing_is_called_lost() as events:
        async with sending(topic, tmp_path, settings=settings) as running:
            running.offer(topic.name, range(120))
            await running.all_sent(topic.name, 120)
            await running.nothing_waits()
            await recreate(kafka, topic, others=others)
            await feed(running, topic, 80, first=120)
            await running.all_sent(topic.name, 200)
            await looked_again(running, topic, monkeypatch, range(200, 240))
            await until(lambda: running.relay.statistics.partitions == topic.partitions)
            await running.nothing_waits()
            assert running.counted("resent") == {}
            assert running.errors == []
    assert events.count("topic.recreated") >= 1
    rest = await check_rest(topic, placed(topic, range(120)))
    assert rest == list(range(120, 240))


@pytest.mark.parametrize("others", [False, True])
@pytest.mark.timeout(90)
async def test_a_topic_recreated_while_no_bridge_ran_is_no_cut(
    kafka: KafkaBroker,
    topic: Topic,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    *,
    others: bool,
) -> None:
    """Rows that waited go to the new topic; sequences go on where they were."""
    async with sending(topic, tmp_path) as running:
        running.offer(topic.name, range(120))
        await running.nothing_waits()
        send_nothing(monkeypatch)
        running.offer(topic.name, range(120, 160))
        await running.committed(160)
    monkeypatch.undo()
    await recreate(kafka, topic, others=others)
    with nothing_is_called_lost() as events:
        for first in (160, 200):
            async with sending(topic, tmp_path) as running:
                await feed(running, topic, 40, first=first)
                await running.nothing_waits()
                assert running.counted("resent") == {}
                assert running.relay.statistics.resumed == {}
    assert events.count("topic.recreated") == 1
    rest = await check_rest(topic, placed(topic, range(120)))
    assert rest == list(range(120, 240))


@pytest.mark.timeout(120)
async def test_compaction_is_no_cut(
    topic: Topic, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each lane's last record was taken by a later one of the same key."""
    await trio.to_thread.run_sync(speed_up_cleaner, topic)
    alter(
        topic,
        cleanup_policy="compact",
        segment_ms="50",
        min_cleanable_dirty_ratio="0.0",
        max_compaction_lag_ms="100",
    )
    where = partitioner(topic.partitions)
    keys = [b"job-%d" % number for number in range(20)]

    def overwrite() -> None:
        for key in [*keys, *keys]:
            write_foreign(topic, where(key), 1, key=key)

    async def compacted() -> None:
        """Overwrite all our records and wait until nothing of them is left."""
        with trio.fail_after(60):
            while any("ce_id" in one.headers for one in await read_back(topic)):
                await trio.to_thread.run_sync(overwrite)
                await trio.sleep(0.5)

    settings = settings_for(topic)
    with nothing_is_called_lost():
        async with sending(topic, tmp_path, settings=settings) as running:
            await feed(running, topic, 100)
            await running.all_sent(topic.name, 100)
            await compacted()
            await looked_again(running, topic, monkeypatch, range(100, 160))
            await compacted()
            await running.drain()
        async with sending(topic, tmp_path, settings=settings) as running:
            await feed(running, topic, 60, first=160)
            await running.all_sent(topic.name, 60)
            assert running.counted("resent") == {}
            assert running.relay.statistics.resumed == {}


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
    for once in (plain, marked):
        assert max(Counter(numbers_of(once)).values(), default=1) == 1
    assert kept <= set(numbers_of(plain)) <= kept | later
    assert lost <= set(numbers_of(marked)) <= lost | later
    assert set(numbers_of(ours)) == kept | lost | later
    numbered = zip(numbers_of(ours), ours, strict=True)
    names = {(number, one.headers["ce_id"]) for number, one in numbered}
    assert len(names) == len(kept | lost | later)
    for partition in {one.partition for one in ours}:
        lane = [one for one in ours if one.partition == partition]
        sequences = [int(one.headers["bridge_sequence"]) for one in lane]
        resent = [at for at, one in enumerate(lane) if one in marked]
        cut = min(resent, default=len(lane))
        before, after = sequences[:cut], sequences[cut:]
        first = min(after, default=len(before) + 1)
        # Up to the first missing row, and from it on again without a hole; between
        # them what was sent until the loss was found, which comes again as well.
        assert before[: first - 1] == list(range(1, first))
        assert before[first - 1 :] == sorted({*before[first - 1 :]} & {*after})
        assert after == list(range(first, first + len(after)))
    return len(marked)


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

    runs, again, down = topics
    async with AsyncExitStack() as stack:
        first = await stack.enter_async_context(bridge(runs, folder))
        await send(first, runs, KEPT)
        for topic in (again, down):
            async with bridge(topic, folder) as running:
                await send(running, topic, KEPT)
                await running.drain()
        await trio.to_thread.run_sync(take)
        # Nothing is known of its producer: its next batch isn't refused for its
        # sequence.
        second = await stack.enter_async_context(bridge(again, folder))
        for running, topic in ((first, runs), (second, again)):
            await send(running, topic, LOST)
        async with bridge(down, folder) as running:
            await send(running, down, LOST)
            await running.drain()
        await trio.to_thread.run_sync(put_back)
        for running, topic in ((first, runs), (second, again)):
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
    """From the first missing row on, in order and marked; each loss is logged once."""
    server, names = KafkaServer(data_dir=tmp_path / "kafka"), ("runs", "again", "down")
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
