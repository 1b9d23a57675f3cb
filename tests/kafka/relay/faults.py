"""Faults of a broker that a real one can't be made to show on demand."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Collection, Iterator
from contextlib import contextmanager
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import TopicPartition as Place  # noqa: TID251 - likewise
from aiokafka import errors  # noqa: TID251 - what is deceived
from aiokafka.client import AIOKafkaClient  # noqa: TID251 - likewise
from aiokafka.cluster import ClusterMetadata  # noqa: TID251 - likewise
from aiokafka.producer.sender import (  # noqa: TID251 - likewise
    SendProduceReqHandler,
)
from aiokafka.producer.transaction_manager import (  # noqa: TID251 - likewise
    TransactionManager,
)
from aiokafka.protocol.produce import ProduceRequest  # noqa: TID251 - likewise
from aiokafka.protocol.transaction import EndTxnRequest  # noqa: TID251 - likewise
from confluent_kafka import IsolationLevel, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from tests.conftest import Topic
from tests.kit.broker import admin_of, configure_broker


_Send = Callable[[], Awaitable[Any]]
_SendOther = Callable[[Any], Awaitable[Any]]


def _intercept(
    monkeypatch: pytest.MonkeyPatch,
    kind: type,
    answer: Callable[[_SendOther, Any], Awaitable[Any]],
) -> None:
    original = AIOKafkaClient.send

    async def send(
        self: AIOKafkaClient, node_id: int, request: object, **options: object
    ) -> object:
        async def onward(changed: object) -> object:
            return await original(self, node_id, changed, **options)

        if isinstance(request, kind):
            return await answer(onward, request)
        return await onward(request)

    monkeypatch.setattr(AIOKafkaClient, "send", send)


# Retriable: the producer sends such a batch again.
_NOT_LEADER = 6


class Forgery:
    """Turns answers of the broker into errors, for one partition."""

    def __init__(
        self, topic: str, partition: int, code: int, *, times: int, appended: bool
    ) -> None:
        self._place = (topic, partition)
        self._code = code
        self._left = times
        self._appended = appended
        self.forged = 0

    async def send(
        self, send: Callable[..., Any], request: ProduceRequest
    ) -> SimpleNamespace | None:
        """Answer a request that has a batch for the partition; None leaves it alone."""
        if self._place not in _places(request) or self._left == 0:
            return None
        self._left -= 1
        self.forged += 1
        version, answers = (
            7,
            [
                (topic, [_answer(7, partition, _NOT_LEADER)])
                for topic, partition in _places(request)
            ],
        )
        if self._appended:
            answer = await send(request)
            version, answers = answer.API_VERSION, answer.topics
        return SimpleNamespace(
            API_VERSION=version,
            topics=[
                (
                    topic,
                    [
                        _answer(version, one[0], self._code)
                        if (topic, one[0]) == self._place
                        else one
                        for one in partitions
                    ],
                )
                for topic, partitions in answers
            ],
        )


def _answer(version: int, partition: int, code: int) -> tuple[Any, ...]:
    """Write an answer for a partition."""
    # Error, offset, timestamp, log start; from version 8 on two more.
    answer: tuple[Any, ...] = (partition, code, -1, -1, -1, [], None)
    return answer[: 5 if version < 8 else 7]


def _places(request: ProduceRequest) -> list[tuple[str, int]]:
    """Give topic and partition of a request's batches."""
    topics = request._topics  # noqa: SLF001 - aiokafka's
    return [(topic, number) for topic, batches in topics for number, _ in batches]


def forge_answers(monkeypatch: pytest.MonkeyPatch, forgery: Forgery) -> None:
    """Let every client of aiokafka see the forged answers until the test's end."""

    async def answer(send: _SendOther, request: ProduceRequest) -> object:
        return await forgery.send(send, request) or await send(request)

    _intercept(monkeypatch, ProduceRequest, answer)


class Switch:
    """Whether a fault is on, and how often it struck."""

    def __init__(self, *, on: bool = True) -> None:
        self.on = on
        self.struck = 0


def lose_answers(
    monkeypatch: pytest.MonkeyPatch, topic: str, partition: int, times: int
) -> Switch:
    """Let connections break after a partition's batch was appended, so many times."""
    switch = Switch()

    async def lose(send: _SendOther, request: ProduceRequest) -> object:
        answer = await send(request)
        if (topic, partition) in _places(request) and switch.struck < times:
            switch.struck += 1
            raise errors.KafkaConnectionError("it broke before the answer came")
        return answer

    _intercept(monkeypatch, ProduceRequest, lose)
    return switch


def kill_sender(monkeypatch: pytest.MonkeyPatch, *, after_append: bool) -> Switch:
    """Let the next batch that is sent end its producer's sender with an exception."""
    original = SendProduceReqHandler.do
    switch = Switch()

    async def do(self: SendProduceReqHandler, node_id: int) -> object:
        if switch.struck:
            return await original(self, node_id)
        switch.struck += 1
        if after_append:
            await self._client.send(node_id, self.create_request())
        raise RuntimeError("a bug in the client")

    monkeypatch.setattr(SendProduceReqHandler, "do", do)
    return switch


def hide_leader(monkeypatch: pytest.MonkeyPatch, topic: str, partition: int) -> Switch:
    """Let every client's metadata show no leader of a partition while it is on."""
    original = ClusterMetadata.leader_for_partition
    available = ClusterMetadata.available_partitions_for_topic
    switch = Switch(on=False)

    def leader_for_partition(self: ClusterMetadata, place: Place) -> object:
        if switch.on and place == Place(topic, partition):
            switch.struck += 1
            return -1
        return original(self, place)

    def available_partitions_for_topic(self: ClusterMetadata, name: str) -> set[int]:
        hidden = {partition} if switch.on and name == topic else set()
        return set(available(self, name) or ()) - hidden

    monkeypatch.setattr(ClusterMetadata, "leader_for_partition", leader_for_partition)
    monkeypatch.setattr(
        ClusterMetadata,
        "available_partitions_for_topic",
        available_partitions_for_topic,
    )
    return switch


def forget_batches(monkeypatch: pytest.MonkeyPatch) -> Switch:
    """Let the sender ignore responses while it is on, without an error (issue 1018)."""
    original = SendProduceReqHandler.handle_response
    switch = Switch(on=False)

    def handle(self: SendProduceReqHandler, response: object) -> None:
        if switch.on:
            switch.struck += 1
        else:
            original(self, response)

    monkeypatch.setattr(SendProduceReqHandler, "handle_response", handle)
    return switch


# Far above what any of it takes on a busy machine.
_PATIENCE_SECONDS = 30.0


def intercept(
    monkeypatch: pytest.MonkeyPatch,
    kind: type,
    answer: Callable[[_Send], Awaitable[Any]],
) -> None:
    """Let `answer` see to one kind of requests; it may send them, or not."""
    _intercept(monkeypatch, kind, lambda send, request: answer(partial(send, request)))


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
    """Have transactions write to a partition that isn't added at their coordinator."""
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
