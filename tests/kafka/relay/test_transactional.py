"""Transactional delivery against a real Kafka, read by consumers of committed records.

Each fault is brought about while events flow; each time everything is there once,
in order per key and without a hole.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import structlog
import trio
from aiokafka import errors  # noqa: TID251 - what is forged
from aiokafka.protocol.produce import ProduceRequest  # noqa: TID251 - likewise

from bridge.kafka.relay import transactional
from bridge.kafka.relay.resuming import verify
from tests.conftest import Topic
from tests.kafka.relay.faults import Forgery, forge_answers
from tests.kafka.relay.relaying import (
    DEADLINE_SECONDS,
    check_topic,
    feed,
    numbers_of,
    opened,
    read_back,
    rig,
    settings_for,
    until,
)
from tests.kafka.relay.transactions import LostEnds, intercept
from tests.kit.kafka import KafkaServer


async def test_events_are_committed_once_and_in_order(
    topic: Topic, tmp_path: Path
) -> None:
    """Every record is there once, in order per key, with dense sequences."""
    count = 5_000
    async with rig(
        settings_for(topic), [topic.name], tmp_path, delivery="transactional"
    ) as running:
        for first in range(0, count, 50):
            running.offer(topic.name, range(first, first + 50))
            await trio.lowlevel.checkpoint()
        await running.all_sent(topic.name, count)
        statistics = running.relay.statistics
        assert statistics.published == {topic.name: count}
        assert statistics.producer_recycles == 0
        assert statistics.connected
        await until(lambda: running.outbox.statistics.rows == 0)
        with trio.fail_after(DEADLINE_SECONDS):
            await running.drain()
        assert running.errors == []
    check_topic(await read_back(topic), range(count))


@pytest.mark.parametrize("appended", [False, True])
@pytest.mark.parametrize("code", [2, 10, 45])
async def test_a_failed_batch_takes_its_transaction_back(
    topic: Topic,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    *,
    code: int,
    appended: bool,
) -> None:
    """Damaged, too large or out of order: all that went with it is sent again."""
    # A record that is refused alone for the second time would be put aside.
    times = 2 if code == 45 else 1
    forgery = Forgery(topic.name, 1, code, times=times, appended=appended)
    async with rig(
        settings_for(topic), [topic.name], tmp_path, delivery="transactional"
    ) as running:
        await opened(running)
        await feed(running, topic, 100)
        forge_answers(monkeypatch, forgery)
        with structlog.testing.capture_logs() as lines:
            await feed(running, topic, 500, first=100)
            await running.all_sent(topic.name, 600)
        statistics = running.relay.statistics
        assert forgery.forged == times
        assert statistics.producer_recycles == times
        assert statistics.resumed.get(topic.name, 0) == 0
        assert statistics.connected
    # The lane that was first is named, once; the others failed with it.
    told = [line for line in lines if line["event"] == "partition.failed"]
    assert [line["partition"] for line in told] == [1]
    assert asyncio_errors(caplog) == []
    check_topic(await read_back(topic), range(600))


def asyncio_errors(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What asyncio has to say of tasks and futures that failed unseen."""
    return [one.getMessage() for one in caplog.records if one.name == "asyncio"]


async def test_a_log_that_was_just_read_is_not_looked_at_again(
    topic: Topic, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither after a start nor after a failure do first batches wait for a look."""
    looks = 0

    async def look(*arguments: Any) -> None:
        nonlocal looks
        looks += 1
        await verify(*arguments)

    monkeypatch.setattr(transactional, "verify", look)
    for first in (0, 600):
        async with rig(
            settings_for(topic), [topic.name], tmp_path, delivery="transactional"
        ) as running:
            await opened(running)
            await feed(running, topic, 300, first=first)
            forge_answers(
                monkeypatch, Forgery(topic.name, 1, 45, times=1, appended=False)
            )
            await feed(running, topic, 300, first=first + 300)
            await running.all_sent(topic.name, 600)
            assert running.relay.statistics.producer_recycles == 1
    assert looks == 0
    check_topic(await read_back(topic), range(1_200))


async def test_a_refused_record_is_found_and_stops_nothing(
    topic: Topic, tmp_path: Path
) -> None:
    """The one record that is too large goes to the dead letters, all others arrive."""
    groups = [topic.name, topic.dead_letter]
    async with rig(
        settings_for(topic),
        groups,
        tmp_path,
        dead_letter_topic=topic.dead_letter,
        delivery="transactional",
        relay_waits=True,
    ) as running:
        running.offer(topic.name, range(50))
        # More than the broker's message.max.bytes.
        running.offer(topic.name, [50], size_bytes=1_100_000)
        running.offer(topic.name, range(51, 100))
        await running.committed(100)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(running.run)
            await running.all_sent(topic.name, 99)
            await running.all_sent(topic.dead_letter, 1)
            assert running.relay.statistics.refused == {topic.name: 1}
            await until(lambda: running.outbox.statistics.rows == 0)
            running.relay.abort()
    records = await read_back(topic)
    assert sorted(numbers_of(records)) == [*range(50), *range(51, 100)]
    (letter,) = await read_back(topic, topic.dead_letter)
    assert letter.headers["bridge_reason"] == b"refused_by_broker"
    assert letter.headers["bridge_refused_topic"] == topic.name.encode()
    place = int(letter.headers["bridge_refused_partition"])
    missing = int(letter.headers["bridge_refused_sequence"])
    sequences = [
        int(one.headers["bridge_sequence"]) for one in records if one.partition == place
    ]
    assert sorted([*sequences, missing]) == list(range(1, len(sequences) + 2))
    assert missing not in sequences


async def test_a_record_that_is_refused_everywhere_stays_in_the_outbox(
    topic: Topic, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the dead letters refuse too is put aside; nothing else notices."""
    groups = [topic.name, topic.dead_letter]
    forge_answers(
        monkeypatch, Forgery(topic.dead_letter, 0, 10, times=100, appended=False)
    )
    async with rig(
        settings_for(topic),
        groups,
        tmp_path,
        dead_letter_topic=topic.dead_letter,
        delivery="transactional",
    ) as running:
        running.offer(topic.name, [0], size_bytes=1_100_000)
        running.offer(topic.name, range(1, 60))
        await running.all_sent(topic.name, 59)
        refused = running.relay.statistics.refused
        await until(lambda: refused == {topic.name: 1, topic.dead_letter: 1})
        await until(lambda: running.outbox.statistics.rows == 0)
    assert sorted(numbers_of(await read_back(topic))) == list(range(1, 60))
    assert await read_back(topic, topic.dead_letter) == []


async def test_a_lost_answer_to_a_batch_changes_nothing(
    topic: Topic, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The batch is sent again under its number; the broker has it already."""
    lost = 0

    async def lose(send: Callable[[], Awaitable[object]]) -> object:
        nonlocal lost
        answer = await send()
        if lost < 3:
            lost += 1
            raise errors.KafkaConnectionError
        return answer

    async with rig(
        settings_for(topic), [topic.name], tmp_path, delivery="transactional"
    ) as running:
        await opened(running)
        await feed(running, topic, 100)
        intercept(monkeypatch, ProduceRequest, lose)
        await feed(running, topic, 200, first=100)
        await running.all_sent(topic.name, 300)
        assert lost == 3
        assert running.relay.statistics.producer_recycles == 0
    check_topic(await read_back(topic), range(300))


@pytest.mark.parametrize("applied", [False, True])
@pytest.mark.parametrize("error", ["timeouts", "unexpected"])
async def test_a_commit_of_unknown_outcome_is_looked_up(
    topic: Topic,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    *,
    applied: bool,
    error: str,
) -> None:
    """Whether the commit was lost or its answer: the log says what is there."""
    settings = settings_for(topic, transaction_timeout_seconds=1.0)
    async with rig(
        settings, [topic.name], tmp_path, delivery="transactional"
    ) as running:
        await opened(running)
        await feed(running, topic, 100)
        await running.all_sent(topic.name, 100)
        if error == "timeouts":
            # Until the bridge gives the transaction up.
            ends = LostEnds(monkeypatch, times=1_000, applied=applied)
        else:
            # aiokafka's sender dies of it.
            ends = LostEnds(
                monkeypatch, times=1, applied=applied, error=ConnectionResetError
            )
        running.offer(topic.name, range(100, 160))
        statistics = running.relay.statistics
        await until(lambda: ends.lost)
        await until(lambda: statistics.producer_recycles)
        ends.stop()
        await feed(running, topic, 300, first=160)
        await running.all_sent(topic.name, 460)
        assert (topic.name in statistics.resumed) == applied
        assert running.errors == []
    assert asyncio_errors(caplog) == []
    check_topic(await read_back(topic), range(460))


async def test_a_relay_killed_in_midst_of_transactions_goes_on_where_it_was(
    topic: Topic, tmp_path: Path
) -> None:
    """Relays that end while events flow leave no hole and no duplicate."""
    count = 0
    for kill_after in (30, 1, 200, 5, 340, 77):
        async with rig(
            settings_for(topic), [topic.name], tmp_path, delivery="transactional"
        ) as running:
            await opened(running)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(partial(feed, running, topic, 400, first=count))
                await until(lambda r=running, k=kill_after: r.sent(topic.name) >= k)
                running.relay.abort()
                await running.ended.wait()
            count += 400
            await running.committed(400)
    async with rig(
        settings_for(topic), [topic.name], tmp_path, delivery="transactional"
    ) as running:
        await opened(running)
        await until(lambda: running.outbox.statistics.rows == 0)
        with trio.fail_after(DEADLINE_SECONDS):
            await running.drain()
    check_topic(await read_back(topic), range(count))


async def test_an_aborted_transaction_ends_quietly(
    topic: Topic, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A relay that is aborted in midst of a transaction ends quietly."""
    async with rig(
        settings_for(topic), [topic.name], tmp_path, delivery="transactional"
    ) as running:
        await opened(running)
        running.offer(topic.name, range(2_000))
        await until(lambda: running.sent(topic.name) > 0)
    loud = [one for one in caplog.records if one.levelno >= logging.ERROR]
    assert [one.getMessage() for one in loud] == []


@pytest.mark.timeout(90)
async def test_a_broker_killed_under_load_leaves_no_hole(
    own_kafka: KafkaServer, topic: Topic, tmp_path: Path
) -> None:
    """What was open when the only broker died is taken back and sent again."""
    count = 2_000
    async with rig(
        settings_for(topic), [topic.name], tmp_path, delivery="transactional"
    ) as running:
        await opened(running)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(feed, running, topic, count)
            await trio.sleep(0.7)
            await trio.to_thread.run_sync(own_kafka.kill)
        assert running.sent(topic.name) < count
        await trio.to_thread.run_sync(own_kafka.start)
        await running.all_sent(topic.name, count)
        assert running.errors == []
    check_topic(await read_back(topic), range(count))
