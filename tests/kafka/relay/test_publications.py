"""Whoever traces batches is told of each: what it held, and what became of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest

from bridge.kafka.producer.answers import BatchRefusedError, ClientError
from bridge.kafka.relay.publications import error_type
from bridge.record import StoredRecord
from bridge.settings import split_address
from tests.conftest import Topic
from tests.kafka.relay.orders import alter
from tests.kafka.relay.relaying import opened, read_back, rig, settings_for, until


@dataclass(frozen=True)
class Told:
    """One batch, as it was told."""

    place: tuple[str, int]
    rows: Sequence[StoredRecord]
    began_ns: int
    base_offset: int | None
    broker: tuple[str, int] | None
    error_type: str | None


class Listener:
    """Keeps what it is told; on the relay's thread."""

    def __init__(self) -> None:
        self.told: list[Told] = []

    def __call__(  # noqa: D102 - the protocol's
        self,
        topic: str,
        partition: int,
        rows: Sequence[StoredRecord],
        began_ns: int,
        *,
        base_offset: int | None = None,
        broker: tuple[str, int] | None = None,
        error_type: str | None = None,
    ) -> None:
        place = (topic, partition)
        told = Told(place, [*rows], began_ns, base_offset, broker, error_type)
        self.told.append(told)


@pytest.mark.parametrize("delivery", ["idempotent", "transactional"])
async def test_each_batch_is_told_with_its_end(
    topic: Topic, tmp_path: Path, delivery: Literal["idempotent", "transactional"]
) -> None:
    """Rows stand where the told offsets say, once; a refused batch has an error."""
    alter(topic, max_message_bytes="20000")
    listener = Listener()
    async with rig(
        settings_for(topic),
        [[topic.name], [topic.dead_letter]],
        tmp_path,
        dead_letter_topic=topic.dead_letter,
        delivery=delivery,
        trace=listener,
    ) as running:
        await opened(running, topic)
        running.offer(topic.name, range(20))
        running.offer(topic.name, [20], size_bytes=50_000)
        running.offer(topic.name, range(21, 40))
        await running.committed(40)
        await until(lambda: running.outbox.statistics.rows == 0)

    written = {
        (name, one.partition, one.offset): one.headers["ce_id"].decode()
        for name in (topic.name, topic.dead_letter)
        for one in await read_back(topic, name)
    }
    assert len(written) == 40
    told = {
        (*one.place, one.base_offset + number): row.ce_id
        for one in listener.told
        if one.base_offset is not None
        for number, row in enumerate(one.rows)
    }
    assert told == written
    failed = [one for one in listener.told if one.error_type is not None]
    assert {one.error_type for one in failed} == {
        "aiokafka.errors.MessageSizeTooLargeError"
    }
    assert all(one.base_offset is None and one.rows for one in failed)
    assert any(b"20 " in row.value[:3] for one in failed for row in one.rows)
    ended = [one for one in listener.told if one.error_type is None]
    assert all(one.base_offset is not None for one in ended)
    # The one broker there is.
    assert {one.broker for one in ended} == {
        split_address(topic.bootstrap_servers.split(",")[0])
    }
    assert all(one.began_ns > 0 for one in listener.told)


def test_a_failure_is_named_by_its_class() -> None:
    """Where the broker refuses, by its own error, and not by what wraps it."""
    from aiokafka import errors  # noqa: PLC0415, TID251 - what it is raised for

    refused = BatchRefusedError(errors.MessageSizeTooLargeError())
    assert error_type(refused) == "aiokafka.errors.MessageSizeTooLargeError"
    assert error_type(TimeoutError("a batch of 3")) == "TimeoutError"
    assert error_type(ClientError("x")) == "aiokafka.errors.KafkaError"
