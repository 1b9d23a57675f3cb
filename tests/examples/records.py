"""
The records of a topic, read back and written once more by another client.

Owns what the bridge does only when something breaks: a record that comes twice, and
one of a transaction that was aborted. The records themselves are the bridge's own.
"""

from __future__ import annotations

import uuid

import trio
from confluent_kafka import Producer

from tests.conftest import Topic
from tests.kit.reader import Record, read_topic


__all__ = ["records_of", "write_aborted", "write_again"]

_DEADLINE_SECONDS = 15.0


async def records_of(topic: Topic, expected: int | None = None) -> list[Record]:
    """Read a topic to its end, waiting for at least so many records."""
    return await trio.to_thread.run_sync(
        read_topic, topic.bootstrap_servers, topic.name, expected, _DEADLINE_SECONDS
    )


def write_again(topic: Topic, record: Record, **headers: bytes) -> None:
    """Write a record behind all others of its partition, with more headers."""
    producer = Producer({"bootstrap.servers": topic.bootstrap_servers})
    _produce(producer, topic, record, headers)
    assert producer.flush(_DEADLINE_SECONDS) == 0


def write_aborted(topic: Topic, record: Record, **headers: bytes) -> None:
    """Write a record so that only readers of uncommitted ones see it."""
    producer = Producer(
        {
            "bootstrap.servers": topic.bootstrap_servers,
            "transactional.id": f"aborted-{uuid.uuid4()}",
        }
    )
    producer.init_transactions(_DEADLINE_SECONDS)
    producer.begin_transaction()
    _produce(producer, topic, record, headers)
    assert producer.flush(_DEADLINE_SECONDS) == 0
    producer.abort_transaction(_DEADLINE_SECONDS)


def _produce(
    producer: Producer, topic: Topic, record: Record, headers: dict[str, bytes]
) -> None:
    producer.produce(
        topic.name,
        value=record.value,
        key=record.key,
        partition=record.partition,
        headers=list((record.headers | headers).items()),
    )
