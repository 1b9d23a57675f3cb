"""Brokers that keep their connections and don't answer, and brokers that moved."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
import trio

from tests.conftest import Topic
from tests.kafka.relay.relaying import (
    DEADLINE_SECONDS,
    check_topic,
    feed,
    opened,
    read_back,
    rig,
    sending,
    settings_for,
)
from tests.kit.kafka import KafkaServer
from tests.kit.kafka_proxy import KafkaProxy, RequestKind
from tests.kit.proxy import FaultProxy


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
    """A client knows the old addresses alone; a new one asks where brokers are now."""
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
