"""The bridge's own requests, against a real broker: they fail when aiokafka moves."""

from __future__ import annotations

import asyncio  # noqa: TID251 - what is tested runs on asyncio

import pytest
from aiokafka.errors import IncompatibleBrokerVersion  # noqa: TID251 - what is forged

from bridge.kafka.probe import connected
from bridge.kafka.requests import Described, Metadata, describe_topics, lacking
from tests.conftest import Topic
from tests.kafka.relay.relaying import settings_for
from tests.kafka.relay.transactions import intercept


_UNKNOWN_TOPIC = 3


def describe(topic: Topic, *names: str) -> dict[str, Described]:
    """Ask the suite's broker for topics."""

    async def ask() -> dict[str, Described]:
        async with connected(settings_for(topic)) as client:
            return await describe_topics(client, names)

    return asyncio.run(ask())


def test_a_broker_older_than_ids_is_asked_as_aiokafka_does(
    topic: Topic, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Partitions are the same; neither id nor permissions are known."""
    new = describe(topic, topic.name)[topic.name]

    async def know_nothing(_: object) -> object:
        raise IncompatibleBrokerVersion

    intercept(monkeypatch, Metadata, know_nothing)
    old = describe(topic, topic.name)[topic.name]
    assert old == Described(0, new.leaders, new.replicas)
    assert lacking(old.operations, {3: "Read"}) is None
