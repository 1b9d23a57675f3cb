"""One lane among others: its batches fail, its client dies, a record is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import structlog

from bridge.errors import KafkaRefusedError
from bridge.kafka.partitioner import partitioner
from bridge.kafka.relay import resuming, tails
from tests.conftest import Topic
from tests.kafka.relay.faults import Forgery, forge_answers
from tests.kafka.relay.relaying import (
    check_topic,
    feed,
    opened,
    read_back,
    rig,
    settings_for,
    until,
)


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
    # A record that is refused alone for the second time would be put aside.
    times = 2 if code == 45 else 1
    forgery = Forgery(topic.name, 1, code, times=times, appended=appended)
    async with rig(settings_for(topic), [[topic.name]], tmp_path) as running:
        await opened(running, topic)
        await feed(running, topic, 100)
        forge_answers(monkeypatch, forgery)
        await feed(running, topic, 1_000, first=100)
        await running.all_sent(topic.name, 1_100)
        statistics = running.relay.statistics
        assert forgery.forged == times
        assert statistics.producer_recycles >= times
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
            await until(lambda: running.relay.statistics.producer_recycles >= 3)
            assert running.sent(topic.name) == others
            assert not running.ended.is_set()
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
        return await tails.scan(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(resuming, "scan", refuse)
    async with rig(settings_for(topic), [[topic.name]], tmp_path) as running:
        running.offer(topic.name, range(100))
        await running.all_sent(topic.name, 100)
        assert refused == 3
        assert running.errors == []
    check_topic(await read_back(topic), range(100))
