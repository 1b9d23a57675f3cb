"""Transactional delivery against a real Kafka, read by consumers of committed records.

Each fault is brought about while events flow; each time everything is there once,
in order per key and without a hole.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import structlog

from tests.conftest import Topic
from tests.kafka.relay.faults import Forgery, LostEnds, forge_answers
from tests.kafka.relay.relaying import (
    check_topic,
    feed,
    read_back,
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
