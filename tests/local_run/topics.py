"""
Looks at a run's topics with a client that shares nothing with the bridge's.

It keeps identities and no records, so that a long run fits the memory.
"""

from __future__ import annotations

import logging
import time
import uuid
from typing import cast

from confluent_kafka import (
    OFFSET_BEGINNING,
    Consumer,
    KafkaError,
    KafkaException,
    TopicPartition,
)

from tests.kit.broker import KafkaBroker


__all__ = ["CountError", "count_records", "delete_topics"]

_DEADLINE_SECONDS = 20.0
_POLL_SECONDS = 0.2
_BATCH = 500

# librdkafka would print what goes wrong with a connection to stderr.
_SILENT = logging.getLogger("tests.local_run.librdkafka")
_SILENT.addHandler(logging.NullHandler())
_SILENT.propagate = False


class CountError(Exception):
    """A topic could not be read to its end."""


def count_records(bootstrap_servers: str, topic: str) -> tuple[int, int]:
    """
    Read a topic to its end and count; it blocks.

    Args:
        bootstrap_servers: Where the broker is.
        topic: The topic; one that isn't there counts as empty.

    Returns:
        How many records there are, and how many different `ce_id`s they have.

    Raises:
        CountError: The end wasn't reached in 20 s, or the broker refused.
    """
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap_servers,
            "group.id": f"local-run-{uuid.uuid4()}",  # asked for, never joined
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "allow.auto.create.topics": False,
        },
        logger=_SILENT,
    )
    try:
        return _count(consumer, topic)
    except KafkaException as error:
        raise CountError(f"{topic}: {error}") from error
    finally:
        consumer.close()


def _count(consumer: Consumer, topic: str) -> tuple[int, int]:
    deadline = time.monotonic() + _DEADLINE_SECONDS
    topics = consumer.list_topics(timeout=_DEADLINE_SECONDS).topics
    unfinished = set(topics[topic].partitions) if topic in topics else set()
    consumer.assign(
        [TopicPartition(topic, number, OFFSET_BEGINNING) for number in unfinished]
    )
    count = 0
    identities: set[bytes] = set()
    while unfinished:
        if time.monotonic() > deadline:
            raise CountError(
                f"{topic}: not read to its end within {_DEADLINE_SECONDS:g} s"
            )
        for message in consumer.consume(_BATCH, timeout=_POLL_SECONDS):
            error = message.error()
            if error is None:
                count += 1
                headers = cast("list[tuple[str, bytes]]", message.headers() or [])
                identities.add(dict(headers).get("ce_id", b""))
            elif error.code() == KafkaError._PARTITION_EOF:
                unfinished.discard(message.partition() or 0)
            else:
                raise KafkaException(error)
    return count, len(identities)


def delete_topics(broker: KafkaBroker, topic: str) -> None:
    """
    Delete a topic and those named after it (`{topic}.dlq` and others); it blocks.

    Raises:
        BrokerError: The broker refused one.
        CountError: The broker doesn't answer.
    """
    try:
        present = broker._admin().list_topics(timeout=_DEADLINE_SECONDS).topics
    except KafkaException as error:
        raise CountError(f"{topic} is not deleted: {error}") from error
    names = [one for one in present if one == topic or one.startswith(f"{topic}.")]
    if names:
        broker.delete_topics(*names)
