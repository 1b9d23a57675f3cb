"""Partitions without a leader: the others go on, and they join when they get one."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
import structlog
import trio

from bridge.kafka.producer import Producer
from bridge.outbox.partitioner import partitioner
from tests.conftest import Topic
from tests.kafka.relay.faults import hide_leader
from tests.kafka.relay.relaying import (
    DELIVERIES,
    JOBS,
    Delivery,
    check_topic,
    feed,
    opened,
    read_back,
    rig,
    sending,
    settings_for,
    until,
)
from tests.kit.kafka import KafkaServer
from tests.kit.kafka_proxy import KafkaProxy


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
