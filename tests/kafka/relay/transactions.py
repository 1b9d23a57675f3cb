"""What goes wrong with transactions: ends that get lost, others that stay open."""

from __future__ import annotations

import time
import uuid
from collections.abc import Awaitable, Callable, Collection, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from aiokafka import TopicPartition as Place  # noqa: TID251 - likewise
from aiokafka import errors  # noqa: TID251 - what is forged
from aiokafka.client import AIOKafkaClient  # noqa: TID251 - likewise
from aiokafka.producer.transaction_manager import (  # noqa: TID251 - likewise
    TransactionManager,
)
from aiokafka.protocol.transaction import EndTxnRequest  # noqa: TID251 - likewise
from confluent_kafka import IsolationLevel, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from tests.conftest import Topic
from tests.kit.broker import admin_of, configure_broker


_Send = Callable[[], Awaitable[Any]]

# Far above what any of it takes on a busy machine.
_PATIENCE_SECONDS = 30.0


def intercept(
    monkeypatch: pytest.MonkeyPatch,
    kind: type,
    answer: Callable[[_Send], Awaitable[Any]],
) -> None:
    """Let `answer` see to one kind of requests; it may send them, or not."""
    original = AIOKafkaClient.send

    async def send(
        self: AIOKafkaClient, node_id: int, request: object, **options: object
    ) -> object:
        async def onward() -> object:
            return await original(self, node_id, request, **options)

        if isinstance(request, kind):
            return await answer(onward)
        return await onward()

    monkeypatch.setattr(AIOKafkaClient, "send", send)


class LostEnds:
    """Loses the ends of transactions, or the answers to them."""

    def __init__(
        self,
        monkeypatch: pytest.MonkeyPatch,
        *,
        times: int,
        applied: bool,
        error: type[Exception] = errors.RequestTimedOutError,
    ) -> None:
        self._left = times
        self._applied = applied
        self._error = error
        self.lost = 0
        intercept(monkeypatch, EndTxnRequest, self._answer)

    async def _answer(self, send: _Send) -> object:
        if self._left == 0:
            return await send()
        self._left -= 1
        self.lost += 1
        if self._applied:
            await send()
        raise self._error

    def stop(self) -> None:
        """Lose no more."""
        self._left = 0


def note_transactions(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Give the transactional ids of all transactions that begin from now on."""
    begun: list[str] = []
    begin = TransactionManager.begin_transaction

    def noted(transactions: Any) -> None:
        begun.append(transactions.transactional_id)
        begin(transactions)

    monkeypatch.setattr(TransactionManager, "begin_transaction", noted)
    return begun


@contextmanager
def foreign_transaction(topic: Topic, partitions: range) -> Iterator[Producer]:
    """Begin and write a transaction of somebody else; its end is the test's."""
    producer = Producer(
        {
            "bootstrap.servers": topic.bootstrap_servers,
            "transactional.id": f"foreign-{uuid.uuid4()}",
            "transaction.timeout.ms": 60_000,
        }
    )
    producer.init_transactions(_PATIENCE_SECONDS)
    producer.begin_transaction()
    for partition in partitions:
        producer.produce(topic.name, value=b"foreign", partition=partition)
    assert producer.flush(_PATIENCE_SECONDS) == 0
    yield producer


@contextmanager
def unverified(bootstrap_servers: str) -> Iterator[None]:
    """Let a lone broker take batches of transactions for partitions not added."""
    verification = "transaction.partition.verification.enable"
    configure_broker(bootstrap_servers, {verification: "false"})
    try:
        yield
    finally:
        configure_broker(bootstrap_servers, {verification: None})


@contextmanager
def unmentioned(topic: Topic, partition: int) -> Iterator[None]:
    """Have transactions write to a partition that their coordinator isn't told of."""
    add = TransactionManager.maybe_add_partition_to_txn
    left_out = Place(topic.name, partition)

    def maybe_add(transactions: Any, place: Place) -> None:
        if place == left_out:
            transactions._txn_partitions.add(place)  # noqa: SLF001 - aiokafka's
        else:
            add(transactions, place)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TransactionManager, "maybe_add_partition_to_txn", maybe_add)
        yield


def wait_held_back(topic: Topic, partitions: Collection[int] | None = None) -> None:
    """Wait until open transactions keep records from readers of committed ones."""
    _wait(topic, lambda held: held == set(partitions or held) and bool(held))


def wait_nothing_held(topic: Topic) -> None:
    """Wait until readers of committed records are given all; it blocks."""
    _wait(topic, lambda held: not held)


def _wait(topic: Topic, condition: Callable[[set[int]], bool]) -> None:
    admin = admin_of(topic.bootstrap_servers)
    until = time.monotonic() + _PATIENCE_SECONDS
    while True:
        ends = _ends(admin, topic, IsolationLevel.READ_UNCOMMITTED)
        stable = _ends(admin, topic, IsolationLevel.READ_COMMITTED)
        held = {number for number, end in enumerate(ends) if stable[number] < end}
        if condition(held):
            return
        assert time.monotonic() < until, held
        time.sleep(0.05)


def _ends(admin: AdminClient, topic: Topic, level: IsolationLevel) -> list[int]:
    asked = {
        TopicPartition(topic.name, number): OffsetSpec.latest()  # type: ignore[no-untyped-call]
        for number in range(topic.partitions)
    }
    answers = admin.list_offsets(asked, isolation_level=level)
    return [answer.result(_PATIENCE_SECONDS).offset for answer in answers.values()]
