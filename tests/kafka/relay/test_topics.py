"""Topics that do not fit, and topics that change or grow under a working bridge."""

from __future__ import annotations

import json
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import structlog
import trio
from confluent_kafka.cimpl import NewPartitions

from bridge.consumer.verify import verify
from bridge.errors import KafkaRefusedError
from bridge.events import header_names
from bridge.events.record import Envelope, Record
from bridge.kafka.topics import TopicNeeds, TopicRole
from bridge.outbox.partitioner import partitioner
from bridge.settings import KafkaSettings
from tests.conftest import Topic
from tests.kafka.relay.relaying import (
    DEADLINE_SECONDS,
    DELIVERIES,
    Delivery,
    Rig,
    alter,
    check_topic,
    needs_of,
    opened,
    read_back,
    rig,
    settings_for,
    topics_of,
    until,
)
from tests.kit import reader
from tests.kit.broker import admin_of


_ENVELOPE = Envelope(
    "https://api.example/clients/7",
    header_names.JOB_STATUS_TYPE,
    "socket",
    "application/json",
)
_STATES = ("processing", "in_progress", "done")


def job_event(topic: Topic, job: str, state: int) -> Record:
    """The event of a job that goes through three states."""
    status = _STATES[state]
    value = {
        "request_id": job,
        "status": status,
        "preview": None,
        "result_url": None,
        "progress": None,
    }
    return Record(
        topic.name,
        job.encode(),
        json.dumps(value).encode(),
        time.time_ns() // 1000,
        _ENVELOPE,
        status=status,
    )


async def tell(running: Rig, topic: Topic, jobs: Sequence[str], state: int) -> None:
    """Let jobs reach a state, some at a time."""
    for first in range(0, len(jobs), 5):
        running.outbox.offer(
            [job_event(topic, job, state) for job in jobs[first : first + 5]]
        )
        await trio.sleep(0.005)


def named(prefix: str, count: int = 60) -> list[str]:
    """Name jobs."""
    return [f"{prefix}-{number}" for number in range(count)]


async def add_partitions(topic: Topic, total: int) -> None:
    """Give the topic more partitions, as its owner does, by another client."""
    admin = admin_of(topic.bootstrap_servers)
    for future in admin.create_partitions([NewPartitions(topic.name, total)]).values():
        await trio.to_thread.run_sync(future.result, DEADLINE_SECONDS)


def check(
    records: Sequence[reader.Record], homes: Iterable[tuple[Sequence[str], int]]
) -> None:
    """Assert that each job is whole, in order, on its partition of so many."""
    found = defaultdict(list)
    places = defaultdict(set)
    for one in records:
        assert one.key is not None
        assert one.value is not None
        found[one.key.decode()].append(json.loads(one.value)["status"])
        places[one.key.decode()].add(one.partition)
    expected = {
        job: {partitioner(partitions)(job.encode())}
        for jobs, partitions in homes
        for job in jobs
    }
    assert {job: places[job] for job in expected} == expected
    assert found == {job: [*_STATES] for job in expected}


async def check_proof(settings: KafkaSettings, topic: Topic) -> None:
    """Assert that `bridge verify` finds no hole, duplicate or reordering."""
    result = await verify(settings, topic.name, dead_letter_topic=topic.dead_letter)
    assert result.issues == []
    assert result.counts == {}


@pytest.mark.parametrize("delivery", DELIVERIES)
async def test_jobs_in_flight_stay_and_new_ones_use_what_was_added(
    topic: Topic, tmp_path: Path, delivery: Delivery
) -> None:
    """Under load, over a restart in between, and over a second change."""
    settings = settings_for(topic, metadata_max_age_seconds=0.1)
    topics = [topic.name]
    old, new, last = named("old"), named("new"), named("last")
    run = partial(rig, settings, topics, tmp_path, delivery=delivery)
    with structlog.testing.capture_logs() as lines:
        async with run() as running:
            await opened(running)
            await tell(running, topic, old, 0)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(add_partitions, topic, 7)
                await tell(running, topic, old[:40], 1)
            await opened(running, 7)
            await tell(running, topic, new, 0)
            await tell(running, topic, old[:20], 2)
            assert running.errors == []
        async with run() as running:
            await tell(running, topic, old[40:], 1)
            await tell(running, topic, new, 1)
            await opened(running, 7)
            await tell(running, topic, old[20:40], 2)
            await add_partitions(topic, 12)
            await opened(running, 12)
            for state in range(3):
                await tell(running, topic, last, state)
            await tell(running, topic, old[40:] + new, 2)
            await running.nothing_waits()
            assert running.errors == []
    grown = [line for line in lines if line["event"] == "topic.partitions_added"]
    assert [(line["before"], line["partitions"]) for line in grown] == [(3, 7), (7, 12)]
    records = await read_back(topic)
    check(records, [(old, 3), (new, 7), (last, 12)])
    assert {one.partition for one in records} >= {*range(3, 7)}
    await check_proof(settings, topic)


def told(lines: Iterable[Mapping[str, Any]], event: str) -> list[Mapping[str, Any]]:
    """Give the log lines of an event."""
    return [line for line in lines if line["event"] == event]


async def test_a_first_start_says_everything_that_is_wrong_at_once(
    topic: Topic, tmp_path: Path
) -> None:
    """Two topics are missing and one is too small: one error and one table say so."""
    needs = needs_of(topic, 2_000_000)
    absent = [f"{topic.name}-a", f"{topic.name}-b"]
    needs |= {name: TopicNeeds(TopicRole.PREVIEWS, 1_000) for name in absent}
    topics = [*topics_of(topic), *absent]
    with structlog.testing.capture_logs() as lines:
        async with rig(settings_for(topic), topics, tmp_path, needs=needs) as running:
            with trio.fail_after(DEADLINE_SECONDS):
                await running.ended.wait()
            (error,) = running.errors
    assert isinstance(error, KafkaRefusedError)
    text = str(error)
    assert f"has no topics {absent[0]} and {absent[1]}, or this user" in text
    for name in (topic.name, topic.dead_letter):
        assert (
            f"The topic {name} has max.message.bytes: 1048588, needed: 2008192 or more."
        ) in text
        assert f"--entity-name {name} --add-config max.message.bytes=2008192" in text
    (line,) = told(lines, "topics.checked")
    assert line["log_level"] == "warning"
    assert line["errors"] == 4
    assert {row["topic"] for row in line["findings"]} == {*needs}


async def test_what_changes_while_it_runs_is_logged_and_followed(
    topic: Topic, tmp_path: Path
) -> None:
    """A policy is only reported; for a new limit the topic is opened again."""
    needs = needs_of(topic)
    settings = settings_for(topic, metadata_max_age_seconds=0.1)
    with structlog.testing.capture_logs() as lines:
        async with rig(settings, topics_of(topic), tmp_path, needs=needs) as running:
            await opened(running)
            running.offer(topic.name, range(100))
            await running.all_sent(topic.name, 100)
            await trio.to_thread.run_sync(
                partial(alter, topic, topic.gaps, cleanup_policy="compact")
            )
            await until(lambda: told(lines, "topics.changed"))
            assert told(lines, "partitions.reopen") == []
            await trio.to_thread.run_sync(
                partial(alter, topic, max_message_bytes="20000")
            )
            await until(lambda: told(lines, "partitions.reopen"))
            running.offer(topic.name, range(100, 200), 1000)
            await running.all_sent(topic.name, 200)
            findings = running.relay.statistics.topic_findings
            assert running.errors == []
    gaps, events = told(lines, "topics.changed")[:2]
    row, retention = gaps["findings"]
    assert (retention["what"], retention["verdict"]) == ("retention.ms", "ok")
    assert (row["topic"], row["what"], row["found"]) == (
        topic.gaps,
        "cleanup.policy",
        "compact",
    )
    assert row["verdict"] == "warning"
    assert "--add-config cleanup.policy=delete" in row["remedy"]
    (row,) = events["findings"]
    assert (row["what"], row["found"], row["verdict"]) == (
        "max.message.bytes",
        "20000",
        "error",
    )
    assert {one.found for one in findings[topic.gaps] if one.what == row["what"]}
    # Batches fit the limit at once: none was refused.
    assert told(lines, "partition.failed") == []
    check_topic(await read_back(topic), range(200))
