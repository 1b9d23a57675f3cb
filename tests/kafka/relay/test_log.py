"""What a scan of the log finds, and that nothing in a log can hold it up."""

from __future__ import annotations

import asyncio  # noqa: TID251 - what is tested runs on asyncio
import time
import uuid

from confluent_kafka import Producer, TopicPartition

from bridge.kafka.log import open_log
from bridge.kafka.relay.tails import LogTail, ScanFrom, scan
from bridge.settings import KafkaSettings
from tests.conftest import Topic
from tests.kafka.relay.relaying import DEADLINE_SECONDS, settings_for
from tests.kit.broker import admin_of


_OUTBOX = str(uuid.UUID(int=5))


def write(
    topic: Topic, sequences: list[int], *, outbox: str = _OUTBOX, **options: str
) -> None:
    """Write records as the outbox would, to partition 0; 0 is somebody else's."""
    producer = Producer({"bootstrap.servers": topic.bootstrap_servers, **options})
    if "transactional.id" in options:
        producer.init_transactions(DEADLINE_SECONDS)
        producer.begin_transaction()
    for sequence in sequences:
        headers: list[tuple[str, str | bytes | None]] = [
            ("ce_id", f"id-{sequence}"),
            ("bridge_outbox", outbox),
            ("bridge_sequence", str(sequence)),
        ]
        producer.produce(
            topic.name, value=b"", headers=headers if sequence else [], partition=0
        )
    if "transactional.id" in options:
        producer.commit_transaction(DEADLINE_SECONDS)
    assert producer.flush(DEADLINE_SECONDS) == 0


async def scanned(
    settings: KafkaSettings, topic: str, starts: dict[int, ScanFrom]
) -> dict[int, LogTail]:
    """Scan in a log that is opened for it."""
    async with open_log(settings, topic) as log:
        return await scan(log, _OUTBOX, starts)


def tail(topic: Topic, start: ScanFrom, **changes: object) -> LogTail:
    """Scan partition 0, beside one never opened and one with nothing to read."""
    starts = {0: start, 1: ScanFrom(None, 0), 2: ScanFrom(0, 0)}
    settings = settings_for(topic, **changes)
    tails = asyncio.run(scanned(settings, topic.name, starts))
    assert tails[1] == tails[2] == LogTail(0, 0)
    return tails[0]


def test_finds_what_was_not_known_to_be_there(topic: Topic) -> None:
    """Own records after the acknowledged one, among those of others."""
    write(topic, [1, 2, 3])
    write(topic, [1, 2, 9], outbox="another")
    write(topic, [0, 4, 5])
    found = tail(topic, ScanFrom(1, 2))
    assert found == LogTail(0, 9, 5, {"id-3": 2, "id-4": 7, "id-5": 8}, "id-2", 3, 5)


def test_a_log_whose_head_was_deleted_is_read_from_where_it_begins(
    topic: Topic,
) -> None:
    """What retention took was delivered; the rest is found."""
    write(topic, [1, 2, 3, 4])
    admin = admin_of(topic.bootstrap_servers)
    cut = TopicPartition(topic.name, 0, 3)
    for future in admin.delete_records([cut]).values():
        future.result(DEADLINE_SECONDS)
    assert tail(topic, ScanFrom(0, 1)) == LogTail(3, 4, 4, {"id-4": 3}, None, 4, 4)


def test_a_transaction_marker_at_the_end_does_not_hold_it_up(topic: Topic) -> None:
    """The last offset may be a marker, which no consumer is given."""
    write(topic, [1, 2], **{"transactional.id": f"t-{topic.name}"})
    # A commit returns before its markers are written.
    until = time.monotonic() + DEADLINE_SECONDS
    while tail(topic, ScanFrom(None, 0)).end_offset < 3:
        assert time.monotonic() < until
    found = tail(topic, ScanFrom(0, 0), start_timeout_seconds=5.0)
    assert found == LogTail(0, 3, 2, {"id-1": 0, "id-2": 1}, "id-1", 1, 2)
