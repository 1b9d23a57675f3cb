"""Brokers and topics that go away, hang or move, and starts that never worked."""

from __future__ import annotations

import socket
import threading
import time
from functools import partial
from pathlib import Path

import pytest
import structlog
import trio

from bridge.kafka.producer import Producer
from bridge.outbox import Outbox
from bridge.outbox.partitioner import partitioner
from bridge.outbox.values import Placed
from bridge.settings import KafkaSettings
from tests.conftest import Topic
from tests.kafka.relay.faults import hide_leader
from tests.kafka.relay.relaying import (
    DEADLINE_SECONDS,
    DELIVERIES,
    JOBS,
    Delivery,
    check_topic,
    feed,
    opened,
    read_back,
    rig,
    send_nothing,
    sending,
    settings_for,
    until,
)
from tests.kit.broker import KafkaBroker
from tests.kit.kafka import KafkaServer
from tests.kit.kafka_proxy import KafkaProxy, RequestKind
from tests.kit.proxy import FaultProxy


# -- Brokers -----------------------------------------------------------------


@pytest.mark.timeout(90)
@pytest.mark.parametrize("delivery", DELIVERIES)
async def test_a_broker_killed_under_load_loses_and_doubles_nothing(
    own_kafka: KafkaServer, topic: Topic, tmp_path: Path, delivery: Delivery
) -> None:
    """What was on its way when the broker died arrives once, and in order."""
    count = 2_000
    async with sending(topic, tmp_path, delivery=delivery) as running:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(feed, running, topic, count)
            await trio.sleep(0.7)
            await trio.to_thread.run_sync(own_kafka.kill)
        assert running.sent(topic.name) < count
        await trio.to_thread.run_sync(own_kafka.start)
        await running.all_sent(topic.name, count)
        assert running.errors == []
    check_topic(await read_back(topic), range(count))


# -- Topics ------------------------------------------------------------------


@pytest.mark.timeout(90)
async def test_a_topic_with_fewer_partitions_opens_all_the_same(
    kafka: KafkaBroker, topic: Topic, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows whose partition is gone don't hold up the others."""
    settings = settings_for(topic, start_timeout_seconds=3.0)
    async with sending(topic, tmp_path, settings=settings) as running:
        running.offer(topic.name, range(60))
        await running.all_sent(topic.name, 60)
        # Rows that the outbox holds for every partition.
        send_nothing(monkeypatch)
        running.offer(topic.name, range(60, 120))
        await running.committed(120)
    monkeypatch.undo()
    await trio.to_thread.run_sync(kafka.delete_topics, topic.name)
    await trio.to_thread.run_sync(kafka.create_topic, topic.name, 1)
    with structlog.testing.capture_logs() as lines:
        async with rig(settings, [topic.name], tmp_path) as running:
            await opened(running, 1)
            running.offer(topic.name, range(120, 150))
            await until(lambda: running.sent(topic.name) >= 30)
            assert running.relay.statistics.partitions == 1
    gone = [line for line in lines if line["event"] == "partition.gone"]
    assert {line["partition"] for line in gone} == {1, 2}
    assert all(line["rows_kept"] > 0 for line in gone)


_STALL_SECONDS = 30.0


@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.parametrize("delivery", DELIVERIES)
async def test_a_commit_that_stalls_loses_nothing_and_blocks_no_reading(
    topic: Topic, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, delivery: Delivery
) -> None:
    """Longer than a request and a transaction may take, with batches on their way."""
    commit, stalls = Outbox.commit, [_STALL_SECONDS]

    def stall(outbox: Outbox) -> list[Placed]:
        if stalls and outbox.statistics.committed > 500:
            time.sleep(stalls.pop())
        return commit(outbox)

    async with sending(topic, tmp_path, delivery=delivery) as running:
        monkeypatch.setattr(Outbox, "commit", stall)
        longest, number, silent = 0.0, 0, 0.0
        began = trio.current_time()
        while trio.current_time() < began + _STALL_SECONDS + 5:
            before = trio.current_time()
            running.offer(topic.name, range(number, number + 10))
            number += 10
            await trio.sleep(0.01)
            longest = max(longest, trio.current_time() - before)
            beat = running.relay.statistics.last_beat
            silent = max(silent, time.monotonic() - beat)
        assert stalls == []
        # The session would have read on; health sees that the other thread doesn't.
        assert longest < 2
        assert silent > _STALL_SECONDS - 5
        await running.all_sent(topic.name, number)
        await until(lambda: running.relay.statistics.connected)
        assert running.outbox.statistics.dropped == {"overflow": 0, "outbox_full": 0}
        assert running.errors == []
    check_topic(await read_back(topic), range(number))


async def test_a_request_that_hangs_is_left_and_keeps_its_sequence(
    own_kafka: KafkaServer, topic: Topic, tmp_path: Path
) -> None:
    """Held for many request timeouts, sent again and again, it is appended once."""
    proxy = KafkaProxy(own_kafka.detours[0])
    settings = settings_for(
        topic,
        bootstrap_servers=proxy.bootstrap_servers,
        request_timeout_seconds=0.5,
    )
    async with trio.open_nursery() as nursery:
        await nursery.start(proxy.serve)
        async with sending(topic, tmp_path, settings=settings) as running:
            running.offer(topic.name, range(100))
            await running.all_sent(topic.name, 100)
            proxy.hold(RequestKind.PRODUCE)
            running.offer(topic.name, range(100, 200))
            with trio.fail_after(DEADLINE_SECONDS):
                # The first try, and some that followed when it got no answer.
                await proxy.wait_held(4)
                await proxy.release()
            running.offer(topic.name, range(200, 300))
            await running.all_sent(topic.name, 300)
            statistics = running.relay.statistics
            assert statistics.producer_recycles == 0
            assert statistics.published == {topic.name: 300}
        nursery.cancel_scope.cancel()
    check_topic(await read_back(topic), range(300))


@pytest.mark.slow
@pytest.mark.timeout(120)
async def test_brokers_that_all_moved_are_found_by_the_bootstrap_address(
    tmp_path: Path,
) -> None:
    """A client knows only the old addresses; a new one asks where brokers are now."""
    name = "jobs"
    first = KafkaServer(data_dir=tmp_path / "kafka")
    second = KafkaServer(data_dir=tmp_path / "kafka")
    await trio.to_thread.run_sync(first.start)
    try:
        await trio.to_thread.run_sync(partial(first.create_topic, name, 3))
        proxy = FaultProxy(first.bootstrap_servers)
        topic = Topic(name, "-", "-", 3, proxy.address)
        settings = settings_for(topic, request_timeout_seconds=1.0)
        async with trio.open_nursery() as nursery:
            await nursery.start(proxy.serve)
            async with rig(settings, [name], tmp_path / "outbox") as running:
                await opened(running)
                await feed(running, topic, 100)
                await running.all_sent(name, 100)
                await trio.to_thread.run_sync(first.stop)
                await trio.to_thread.run_sync(second.start)
                proxy.lead_to(second.bootstrap_servers)
                await feed(running, topic, 100, first=100)
                await running.all_sent(name, 200)
                assert running.relay.statistics.producer_recycles >= 1
            check_topic(await read_back(topic), range(200))
            nursery.cancel_scope.cancel()
    finally:
        await trio.to_thread.run_sync(first.close)
        await trio.to_thread.run_sync(second.close)


async def test_a_missing_topic_is_waited_for_while_rows_wait(
    kafka: KafkaBroker, topic: Topic, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows are worth more than a quick end: they go when the topic is there again."""
    async with sending(topic, tmp_path) as running:
        send_nothing(monkeypatch)
        running.offer(topic.name, range(10))
        await running.committed(10)
    monkeypatch.undo()
    await trio.to_thread.run_sync(kafka.delete_topics, topic.name)
    async with rig(settings_for(topic), [topic.name], tmp_path) as running:
        running.offer(topic.name, range(10, 20))
        await until(lambda: running.relay.statistics.last_error is not None)
        assert not running.relay.statistics.ever_connected
        await trio.to_thread.run_sync(kafka.create_topic, topic.name, topic.partitions)
        await running.all_sent(topic.name, 20)
    check_topic(await read_back(topic), range(20))


async def test_a_resolver_that_hangs_holds_no_end_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The name of a broker is being looked up when the relay is stopped."""
    looked, answers = threading.Event(), threading.Event()

    def hang(*_: object, **__: object) -> list[object]:
        looked.set()
        answers.wait(DEADLINE_SECONDS)
        raise socket.gaierror(socket.EAI_AGAIN, "no answer")

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    settings = KafkaSettings(bootstrap_servers="kafka.invalid:9092")
    async with rig(settings, ["jobs"], tmp_path) as running:
        await until(looked.is_set)
        running.relay.abort()
        try:
            # A client that is being started gets a second or two.
            with trio.fail_after(10.0):
                await running.ended.wait()
        finally:
            answers.set()


def elsewhere(topic: Topic, partition: int, count: int) -> int:
    """Count those of the first events that go to other partitions."""
    where = partitioner(topic.partitions)
    return sum(
        where(b"job-%d" % (number % JOBS)) != partition for number in range(count)
    )


@pytest.mark.parametrize("delivery", DELIVERIES)
async def test_a_leader_that_is_lost_delays_its_own_keys_alone(
    topic: Topic, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, delivery: Delivery
) -> None:
    """The others' rows arrive meanwhile, and its own when it has a leader again."""
    settings = settings_for(
        topic, request_timeout_seconds=1.0, transaction_timeout_seconds=1.0
    )
    count = 300
    with structlog.testing.capture_logs() as lines:
        async with sending(
            topic, tmp_path, settings=settings, delivery=delivery
        ) as running:
            leader = hide_leader(monkeypatch, topic.name, 1)
            leader.on = True
            await feed(running, topic, count)
            others = elsewhere(topic, 1, count)
            await running.all_sent(topic.name, others)
            statistics = running.relay.statistics
            await until(lambda: statistics.partitions == topic.partitions - 1)
            # Nothing is tried with the partition until then.
            recycles = statistics.producer_recycles
            await trio.sleep(3)
            assert statistics.producer_recycles == recycles
            assert running.sent(topic.name) == others
            leader.on = False
            await running.all_sent(topic.name, count)
            assert statistics.partitions == topic.partitions
            assert running.errors == []
    told = [line for line in lines if line["event"] == "topic.without_leader"]
    assert [line["partitions"] for line in told] == [[1]]
    check_topic(await read_back(topic), range(count))


@pytest.mark.parametrize("delivery", DELIVERIES)
async def test_another_leader_has_the_log_read_again(
    topic: Topic, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, delivery: Delivery
) -> None:
    """It may lack what the one before acknowledged; nothing is sent twice."""
    run = partial(rig, settings_for(topic), [topic.name], tmp_path, delivery=delivery)
    with structlog.testing.capture_logs() as lines:
        async with run() as running:
            await opened(running)
            await feed(running, topic, 100)
            await running.all_sent(topic.name, 100)
            left = [99]
            leads = Producer.leader

            def lead(self: Producer, topic: str, partition: int) -> int | None:
                if partition == 2 and left:
                    return left.pop()
                return leads(self, topic, partition)

            monkeypatch.setattr(Producer, "leader", lead)
            await feed(running, topic, 100, first=100)
            await running.all_sent(topic.name, 200)
            assert running.counted("resent") == {}
    told = [line["reason"] for line in lines if line["event"] == "partitions.reopen"]
    assert told == ["a partition's leader has changed"]
    check_topic(await read_back(topic), range(200))


@pytest.mark.parametrize("delivery", DELIVERIES)
async def test_no_client_spins_while_no_leader_is_known_and_no_broker_answers(
    own_kafka: KafkaServer,
    topic: Topic,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    delivery: Delivery,
) -> None:
    """A producer of aiokafka that knows no leader asks for one without a pause."""
    proxy = KafkaProxy(own_kafka.detours[0])
    settings = settings_for(topic, bootstrap_servers=proxy.bootstrap_servers)
    leader = hide_leader(monkeypatch, topic.name, 1)
    async with trio.open_nursery() as nursery:
        await nursery.start(proxy.serve)
        async with rig(settings, [topic.name], tmp_path, delivery=delivery) as running:
            await opened(running)
            leader.on = True
            proxy.refuse()
            proxy.reset()
            before = len(proxy.accepts)
            running.offer(topic.name, range(100))
            await trio.sleep(5)
            # Without an end to it there are 1,000 a second.
            assert len(proxy.accepts) - before < 400
            leader.on = False
            proxy.resume()
            await running.all_sent(topic.name, 100)
        nursery.cancel_scope.cancel()
    check_topic(await read_back(topic), range(100))
