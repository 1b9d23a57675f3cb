"""A bridge with a Schema Registry, from soketi to Confluent's own deserializer."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import pytest
from confluent_kafka.schema_registry import SchemaRegistryClient
from confluent_kafka.schema_registry.json_schema import JSONDeserializer
from confluent_kafka.serialization import MessageField, SerializationContext

from tests.e2e.jobs import job
from tests.e2e.scene import Scene
from tests.kit.bridge_process import Answer
from tests.kit.reader import Record
from tests.kit.registry import RegistryServer


def _waits_for_registry(answer: Answer) -> bool:
    subscribed = answer.check("subscribed")["ok"]
    return subscribed and "Schema Registry" in answer.check("kafka-now")["detail"]


def _deserialized(
    registry: RegistryServer, topic: str, records: Sequence[Record]
) -> list[Any]:
    """Read values as a consumer does that has only the registry's URL."""
    context = SerializationContext(topic, MessageField.VALUE)
    with SchemaRegistryClient({"url": registry.url, "timeout": 10}) as client:
        # Without it the client asks for associations of topics and schemas first.
        # Apicurio has none, and on a busy machine some of its answers never came.
        deserialize = JSONDeserializer(
            None,
            schema_registry_client=client,
            conf={"subject.name.strategy.type": "TOPIC"},
        )
        return [deserialize(record.value, context) for record in records]


def _without_prefix(value: bytes) -> bytes:
    """Name an event by its JSON, without the schema's number before it."""
    return value[5:] if value[:1] == b"\0" else value


@pytest.mark.slow
async def test_events_wait_for_the_registry_and_go_out_in_its_format(
    scene: Scene, dryapi: str, registry: RegistryServer
) -> None:
    """Intake goes on and health says why; then all values validate, gaps too."""
    bridge = scene.bridge(
        dryapi,
        schema_registry_url=registry.url,
        schema_registry_register="true",
        schema_registry_username="bridge",
        # One that must turn up nowhere.
        schema_registry_password=scene.more_accounts(1)[0].token,
    )
    # A first start waits for the registry; later ones read at once.
    await bridge.start_and_wait()
    await bridge.wait_metrics(lambda now: now.waiting == 0)
    await scene.stop(bridge)
    registry.pause()
    try:
        bridge.start()
        away = await bridge.wait_answer("/readyz", _waits_for_registry)
        assert away.check("outbox-accepting")["ok"]
        async with scene.load() as load:
            await load.run_together([job(5) for _ in range(4)])
            during = await bridge.wait_metrics(lambda now: now.read == load.count)
            assert during.published == 0
    finally:
        registry.resume()
    await bridge.wait_metrics(lambda now: now.published == load.count)
    # Gaps ask the registry for themselves, and a stop doesn't wait for that.
    await bridge.wait_metrics(lambda now: now.waiting == 0)
    await bridge.wait_ready()
    causes = ("first_start", "stopped")
    ending = await scene.end(gaps=causes, framed=True, label=_without_prefix)
    found: dict[str, list[Any]] = defaultdict(list)
    for value in _deserialized(registry, scene.topic.name, ending.jobs):
        found[value["request_id"]].append(value)
    assert found == {
        key: [json.loads(value) for value in values]
        for key, values in load.accepted.items()
    }
    gaps = _deserialized(registry, scene.topic.gaps, ending.gap_records)
    assert {gap["cause"] for gap in gaps} == set(causes)

    # The bridge's own readers look behind the prefix.
    code, output = await scene.command("verify")
    assert code == 0, output
    assert "Clean: no hole" in output
    count = str(load.count)
    code, lines = await scene.command(
        "tail", "--from-beginning", "--max-messages", count
    )
    assert code == 0, lines
    shown = [json.loads(line)["value"] for line in lines.splitlines()]
    assert sorted(map(str, shown)) == sorted(
        str(value) for values in found.values() for value in values
    )
