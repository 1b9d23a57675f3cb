"""Whoever traces batches is told of each: what it held, and what became of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import pytest

from bridge.events.record import StoredRecord
from bridge.settings import split_address
from tests.conftest import Topic
from tests.kafka.relay.orders import alter
from tests.kafka.relay.relaying import opened, read_back, rig, settings_for, until


@pytest.mark.parametrize("delivery", ["idempotent", "transactional"])
async def test_each_batch_is_told_with_its_end(
    topic: Topic, tmp_path: Path, delivery: Literal["idempotent", "transactional"]
) -> None:
    """Rows are where the told offsets say, once; a refused batch has its error."""
    written: dict[tuple[str, int, int], str] = {}
    brokers: set[tuple[str, int] | None] = set()
    failed: list[tuple[str | None, Sequence[StoredRecord]]] = []

    def trace(
        topic: str,
        partition: int,
        rows: Sequence[StoredRecord],
        began_ns: int,
        *,
        base_offset: int | None = None,
        broker: tuple[str, int] | None = None,
        error_type: str | None = None,
    ) -> None:
        assert began_ns > 0
        if base_offset is None:
            failed.append((error_type, [*rows]))
            return
        assert error_type is None
        brokers.add(broker)
        for offset, row in enumerate(rows, base_offset):
            written[topic, partition, offset] = row.ce_id

    alter(topic, max_message_bytes="20000")
    async with rig(
        settings_for(topic),
        [topic.name, topic.dead_letter],
        tmp_path,
        dead_letter_topic=topic.dead_letter,
        delivery=delivery,
        trace=trace,
    ) as running:
        await opened(running)
        running.offer(topic.name, range(20))
        running.offer(topic.name, [20], size_bytes=50_000)
        running.offer(topic.name, range(21, 40))
        await running.committed(40)
        await until(lambda: running.outbox.statistics.rows == 0)
    assert len(written) == 40
    assert written == {
        (name, one.partition, one.offset): one.headers["ce_id"].decode()
        for name in (topic.name, topic.dead_letter)
        for one in await read_back(topic, name)
    }
    assert brokers == {split_address(topic.bootstrap_servers.split(",")[0])}
    assert {error for error, _ in failed} == {
        "aiokafka.errors.MessageSizeTooLargeError"
    }
    assert any(b"20 " in row.value[:3] for _, rows in failed for row in rows)
