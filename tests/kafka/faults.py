"""Faults of a broker that a real one can't be made to show on demand.

Owns how answers to produce requests are forged under aiokafka; the tests say which.
"""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.client import AIOKafkaClient  # noqa: TID251 - what is forged
from aiokafka.protocol.produce import ProduceRequest  # noqa: TID251 - likewise


__all__ = ["Forgery", "forge_answers"]


class Forgery:
    """Turns answers of the broker into errors, for one partition.

    Args:
        topic: The topic.
        partition: The partition.
        code: The protocol's error code to answer with.
        times: How many answers are forged.
        appended: Whether the batch is appended all the same.
    """

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
        concerned = partition in [
            number
            for name, batches in request._topics
            if name == topic
            for number, _ in batches
        ]
        if not concerned or self._left == 0:
            return None
        self._left -= 1
        self.forged += 1
        if not self._appended:
            request = _without(request, topic, partition)
        answers: list[tuple[str, list[tuple[Any, ...]]]] = []
        version = 7
        if request._topics:
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


def _without(request: ProduceRequest, topic: str, partition: int) -> ProduceRequest:
    """Copy a request without the batch of a partition."""
    kept = [
        (
            name,
            [one for one in batches if not (name == topic and one[0] == partition)],
        )
        for name, batches in request._topics
    ]
    return ProduceRequest(
        transactional_id=request._transactional_id,
        required_acks=request.required_acks,
        timeout=request._timeout,
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
