"""Transactional delivery where somebody else, or an earlier self, writes too."""

from __future__ import annotations

import asyncio  # noqa: TID251 - forged answers are awaited in its loop
import shutil
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import structlog
import trio
from aiokafka.protocol.transaction import (  # noqa: TID251 - what is forged
    AddPartitionsToTxnRequest,
    EndTxnRequest,
    InitProducerIdRequest,
)

from bridge.errors import KafkaFencedError, KafkaRefusedError
from tests.conftest import Topic
from tests.kafka.relay.faults import Forgery, forge_answers
from tests.kafka.relay.relaying import (
    DELIVERIES,
    Rig,
    check_topic,
    feed,
    numbers_of,
    opened,
    read_back,
    rig,
    settings_for,
    until,
)
from tests.kafka.relay.transactions import (
    foreign_transaction,
    intercept,
    wait_held_back,
)
from tests.kit.kafka import KafkaServer
from tests.kit.kafka_proxy import KafkaProxy, RequestKind


# -- Transactions that stay open ---------------------------------------------


async def test_somebodys_open_transaction_does_not_stop_the_writing(
    topic: Topic, tmp_path: Path
) -> None:
    """Rows are written and acknowledged; their readers wait for its end."""
    async with rig(
        settings_for(topic), [topic.name], tmp_path, delivery="transactional"
    ) as running:
        await opened(running)
        await feed(running, topic, 200)
        await running.all_sent(topic.name, 200)
        with foreign_transaction(topic, range(topic.partitions)) as foreign:
            await feed(running, topic, 300, first=200)
            await running.all_sent(topic.name, 500)
            await trio.to_thread.run_sync(foreign.abort_transaction)
        assert running.relay.statistics.producer_recycles == 0
    check_topic(await read_back(topic), range(500))


async def test_resuming_waits_for_the_end_of_somebodys_transaction(
    topic: Topic, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What stands behind it can't be judged yet; one line says so, none is doubled."""
    settings = settings_for(topic, start_timeout_seconds=1.0)
    async with rig(
        settings, [topic.name], tmp_path, delivery="transactional"
    ) as running:
        await opened(running)
        await feed(running, topic, 200)
        await running.all_sent(topic.name, 200)
        with (
            structlog.testing.capture_logs() as lines,
            foreign_transaction(topic, range(topic.partitions)) as foreign,
        ):
            await feed(running, topic, 100, first=200)
            await running.all_sent(topic.name, 300)
            forge_answers(
                monkeypatch, Forgery(topic.name, 1, 45, times=1, appended=True)
            )
            await feed(running, topic, 100, first=300)
            # Tried more than once.
            await trio.sleep(3)
            assert running.sent(topic.name) < 400
            assert "open transaction holds" in str(running.relay.statistics.last_error)
            await trio.to_thread.run_sync(foreign.abort_transaction)
            await running.all_sent(topic.name, 400)
    waits = [line for line in lines if line["event"] == "kafka.unavailable"]
    assert len(waits) == 1
    assert f"open transaction holds {topic.name} partition" in waits[0]["error"]
    check_topic(await read_back(topic), range(400))


async def test_a_stall_longer_than_the_timeout_is_no_duel(
    topic: Topic, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The coordinator aborts and fences; the bridge begins anew and says why."""
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
    async with rig(
        settings, [topic.name], tmp_path, delivery="transactional"
    ) as running:
        await opened(running)
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
        "kafka.works_again",
    ]
    assert "transaction.fenced" not in [line["event"] for line in told]
    assert "longer than 1 s" in told[0]["error"]
    check_topic(await read_back(topic), range(400))


async def test_ids_that_the_broker_forgot_are_initialised_again(
    topic: Topic, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a week without a transaction the next one fails once, and arrives."""
    left = 1

    async def forget(send: Any) -> object:
        nonlocal left
        answer = await send()
        if left:
            left -= 1
            # 49 is INVALID_PRODUCER_ID_MAPPING.
            partitions = [(number, 49) for number in range(topic.partitions)]
            return SimpleNamespace(errors=[(topic.name, partitions)])
        return answer

    async with rig(
        settings_for(topic), [topic.name], tmp_path, delivery="transactional"
    ) as running:
        await opened(running)
        intercept(monkeypatch, AddPartitionsToTxnRequest, forget)
        running.offer(topic.name, range(100))
        await running.all_sent(topic.name, 100)
        assert running.relay.statistics.producer_recycles == 1
        assert running.errors == []
    check_topic(await read_back(topic), range(100))


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


# -- Another bridge ----------------------------------------------------------


async def test_the_older_of_two_bridges_with_one_outbox_ends(
    topic: Topic, tmp_path: Path
) -> None:
    """Fenced twice it gives up with a sentence; the newer one goes on."""
    settings, groups = settings_for(topic), [topic.name]
    old, new = tmp_path / "old", tmp_path / "new"
    async with rig(settings, groups, old, delivery="transactional") as running:
        running.offer(topic.name, range(60))
        await running.nothing_waits()
    shutil.copytree(old, new)
    async with rig(settings, groups, old, delivery="transactional") as older:
        await opened(older)
        async with rig(settings, groups, new, delivery="transactional") as newer:
            await opened(newer)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_go_on, older, topic)
                nursery.start_soon(_go_on, newer, topic)
                await older.ended.wait()
                nursery.cancel_scope.cancel()
            before = newer.sent(topic.name)
            newer.offer(topic.name, range(10_000, 10_060))
            await until(lambda: newer.outbox.statistics.rows == 0)
            assert newer.sent(topic.name) > before
            assert not newer.ended.is_set()
        (error,) = older.errors
        assert isinstance(error, KafkaFencedError)
        assert "two processes use copies of one outbox" in str(error)
        assert older.outbox.id in str(error)


async def _go_on(running: Rig, topic: Topic) -> None:
    for number in range(100, 10_000):
        running.offer(topic.name, [number])
        await trio.sleep(0.02)


@pytest.mark.parametrize("fenced", [True, False])
async def test_what_a_stopped_bridge_still_sends_is_fenced(
    own_kafka: KafkaServer, topic: Topic, tmp_path: Path, *, fenced: bool
) -> None:
    """A write held back until the successor has gone on is never committed.

    With ids of its own, which fence nobody, the successor lets it be doubled.
    """
    settings, groups = settings_for(topic), [topic.name]
    proxy = KafkaProxy(own_kafka.detours[0])
    old, new = tmp_path / "old", tmp_path / "new"
    async with trio.open_nursery() as nursery:
        await nursery.start(proxy.serve)
        detour = settings_for(topic, bootstrap_servers=proxy.bootstrap_servers)
        async with rig(detour, groups, old, delivery="transactional") as stopped:
            await opened(stopped)
            await feed(stopped, topic, 100)
            await until(lambda: stopped.outbox.statistics.rows == 0)
            proxy.hold(RequestKind.PRODUCE)
            stopped.offer(topic.name, range(100, 160))
            await stopped.committed(160)
            with trio.fail_after(10):
                await proxy.wait_held()
            shutil.copytree(old, new)
            if not fenced:
                settings = settings_for(topic, client_id="somebody-else")
            async with rig(settings, groups, new, delivery="transactional") as heir:
                await until(lambda: heir.outbox.statistics.rows == 0)
                assert heir.sent(topic.name) == 60
                with trio.fail_after(10):
                    await proxy.release()
                # It learns what became of its rows: from the log or from the broker.
                await until(lambda: stopped.outbox.statistics.rows == 0)
        nursery.cancel_scope.cancel()
    records = await read_back(topic)
    if fenced:
        check_topic(records, range(160))
    else:
        assert len(records) == 220
        assert set(numbers_of(records)) == set(range(160))


# -- Rights ------------------------------------------------------------------


async def test_a_missing_right_names_the_ids(
    topic: Topic, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A user that may not use the transactional ids ends a first start."""

    async def refuse(_: object) -> object:
        # 53 is TRANSACTIONAL_ID_AUTHORIZATION_FAILED.
        return SimpleNamespace(error_code=53)

    intercept(monkeypatch, InitProducerIdRequest, refuse)
    settings = settings_for(topic, start_timeout_seconds=1.0, client_id="my.bridge")
    async with rig(
        settings, [topic.name], tmp_path, delivery="transactional"
    ) as running:
        await until(running.ended.is_set)
        (error,) = running.errors
        assert isinstance(error, KafkaRefusedError)
        assert str(error).endswith(
            "Grant the user Write and Describe on all transactional ids that begin"
            f" with my.bridge.{running.outbox.id}."
        )
