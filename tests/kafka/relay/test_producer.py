"""One producer, and what can go wrong between a batch and its acknowledgement."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
import structlog

from bridge.kafka import producer
from tests.conftest import Topic
from tests.kafka.relay.faults import (
    Forgery,
    forge_answers,
    forget_batches,
    kill_sender,
    lose_answers,
)
from tests.kafka.relay.relaying import (
    DELIVERIES,
    Delivery,
    Rig,
    check_topic,
    feed,
    opened,
    read_back,
    rig,
    sending,
    settings_for,
    until,
)


# https://kafka.apache.org/protocol#protocol_error_codes
UNKNOWN_SERVER_ERROR = -1
CORRUPT_MESSAGE = 2
NOT_LEADER = 6
REQUEST_TIMED_OUT = 7
NOT_ENOUGH_REPLICAS = 19
NOT_ENOUGH_REPLICAS_AFTER_APPEND = 20
TOPIC_AUTHORIZATION_FAILED = 29
INVALID_PRODUCER_EPOCH = 47
KAFKA_STORAGE_ERROR = 56
UNKNOWN_PRODUCER_ID = 59

EVENTS = 300


async def delivered(running: Rig, topic: Topic, count: int) -> None:
    """Wait until all is sent, and assert that the topic has each event once."""
    await running.all_sent(topic.name, count)
    await running.nothing_waits()
    assert running.errors == []
    check_topic(await read_back(topic), range(count))


@pytest.mark.parametrize(
    ("code", "appended"),
    [
        (NOT_LEADER, False),
        (REQUEST_TIMED_OUT, True),
        (NOT_ENOUGH_REPLICAS, False),
        (NOT_ENOUGH_REPLICAS_AFTER_APPEND, True),
        (KAFKA_STORAGE_ERROR, False),
    ],
)
async def test_a_passing_fault_is_tried_again_by_the_same_producer(
    topic: Topic,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    *,
    code: int,
    appended: bool,
) -> None:
    """The batch keeps its sequence, so that a broker that has it knows it again."""
    forgery = Forgery(topic.name, 1, code, times=3, appended=appended)
    async with sending(topic, tmp_path) as running:
        forge_answers(monkeypatch, forgery)
        await feed(running, topic, EVENTS)
        await delivered(running, topic, EVENTS)
        assert forgery.forged == 3
        assert running.relay.statistics.producer_recycles == 0


@pytest.mark.parametrize("appended", [False, True])
@pytest.mark.parametrize(
    "code",
    [
        UNKNOWN_SERVER_ERROR,
        CORRUPT_MESSAGE,
        TOPIC_AUTHORIZATION_FAILED,
        INVALID_PRODUCER_EPOCH,
        UNKNOWN_PRODUCER_ID,
    ],
)
async def test_a_fault_that_spoils_the_producer_costs_a_look_at_the_log(
    topic: Topic,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    *,
    code: int,
    appended: bool,
) -> None:
    """Permissions revoked and granted, a wrong epoch: the log shows what is written."""
    forgery = Forgery(topic.name, 1, code, times=2, appended=appended)
    with structlog.testing.capture_logs() as lines:
        async with sending(topic, tmp_path) as running:
            forge_answers(monkeypatch, forgery)
            await feed(running, topic, EVENTS)
            await delivered(running, topic, EVENTS)
            statistics = running.relay.statistics
            assert forgery.forged == 2
            assert statistics.producer_recycles == 2
            assert (topic.name in statistics.resumed) == appended
            assert running.counted("refused") == running.counted("resent") == {}
    told = [line["event"] for line in lines if line["log_level"] != "debug"]
    # One line for a fault, one when it is over, whatever the number of tries.
    assert told.count("partition.failed") == 1
    assert told.count("kafka.recovered") == 1
    assert set(told) <= {
        "kafka.recovered",
        "partition.failed",
        "topic.open",
        "topics.checked",
    }


@pytest.mark.parametrize("delivery", DELIVERIES)
async def test_answers_that_are_lost_after_the_append_leave_no_duplicate(
    topic: Topic, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, delivery: Delivery
) -> None:
    """The same batch is sent again with the same sequence; the broker knows it."""
    async with sending(topic, tmp_path, delivery=delivery) as running:
        lost = lose_answers(monkeypatch, topic.name, 1, times=4)
        await feed(running, topic, EVENTS)
        await delivered(running, topic, EVENTS)
        assert lost.struck == 4
        assert running.relay.statistics.producer_recycles == 0


@pytest.mark.parametrize("after_append", [False, True])
async def test_a_sender_that_dies_of_an_exception_is_replaced(
    topic: Topic,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    *,
    after_append: bool,
) -> None:
    """Its batches fail within a second or two instead of waiting for ever."""
    async with sending(topic, tmp_path) as running:
        running.offer(topic.name, range(100))
        await running.all_sent(topic.name, 100)
        killed = kill_sender(monkeypatch, after_append=after_append)
        await feed(running, topic, EVENTS - 100, first=100)
        await delivered(running, topic, EVENTS)
        assert killed.struck == 1
        statistics = running.relay.statistics
        assert statistics.producer_recycles == 1
        assert (topic.name in statistics.resumed) == after_append


async def test_a_batch_that_the_client_forgets_is_given_up(
    topic: Topic, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The record is in the log without an acknowledgement: the log is read."""
    monkeypatch.setattr(producer, "_GRACE_SECONDS", 0.5)
    forgetting = forget_batches(monkeypatch)
    settings = settings_for(topic, request_timeout_seconds=1.0)
    with structlog.testing.capture_logs() as lines:
        async with sending(topic, tmp_path, settings=settings) as running:
            await feed(running, topic, 100)
            await running.all_sent(topic.name, 100)
            forgetting.on = True
            await feed(running, topic, EVENTS - 100, first=100)
            await until(lambda: running.relay.statistics.producer_recycles == 1)
            forgetting.on = False
            await delivered(running, topic, EVENTS)
            assert forgetting.struck > 0
    errors = {line["error"] for line in lines if line["event"] == "partition.failed"}
    assert any("no answer for 1.5 s" in error for error in errors), errors


# -- Other topics --------------------------------------------------------------


async def test_refused_dead_letters_and_gaps_leave_jobs_alone(
    topic: Topic, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The right to write to them is gone: jobs keep their producer and their pace."""
    for name, times in ((topic.dead_letter, 1_000_000), (topic.gaps, 2)):
        forge_answers(
            monkeypatch,
            Forgery(name, 0, TOPIC_AUTHORIZATION_FAILED, times=times, appended=False),
        )
    topics = [topic.name, topic.dead_letter, topic.gaps]
    with structlog.testing.capture_logs() as lines:
        async with rig(settings_for(topic), topics, tmp_path) as running:
            await opened(running, 5)
            statistics = running.relay.statistics
            running.offer(topic.dead_letter, range(5))
            running.offer(topic.gaps, range(5))
            await until(lambda: statistics.producer_recycles >= 4)
            await feed(running, topic, EVENTS)
            await running.all_sent(topic.name, EVENTS)
            opens = Counter(
                line["topic"] for line in lines if line["event"] == "topic.open"
            )
            assert opens[topic.name] == 1
            assert opens[topic.dead_letter] >= 2
            # What health shows is how jobs fare.
            assert statistics.connected
            assert statistics.last_error is None
            await running.all_sent(topic.gaps, 5)
            assert statistics.published.get(topic.dead_letter, 0) == 0
            # Acknowledgements reach the disk a little later than the count.
            await until(lambda: running.outbox.statistics.rows == 5)
            assert running.counted("refused") == statistics.resumed == {}
    check_topic(await read_back(topic), range(EVENTS))
