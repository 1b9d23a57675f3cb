"""What goes wrong while the relay works: brokers, topics, producers, refusals."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import structlog
import trio
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._config import AlterConfigOpType, ConfigEntry, ConfigResource
from confluent_kafka.admin._resource import ResourceType

from bridge.errors import KafkaRefusedError
from bridge.kafka import lane as lane_module
from bridge.kafka import log
from bridge.kafka.partitioner import partitioner
from bridge.kafka.producer import Producer
from bridge.record import Record
from tests.conftest import Topic
from tests.kafka.faults import Forgery, forge_answers
from tests.kafka.relaying import (
    DEADLINE_SECONDS,
    ENVELOPE,
    Rig,
    check_topic,
    read_back,
    rig,
    settings_for,
    until,
)
from tests.servers.broker import KafkaBroker
from tests.servers.kafka import KafkaServer


async def opened(running: Rig, topic: Topic) -> None:
    """Wait until the topic's lanes are open."""
    await until(lambda: running.relay.statistics.lanes >= topic.partitions)


async def feed(running: Rig, topic: Topic, count: int, *, first: int = 0) -> None:
    """Offer events at 1,000 a second."""
    for number in range(first, first + count, 10):
        running.offer(topic.name, range(number, number + 10))
        await trio.sleep(0.01)


def alter(topic: Topic, **configs: str) -> None:
    """Change a topic's settings; underscores stand for dots."""
    entries = [
        ConfigEntry(
            name.replace("_", "."),
            value,
            incremental_operation=AlterConfigOpType.SET,
        )
        for name, value in configs.items()
    ]
    resource = ConfigResource(
        ResourceType.TOPIC, topic.name, incremental_configs=entries
    )
    admin = AdminClient({"bootstrap.servers": topic.bootstrap_servers})
    for future in admin.incremental_alter_configs([resource]).values():
        future.result(DEADLINE_SECONDS)


# -- Brokers -----------------------------------------------------------------


@pytest.mark.timeout(90)
async def test_a_broker_killed_under_load_loses_and_doubles_nothing(
    own_kafka: KafkaServer, topic: Topic, tmp_path: Path
) -> None:
    """What was on its way when the broker died arrives once, and in order."""
    count = 2_000
    async with rig(settings_for(topic), [[topic.name]], tmp_path) as running:
        await opened(running, topic)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(feed, running, topic, count)
            await trio.sleep(0.7)
            await trio.to_thread.run_sync(own_kafka.kill)
        assert running.sent(topic.name) < count
        await trio.to_thread.run_sync(own_kafka.start)
        await running.all_sent(topic.name, count)
        assert running.errors == []
    check_topic(await read_back(topic), range(count))


@pytest.mark.timeout(90)
async def test_a_silent_broker_shows_in_the_statistics(
    own_kafka: KafkaServer, topic: Topic, tmp_path: Path
) -> None:
    """A broker that stands still is noticed within 10 s, and told in few lines."""
    async with rig(settings_for(topic), [[topic.name]], tmp_path) as running:
        await opened(running, topic)
        statistics = running.relay.statistics
        assert statistics.connected
        with structlog.testing.capture_logs() as lines:
            own_kafka.pause()
            try:
                await feed(running, topic, 300)
                await until(lambda: not statistics.connected, seconds=10)
                assert "no acknowledgement" in str(statistics.last_error)
                assert statistics.ever_connected
            finally:
                own_kafka.resume()
            await running.all_sent(topic.name, 300)
            await until(
                lambda: (
                    statistics.last_error is None and running.relay.statistics.connected
                )
            )
        events = [line["event"] for line in lines if "kafka" in line["event"]]
        assert events == ["kafka.silent", "kafka.works_again"]
    check_topic(await read_back(topic), range(300))


@pytest.mark.timeout(90)
async def test_a_relay_waits_for_a_broker_that_is_not_there_yet(
    own_kafka: KafkaServer, topic: Topic, tmp_path: Path
) -> None:
    """With rows waiting the relay outlasts its start timeout and delivers later."""
    settings = settings_for(topic, start_timeout_seconds=1.0)
    await trio.to_thread.run_sync(own_kafka.stop)
    async with rig(settings, [[topic.name]], tmp_path, relay_waits=True) as running:
        running.offer(topic.name, range(500))
        await running.committed(500)
        with structlog.testing.capture_logs() as lines:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(running.run)
                await trio.sleep(4)
                assert not running.ended.is_set()
                assert running.relay.statistics.last_error is not None
                await trio.to_thread.run_sync(own_kafka.start)
                await running.all_sent(topic.name, 500)
                running.relay.abort()
        told = [line["event"] for line in lines if line["log_level"] == "warning"]
        assert told == ["kafka.waits"]
    check_topic(await read_back(topic), range(500))


@pytest.mark.timeout(90)
async def test_abort_ends_a_relay_whose_broker_is_gone(
    own_kafka: KafkaServer,
    topic: Topic,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Drain waits for the broker in vain; abort ends it at once and quietly."""
    async with rig(settings_for(topic), [[topic.name]], tmp_path) as running:
        await opened(running, topic)
        running.offer(topic.name, range(100))
        await running.all_sent(topic.name, 100)
        own_kafka.kill()
        running.offer(topic.name, range(100, 200))
        await running.committed(200)
        await trio.sleep(0.5)
        caplog.clear()
        running.relay.drain()
        with trio.move_on_after(1):
            await running.ended.wait()
        assert not running.ended.is_set()
        running.relay.abort()
        with trio.fail_after(3):
            await running.ended.wait()
        assert running.errors == []
        # asyncio reports tasks that failed and nobody looked at.
        loud = [one for one in caplog.records if one.levelno >= logging.ERROR]
        assert [one.getMessage() for one in loud if one.name == "asyncio"] == []
    await trio.to_thread.run_sync(own_kafka.start)
    async with rig(settings_for(topic), [[topic.name]], tmp_path) as running:
        await until(lambda: running.outbox.statistics.rows == 0)
    check_topic(await read_back(topic), range(200))


# -- Topics ------------------------------------------------------------------


@pytest.mark.timeout(90)
async def test_a_deleted_topic_does_not_end_the_relay(
    kafka: KafkaBroker, topic: Topic, tmp_path: Path
) -> None:
    """Other topics go on; the deleted one gets its rows when it is there again."""
    settings = settings_for(
        topic, request_timeout_seconds=2.0, start_timeout_seconds=2.0
    )
    groups = [[topic.name], [topic.dead_letter]]
    async with rig(settings, groups, tmp_path) as running:
        await opened(running, topic)
        running.offer(topic.name, range(60))
        await running.all_sent(topic.name, 60)
        await trio.to_thread.run_sync(kafka.delete_topics, topic.name)
        running.offer(topic.name, range(60, 120))
        await until(lambda: running.relay.statistics.producer_recycles > 0)
        running.offer(topic.dead_letter, range(20))
        await running.all_sent(topic.dead_letter, 20)
        assert not running.ended.is_set()
        await trio.to_thread.run_sync(kafka.create_topic, topic.name, topic.partitions)
        await running.all_sent(topic.name, 120)
        assert running.errors == []
    records = await read_back(topic)
    numbers = [int((one.value or b"").split(b" ")[0]) for one in records]
    assert sorted(numbers) == list(range(60, 120))


@pytest.mark.timeout(90)
async def test_a_topic_with_fewer_partitions_opens_all_the_same(
    kafka: KafkaBroker, topic: Topic, tmp_path: Path
) -> None:
    """Lanes whose partition is gone don't hold up the others."""
    settings = settings_for(topic, start_timeout_seconds=3.0)
    async with rig(settings, [[topic.name]], tmp_path) as running:
        running.offer(topic.name, range(60))
        await until(lambda: running.sent(topic.name) == 60)
        # Rows that the outbox holds for every partition.
        running.outbox.acknowledge = lambda *_: None  # type: ignore[method-assign]
        running.offer(topic.name, range(60, 120))
        await running.all_sent(topic.name, 120)
    await trio.to_thread.run_sync(kafka.delete_topics, topic.name)
    await trio.to_thread.run_sync(kafka.create_topic, topic.name, 1)
    with structlog.testing.capture_logs() as lines:
        async with rig(settings, [[topic.name]], tmp_path) as running:
            running.offer(topic.name, range(120, 150))
            await until(lambda: running.sent(topic.name) >= 30)
            assert running.relay.statistics.lanes == 1
    gone = [line for line in lines if line["event"] == "lane.partition_gone"]
    assert {line["partition"] for line in gone} == {1, 2}
    assert all(line["rows_kept"] > 0 for line in gone)


# -- Producers ---------------------------------------------------------------


@pytest.mark.parametrize("code", [10, 45])
@pytest.mark.parametrize("appended", [False, True])
async def test_a_failed_batch_leaves_no_hole_and_no_duplicate(
    topic: Topic,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    *,
    code: int,
    appended: bool,
) -> None:
    """Too large or out of order: a new producer goes on from what the log holds."""
    # A batch of one record that is refused is tried again much later.
    monkeypatch.setattr(lane_module, "_REFUSED_PAUSE_SECONDS", 0.2)
    forgery = Forgery(topic.name, 1, code, times=2, appended=appended)
    async with rig(settings_for(topic), [[topic.name]], tmp_path) as running:
        await opened(running, topic)
        await feed(running, topic, 100)
        forge_answers(monkeypatch, forgery)
        await feed(running, topic, 1_000, first=100)
        await running.all_sent(topic.name, 1_100)
        statistics = running.relay.statistics
        assert forgery.forged == 2
        assert statistics.producer_recycles >= 2
        assert (topic.name in statistics.resumed) == appended
        assert statistics.connected
    check_topic(await read_back(topic), range(1_100))


async def test_other_lanes_go_on_beside_a_failing_one(
    topic: Topic, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While one partition fails again and again, the others' rows arrive."""
    forge_answers(
        monkeypatch, Forgery(topic.name, 0, 45, times=1_000_000, appended=False)
    )
    where = partitioner(topic.partitions)
    others = sum(where(b"job-%d" % (number % 20)) != 0 for number in range(1_000))
    with structlog.testing.capture_logs() as lines:
        async with rig(settings_for(topic), [[topic.name]], tmp_path) as running:
            await opened(running, topic)
            await feed(running, topic, 1_000)
            await running.all_sent(topic.name, others)
            await trio.sleep(2)
            assert running.sent(topic.name) == others
            assert not running.ended.is_set()
            assert running.relay.statistics.producer_recycles >= 3
    failures = [line for line in lines if line["event"] == "lane.failed"]
    assert len(failures) == 1
    assert failures[0]["partition"] == 0
    async with rig(settings_for(topic), [[topic.name]], tmp_path) as running:
        # The forged partition's rows are still in the outbox.
        assert running.outbox.statistics.rows_at_start == 1_000 - others


async def test_an_offset_that_the_broker_does_not_know_is_looked_up(
    topic: Topic, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A duplicate sequence number acknowledges nothing: the log says where it is."""
    forge_answers(monkeypatch, Forgery(topic.name, 2, 46, times=1, appended=True))
    async with rig(settings_for(topic), [[topic.name]], tmp_path) as running:
        running.offer(topic.name, range(100))
        await running.all_sent(topic.name, 100)
        assert running.relay.statistics.resumed[topic.name] > 0
        await until(lambda: running.outbox.statistics.rows == 0)
    check_topic(await read_back(topic), range(100))


@pytest.mark.parametrize("task", ["sender", "metadata"])
async def test_a_client_whose_task_died_is_replaced(
    topic: Topic, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, task: str
) -> None:
    """Nothing revives aiokafka's own tasks; the next batch takes a new producer."""
    async with rig(settings_for(topic), [[topic.name]], tmp_path) as running:
        await opened(running, topic)
        running.offer(topic.name, range(100))
        await running.all_sent(topic.name, 100)
        relay = running.relay
        producer = relay._groups[0].producers._current
        assert isinstance(producer, Producer)
        client = producer._client
        assert client is not None
        assert relay._loop is not None
        died = (
            client._sender.sender_task if task == "sender" else client.client._sync_task
        )
        relay._loop.call_soon_threadsafe(died.cancel)
        await until(lambda: producer.broken)
        running.offer(topic.name, range(100, 200))
        await running.all_sent(topic.name, 200)
        assert relay.statistics.producer_recycles == 1
        assert producer._client is None
    check_topic(await read_back(topic), range(200))


async def test_a_refusal_during_an_outage_does_not_end_the_relay(
    topic: Topic, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A login refused while a lane resumes is waited out: it had worked before."""
    forge_answers(monkeypatch, Forgery(topic.name, 0, 45, times=1, appended=False))
    refused = 0

    async def refuse(*arguments: object) -> object:
        nonlocal refused
        refused += 1
        if refused <= 2:
            raise KafkaRefusedError("the password was changed")
        return await log.scan(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(lane_module, "scan", refuse)
    async with rig(settings_for(topic), [[topic.name]], tmp_path) as running:
        running.offer(topic.name, range(100))
        await running.all_sent(topic.name, 100)
        assert refused == 3
        assert running.errors == []
    check_topic(await read_back(topic), range(100))


# -- Records that the broker refuses for good ---------------------------------


async def test_a_record_that_is_too_large_holds_up_its_lane_alone(
    topic: Topic, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is named once per try, others arrive, and it does when the topic takes it."""
    monkeypatch.setattr(lane_module, "_REFUSED_PAUSE_SECONDS", 0.5)
    alter(topic, max_message_bytes="20000")
    where = partitioner(topic.partitions)
    held = where(b"job-0")
    with structlog.testing.capture_logs() as lines:
        async with rig(settings_for(topic), [[topic.name]], tmp_path) as running:
            await opened(running, topic)
            running.offer(topic.name, range(20))
            running.offer(topic.name, [20], size_bytes=50_000)
            running.offer(topic.name, range(21, 60))
            reach = 20 + sum(where(b"job-%d" % (n % 20)) != held for n in range(21, 60))
            await running.all_sent(topic.name, reach)
            await until(
                lambda: any(line["event"] == "record.refused" for line in lines)
            )
            assert running.sent(topic.name) == reach
            alter(topic, max_message_bytes="1000000")
            await running.all_sent(topic.name, 60)
    told = next(line for line in lines if line["event"] == "record.refused")
    assert told["log_level"] == "error"
    assert (told["topic"], told["partition"]) == (topic.name, held)
    assert told["sequence"] > 1
    assert told["size_bytes"] == 50_000 + len(b"job-0")
    assert "MessageSizeTooLarge" in told["reason"]
    check_topic(await read_back(topic), range(60))


async def test_a_refused_record_is_found_by_halving(
    topic: Topic, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One record with an impossible time in a batch of hundreds is singled out."""
    monkeypatch.setattr(lane_module, "_REFUSED_PAUSE_SECONDS", 0.5)
    # Ten years back from now; the others' times are within them.
    alter(topic, message_timestamp_before_max_ms=str(10 * 365 * 86_400_000))
    good = [
        Record(topic.name, b"job", b"%d" % number, 1_700_000_000_000_000, ENVELOPE)
        for number in range(300)
    ]
    bad = Record(topic.name, b"job", b"200", 1, ENVELOPE)
    settings = settings_for(topic)
    with structlog.testing.capture_logs() as lines:
        async with rig(settings, [[topic.name]], tmp_path, relay_waits=True) as running:
            running.outbox.offer([*good[:200], bad, *good[201:]])
            await running.committed(300)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(running.run)
                await until(
                    lambda: any(line["event"] == "record.refused" for line in lines)
                )
                assert running.sent(topic.name) == 200
                # 300 rows are halved at most nine times until one is left.
                assert running.relay.statistics.producer_recycles <= 10
                alter(topic, message_timestamp_before_max_ms=str(2**62))
                await running.all_sent(topic.name, 300)
                running.relay.abort()
    told = next(line for line in lines if line["event"] == "record.refused")
    assert told["sequence"] == 201
    check_topic(await read_back(topic), range(300))
