"""One lane among others: its batches fail, its client dies, a record is refused."""

from __future__ import annotations

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
    check_topic,
    feed,
    opened,
    read_back,
    rig,
    settings_for,
    until,
)


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
    # Retention would take rows of that age while the test runs.
    alter(
        topic,
        message_timestamp_before_max_ms=str(10 * 365 * 86_400_000),
        retention_ms="-1",
    )
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
