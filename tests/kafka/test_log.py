"""Reading a topic's end to resume, on a real Kafka."""

from __future__ import annotations

import asyncio  # noqa: TID251 - the room under test runs asyncio

import confluent_kafka
import trio

from bridge.kafka import header_names as names
from bridge.kafka.log import LogTail, ScanFrom, scan
from bridge.settings import KafkaSettings
from tests.conftest import Topic


OUTBOX = "3fc0197c-d874-4527-997b-d704e863d361"


def write(topic: Topic, partition: int, *identities: tuple[str, int, str]) -> None:
    """Write records with (ce_id, sequence, outbox) in their headers."""
    producer = confluent_kafka.Producer({"bootstrap.servers": topic.bootstrap_servers})
    for ce_id, sequence, outbox in identities:
        producer.produce(
            topic.name,
            value=b"{}",
            partition=partition,
            headers=[
                (names.CE_ID, ce_id.encode()),
                (names.BRIDGE_SEQUENCE, b"%d" % sequence),
                (names.BRIDGE_OUTBOX, outbox.encode()),
            ],
        )
    assert producer.flush(10) == 0


async def look(topic: Topic, starts: dict[int, ScanFrom]) -> dict[int, LogTail]:
    """Scan in a thread with a loop of its own, as the relay does."""
    settings = KafkaSettings(
        bootstrap_servers=topic.bootstrap_servers, start_timeout_seconds=10.0
    )
    return await trio.to_thread.run_sync(
        lambda: asyncio.run(scan(settings, OUTBOX, topic.name, starts))
    )


async def test_a_partition_with_nothing_to_read_holds_up_no_other(topic: Topic) -> None:
    """Empty, unread and written partitions are looked at in one scan."""
    write(topic, 0, ("a-1", 1, OUTBOX), ("a-2", 2, OUTBOX))
    write(topic, 2, ("b-1", 1, "another outbox"))
    starts = {0: ScanFrom(0, 0), 1: ScanFrom(0, 0), 2: ScanFrom(None, 0)}
    assert await look(topic, starts) == {
        0: LogTail(end_offset=2, last_sequence=2, offsets={"a-1": 0, "a-2": 1}),
        1: LogTail(end_offset=0),
        2: LogTail(end_offset=1),
    }


async def test_known_rows_and_rows_of_others_are_left_out(topic: Topic) -> None:
    """Only rows of this outbox after the acknowledged one are found."""
    write(topic, 1, ("a-1", 1, OUTBOX), ("x-1", 9, "another outbox"))
    write(topic, 1, ("a-2", 2, OUTBOX))
    tails = await look(topic, {1: ScanFrom(0, 1)})
    assert tails[1].offsets == {"a-2": 2}
    assert tails[1].last_sequence == 2


async def test_a_scan_of_nothing_gives_the_end_offsets(topic: Topic) -> None:
    """Lanes that are opened for the first time learn where the log ends."""
    write(topic, 0, ("a-1", 1, OUTBOX))
    starts = {number: ScanFrom(None, 0) for number in range(3)}
    tails = await look(topic, starts)
    assert [tails[number].end_offset for number in range(3)] == [1, 0, 0]
