"""Faults of a broker that a real one can't be made to show on demand."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import TopicPartition  # noqa: TID251 - what is deceived
from aiokafka.client import AIOKafkaClient  # noqa: TID251 - likewise
from aiokafka.cluster import ClusterMetadata  # noqa: TID251 - likewise
from aiokafka.errors import (  # noqa: TID251 - likewise
    KafkaConnectionError,
)
from aiokafka.producer.sender import (  # noqa: TID251 - likewise
    SendProduceReqHandler,
)
from aiokafka.protocol.produce import ProduceRequest  # noqa: TID251 - likewise


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
        topic, partition = self._place
        if not _concerns(request, topic, partition) or self._left == 0:
            return None
        self._left -= 1
        self.forged += 1
        if not self._appended:
            request = _without(request, topic, partition)
        answers: list[tuple[str, list[tuple[Any, ...]]]] = []
        version = 7
        if _batches(request):
            answer = await send(request)
            version = answer.API_VERSION
            answers = [
                (
                    name,
                    [
                        one
                        for one in partitions
                        if not (name == topic and one[0] == partition)
                    ],
                )
                for name, partitions in answer.topics
            ]
        # partition, error, offset, timestamp, log start; from version 8 on two more
        forged: tuple[Any, ...] = (partition, self._code, -1, -1, -1, [], None)
        answers.append((topic, [forged[: 5 if version < 8 else 7]]))
        return SimpleNamespace(API_VERSION=version, topics=answers)


def _batches(request: ProduceRequest) -> list[tuple[str, list[tuple[int, object]]]]:
    """Give the batches of each topic by partition."""
    batches: list[tuple[str, list[tuple[int, object]]]] = request._topics  # noqa: SLF001 - aiokafka's
    return batches


def _concerns(request: ProduceRequest, topic: str, partition: int) -> bool:
    """Whether a request has a batch for a partition."""
    return partition in [
        number
        for name, batches in _batches(request)
        if name == topic
        for number, _ in batches
    ]


def _without(request: ProduceRequest, topic: str, partition: int) -> ProduceRequest:
    """Copy a request without the batch of a partition."""
    kept = [
        (
            name,
            [one for one in batches if not (name == topic and one[0] == partition)],
        )
        for name, batches in _batches(request)
    ]
    return ProduceRequest(
        transactional_id=request._transactional_id,  # noqa: SLF001 - aiokafka's
        required_acks=request.required_acks,
        timeout=request._timeout,  # noqa: SLF001 - aiokafka's
        topics=[(name, batches) for name, batches in kept if batches],
    )


def forge_answers(monkeypatch: pytest.MonkeyPatch, forgery: Forgery) -> None:
    """Let every client of aiokafka see the forged answers until the test's end."""
    original = AIOKafkaClient.send

    async def send(
        self: AIOKafkaClient, node_id: int, request: object, **options: object
    ) -> object:
        async def onward(changed: object) -> object:
            return await original(self, node_id, changed, **options)

        if isinstance(request, ProduceRequest):
            forged = await forgery.send(onward, request)
            if forged is not None:
                return forged
        return await onward(request)

    monkeypatch.setattr(AIOKafkaClient, "send", send)


class Switch:
    """Whether a fault is on, and how often it struck."""

    def __init__(self, *, on: bool = True) -> None:
        self.on = on
        self.struck = 0


def lose_answers(
    monkeypatch: pytest.MonkeyPatch, topic: str, partition: int, times: int
) -> Switch:
    """Let connections break after a partition's batch was appended, so many times."""
    original = AIOKafkaClient.send
    switch = Switch()

    async def send(
        self: AIOKafkaClient, node_id: int, request: object, **options: object
    ) -> object:
        answer = await original(self, node_id, request, **options)
        if (
            isinstance(request, ProduceRequest)
            and _concerns(request, topic, partition)
            and switch.struck < times
        ):
            switch.struck += 1
            raise KafkaConnectionError("the connection broke before the answer came")
        return answer

    monkeypatch.setattr(AIOKafkaClient, "send", send)
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

    def leader_for_partition(self: ClusterMetadata, place: TopicPartition) -> object:
        if switch.on and place == TopicPartition(topic, partition):
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
    """Let the sender pass over answers while it is on, and tell nobody (issue 1018)."""
    original = SendProduceReqHandler.handle_response
    switch = Switch(on=False)

    def handle(self: SendProduceReqHandler, response: object) -> None:
        if switch.on:
            switch.struck += 1
        else:
            original(self, response)

    monkeypatch.setattr(SendProduceReqHandler, "handle_response", handle)
    return switch
