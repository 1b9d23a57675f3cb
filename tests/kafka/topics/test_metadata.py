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


def test_ids_and_permissions_come_with_a_topics_metadata(topic: Topic) -> None:
    """Each topic has an id of its own; a broker without ACLs lets anybody do all."""
    found = describe(topic, topic.name, topic.gaps, "nobody-s")
    ids = {found[name].topic_id for name in (topic.name, topic.gaps)}
    assert None not in ids
    assert len(ids) == 2
    assert found[topic.name].leaders.keys() == set(range(topic.partitions))
    assert found[topic.name].replicas == 1
    assert lacking(found[topic.name].operations, {3: "Read", 4: "Write"}) == ()
    absent = found["nobody-s"]
    assert (absent.error_code, absent.topic_id) == (_UNKNOWN_TOPIC, None)


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
