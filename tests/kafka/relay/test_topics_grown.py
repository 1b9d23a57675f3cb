"""Partitions are added under load: each job's records stay in one order."""

from __future__ import annotations

import json
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path

import pytest
import structlog
import trio
from confluent_kafka.cimpl import NewPartitions

from bridge.consumer.verify import prove
from bridge.events import header_names
from bridge.events.record import Envelope, Record
from bridge.outbox.partitioner import partitioner
from bridge.settings import KafkaSettings
from tests.conftest import Topic
from tests.kafka.relay.relaying import (
    DEADLINE_SECONDS,
    DELIVERIES,
    Delivery,
    Rig,
    opened,
    read_back,
    rig,
    settings_for,
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
    result = await prove(settings, topic.name, dead_letter_topic=topic.dead_letter)
    assert result.findings == []
    assert result.counts == {}


@pytest.mark.parametrize("delivery", DELIVERIES)
async def test_jobs_in_flight_stay_and_new_ones_use_what_was_added(
    topic: Topic, tmp_path: Path, delivery: Delivery
) -> None:
    """Under load, over a restart in between, and over a second change."""
    settings = settings_for(topic, topics_check_seconds=0.1)
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
