"""Transactional delivery against a real Kafka, read by consumers of committed records.

Each fault is brought about while events flow; each time everything is there once,
in order per key and without a hole.
"""

from __future__ import annotations

import asyncio  # noqa: TID251 - forged answers are awaited in its loop
import time
from pathlib import Path
from typing import Any

import pytest
import structlog
import trio
from aiokafka.protocol.transaction import (  # noqa: TID251 - what is forged
    EndTxnRequest,
)

from tests.conftest import Topic
from tests.kafka.relay.faults import (
    Forgery,
    LostEnds,
    forge_answers,
    intercept,
    wait_held_back,
)
from tests.kafka.relay.relaying import (
    DELIVERIES,
    check_topic,
    feed,
    foreign_transaction,
    opened,
    read_back,
    rig,
    sending,
    settings_for,
    until,
)


@pytest.mark.parametrize("appended", [False, True])
@pytest.mark.parametrize("code", [2, 45])
async def test_a_failed_batch_takes_its_transaction_back(
    topic: Topic,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    *,
    code: int,
    appended: bool,
) -> None:
    """Damaged or out of order: all that went with it is sent again."""
    times = 2
    forgery = Forgery(topic.name, 1, code, times=times, appended=appended)
    async with sending(topic, tmp_path, delivery="transactional") as running:
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
    # The partition that was first is named, once; the others failed with it.
    told = [line for line in lines if line["event"] == "partition.failed"]
    assert [line["partition"] for line in told] == [1]
    assert asyncio_errors(caplog) == []
    check_topic(await read_back(topic), range(600))


def asyncio_errors(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What asyncio has to say of tasks and futures that failed unseen."""
    return [one.getMessage() for one in caplog.records if one.name == "asyncio"]


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
    async with sending(
        topic, tmp_path, settings=settings, delivery="transactional"
    ) as running:
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


# -- Transactions that stay open ---------------------------------------------


async def test_somebodys_open_transaction_does_not_stop_the_writing(
    topic: Topic, tmp_path: Path
) -> None:
    """Rows are written and acknowledged; their readers wait for its end."""
    async with sending(topic, tmp_path, delivery="transactional") as running:
        await feed(running, topic, 200)
        await running.all_sent(topic.name, 200)
        with foreign_transaction(topic):
            await feed(running, topic, 300, first=200)
            await running.all_sent(topic.name, 500)
        assert running.relay.statistics.producer_recycles == 0
    check_topic(await read_back(topic), range(500))


async def test_resuming_waits_for_the_end_of_somebodys_transaction(
    topic: Topic, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is after it can't be judged yet; one line says so, none is doubled."""
    settings = settings_for(topic, start_timeout_seconds=1.0)
    async with sending(
        topic, tmp_path, settings=settings, delivery="transactional"
    ) as running:
        await feed(running, topic, 200)
        await running.all_sent(topic.name, 200)
        with structlog.testing.capture_logs() as lines:
            with foreign_transaction(topic):
                await feed(running, topic, 100, first=200)
                await running.all_sent(topic.name, 300)
                forge_answers(
                    monkeypatch, Forgery(topic.name, 1, 45, times=1, appended=True)
                )
                await feed(running, topic, 100, first=300)
                # Tried more than once.
                await trio.sleep(3)
                assert running.sent(topic.name) < 400
                error = running.relay.statistics.last_error
                assert "open transaction holds" in str(error)
            await running.all_sent(topic.name, 400)
    waits = [line for line in lines if line["event"] == "kafka.unavailable"]
    assert len(waits) == 1
    assert f"open transaction holds {topic.name} partition" in waits[0]["error"]
    check_topic(await read_back(topic), range(400))


async def test_a_stall_longer_than_the_timeout_is_no_duel(
    topic: Topic, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The coordinator aborts and fences; the bridge starts again and logs why."""
    stalls = 2

    async def stall(send: Any) -> object:
        nonlocal stalls
        if stalls:
            stalls -= 1
            # The whole loop stands still, as in a process that is stopped. The
            # coordinator looks once a second.
            time.sleep(3)  # noqa: ASYNC251
        return await send()

    settings = settings_for(topic, transaction_timeout_seconds=1.0)
    async with sending(
        topic, tmp_path, settings=settings, delivery="transactional"
    ) as running:
        await feed(running, topic, 100)
        await running.all_sent(topic.name, 100)
        with structlog.testing.capture_logs() as lines:
            intercept(monkeypatch, EndTxnRequest, stall)
            await feed(running, topic, 300, first=100)
            await running.all_sent(topic.name, 400)
        assert stalls == 0
        assert running.errors == []
        assert running.relay.statistics.producer_recycles == 2
    told = [line for line in lines if line["event"] != "topic.open"]
    assert [line["event"] for line in told][:2] == [
        "transaction.failed",
        "kafka.recovered",
    ]
    assert "transaction.fenced" not in [line["event"] for line in told]
    assert "longer than 1 s" in told[0]["error"]
    check_topic(await read_back(topic), range(400))


async def test_the_delivery_may_change_with_a_transaction_left_open(
    topic: Topic, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each start takes over what the other kind of writer left, and doubles nothing."""
    settings = settings_for(topic, transaction_timeout_seconds=2.0)
    groups, count = [topic.name], 0
    for delivery in DELIVERIES * 2:
        async with rig(settings, groups, tmp_path, delivery=delivery) as running:
            running.offer(topic.name, range(count, count + 200))
            await until(lambda r=running: r.outbox.statistics.rows == 0)
            with monkeypatch.context() as patch:
                patch_ends(patch)
                running.offer(topic.name, range(count + 200, count + 260))
                await running.committed(260)
                if delivery == "transactional":
                    await trio.to_thread.run_sync(wait_held_back, topic)
                # A crash, with whatever is on its way.
                running.relay.abort()
                await running.ended.wait()
        count += 260
    async with rig(settings, groups, tmp_path) as running:
        await opened(running)
        await running.nothing_waits()
    check_topic(await read_back(topic), range(count))


def patch_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no transaction end any more."""

    async def keep(_: object) -> None:
        await asyncio.Event().wait()

    intercept(monkeypatch, EndTxnRequest, keep)
