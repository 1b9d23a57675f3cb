"""How rows come to a lane: from memory, from the outbox, and each once."""

from __future__ import annotations

import asyncio  # noqa: TID251 - lanes live in asyncio
from concurrent.futures import Future
from typing import Any, cast

import pytest

from bridge.kafka.relay.group import Group
from bridge.kafka.relay.lane import Lane
from bridge.kafka.relay.memory import Memory
from bridge.kafka.relay.tails import ScanFrom
from bridge.kafka.topics.facts import TopicFacts
from bridge.record import StoredRecord
from bridge.settings import KafkaSettings
from tests.kafka.relay.relaying import ENVELOPE


ROWS = [
    StoredRecord(number, f"id-{number}", b"key", b"{}", 0, ENVELOPE)
    for number in range(1, 6)
]


class _Outbox:
    """Answers a lane's question when the test wants it to."""

    def __init__(self) -> None:
        self.asked: list[Future[list[StoredRecord]]] = []

    def read(self, *_: object) -> Future[list[StoredRecord]]:
        self.asked.append(Future())
        return self.asked[-1]


class _Group:
    """What a lane asks of its group as long as it sends nothing."""

    def __init__(self) -> None:
        self.settings = KafkaSettings()
        self.outbox = _Outbox()
        self.memory = Memory()


def _lane(group: _Group) -> Lane:
    return Lane(
        cast("Group", group),
        TopicFacts("jobs", 1, 1_000_000),
        0,
        known=None,
        start=ScanFrom(None, 0),
        end_offset=0,
        wake=None,
    )


@pytest.mark.parametrize("committed", range(6))
def test_rows_that_come_while_they_are_read_are_had_once(committed: int) -> None:
    """The outbox may tell a lane of its rows between its question and the answer."""
    group = _Group()

    async def had() -> list[int]:
        lane = _lane(group)
        lane.claimed(len(ROWS))
        reading = asyncio.create_task(lane.gather())
        await asyncio.sleep(0)
        if committed:
            lane.committed(ROWS[:committed])
        (asked,) = group.outbox.asked
        asked.set_result(list(ROWS))
        assert await reading
        rows: list[Any] = lane.offered(10)
        return [row.sequence for row in rows]

    assert asyncio.run(had()) == [1, 2, 3, 4, 5]
    group.memory.release(ROWS)
    assert group.memory.used_bytes == 0
