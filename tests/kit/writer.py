"""Records written as another program would: in their order, in a transaction or not."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from confluent_kafka import KafkaError, Producer


DEADLINE_SECONDS = 30.0

# A time that no retention takes while the tests run, at a whole second.
NOW_MS = (time.time_ns() // 1_000_000_000 - 60) * 1000


@dataclass(frozen=True)
class Sent:
    """One record to write; its time is now if it has none."""

    value: bytes | None
    key: bytes | None = None
    headers: Mapping[str, bytes] = field(default_factory=dict)
    timestamp_ms: int = NOW_MS
    partition: int = 0


def write(bootstrap_servers: str, topic: str, records: Iterable[Sent]) -> None:
    """Write records in their order."""
    _produce(Producer({"bootstrap.servers": bootstrap_servers}), topic, records)


def write_transaction(
    bootstrap_servers: str, topic: str, records: Iterable[Sent], *, commit: bool
) -> None:
    """Write records in a transaction, and commit or abort it."""
    with open_transaction(bootstrap_servers, topic, records) as producer:
        if commit:
            producer.commit_transaction(DEADLINE_SECONDS)
            producer.begin_transaction()


@contextmanager
def open_transaction(
    bootstrap_servers: str, topic: str, records: Iterable[Sent]
) -> Iterator[Producer]:
    """Write records in a transaction that is open for as long as the block runs."""
    names = {
        "bootstrap.servers": bootstrap_servers,
        "transactional.id": uuid.uuid4().hex,
    }
    producer = Producer(names)
    producer.init_transactions(DEADLINE_SECONDS)
    producer.begin_transaction()
    _produce(producer, topic, records)
    try:
        yield producer
    finally:
        producer.abort_transaction(DEADLINE_SECONDS)


def _produce(producer: Producer, topic: str, records: Iterable[Sent]) -> None:
    for record in records:
        producer.produce(
            topic,
            record.value,
            record.key,
            partition=record.partition,
            headers=[*record.headers.items()],
            timestamp=record.timestamp_ms,
            on_delivery=_check,
        )
    assert producer.flush(DEADLINE_SECONDS) == 0


def _check(error: KafkaError | None, _message: object) -> None:
    assert error is None, error
