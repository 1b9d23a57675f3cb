"""A Kafka that can't be used at the start: an end with a sentence, or patience."""

from __future__ import annotations

import pytest
import trio

from tests.e2e.jobs import job
from tests.e2e.scene import Scene
from tests.e2e.topic_records import check_exactly
from tests.kit.kafka import KafkaServer
from tests.kit.process import free_ports


async def test_brokers_that_never_answer_end_a_start_with_an_empty_outbox(
    scene: Scene, dryapi: str
) -> None:
    """Exit code 4 after the start timeout; the sentence says where it looked."""
    (port,) = free_ports(1)
    bridge = scene.bridge(
        dryapi,
        kafka_bootstrap_servers=f"127.0.0.1:{port}",
        kafka_start_timeout_seconds=1,
    )
    bridge.start()
    sentence = await bridge.wait_refusal(4)
    assert f"No Kafka broker answers at 127.0.0.1:{port}" in sentence
    assert "BRIDGE_KAFKA_BOOTSTRAP_SERVERS" in sentence


async def test_brokers_that_never_answered_are_waited_for_with_events_in_the_outbox(
    scene: Scene, dryapi: str, own_kafka: KafkaServer
) -> None:
    """Past every timeout it reads on, and delivers all when Kafka comes at last."""
    own_kafka.stop()
    patient = scene.bridge(dryapi, shutdown_timeout_seconds=0.1)
    patient.start()
    await patient.wait_answer(
        "/readyz", lambda now: bool(now.check("subscribed")["ok"])
    )
    async with scene.load() as load:
        await load.run_together([job(3) for _ in range(20)])
        await patient.wait_metrics(lambda now: now.committed == load.count)
        assert await patient.stop() == 0
        assert len(patient.waiting_rows()) == load.count

        timeout_seconds = 0.5
        bridge = scene.bridge(
            dryapi,
            outbox_dir=patient.outbox,
            kafka_start_timeout_seconds=timeout_seconds,
        )
        bridge.start()
        waits = await bridge.wait_logged("kafka.waits")
        assert scene.topic.bootstrap_servers in waits["error"]
        # What would end it has to pass: the timeout and the pause between two tries.
        await trio.sleep(timeout_seconds + 4)
        await load.run_together([job(3) for _ in range(20)])
        # Each start has a gap, which opened, closed and was settled.
        now = await bridge.wait_metrics(lambda now: now.waiting == load.count + 6)
        assert now.total("bridge_outbox_rows_at_start") == load.count / 2 + 3
        ready = await bridge.ask("/readyz")
        assert ready is not None
        assert ready.status == 503
        assert not ready.check("kafka-reached")["ok"]

        own_kafka.start()
        await bridge.wait_metrics(lambda now: now.waiting == 0)
        await bridge.wait_ready()
        check_exactly(await scene.records(load.count), load.accepted)
    assert await bridge.stop() == 0


async def test_a_missing_topic_ends_the_start(scene: Scene, dryapi: str) -> None:
    """Exit code 4, and the sentence names the topic and how it could be made."""
    bridge = scene.bridge(
        dryapi,
        topic="no-such",
        topics_dead_letters=scene.topic.dead_letter,
        topics_gaps=scene.topic.gaps,
    )
    bridge.start()
    sentence = await bridge.wait_refusal(4)
    assert "Kafka has no topic no-such" in sentence
    assert "BRIDGE_KAFKA_CREATE_TOPICS" in sentence


@pytest.mark.parametrize("setting", ["topics_dead_letters", "topics_gaps"])
async def test_a_missing_topic_beside_it_ends_the_start(
    scene: Scene, dryapi: str, setting: str
) -> None:
    """Exit code 4: the bridge never runs without a place for what can't be a job."""
    bridge = scene.bridge(dryapi, **{setting: "no-such.beside"})
    bridge.start()
    assert "Kafka has no topic no-such.beside" in await bridge.wait_refusal(4)


async def test_missing_topics_are_made_where_that_is_wanted(
    scene: Scene, dryapi: str
) -> None:
    """With `kafka.create_topics` all topics are there before the bridge is ready."""
    name = f"{scene.topic.name}.new"
    bridge = scene.bridge(
        dryapi,
        topic=name,
        kafka_create_topics="true",
        kafka_partitions=2,
        kafka_replication_factor=1,
    )
    try:
        await bridge.start_and_wait()
        made = {each["topic"]: each for each in bridge.logged("topic.created")}
        assert made.keys() == {name, f"{name}.dlq", f"{name}.gaps"}
        assert made[name]["partitions"] == 2
        assert await bridge.stop() == 0
    finally:
        bridge.kill()
        scene.kafka.delete_topics(name, f"{name}.dlq", f"{name}.gaps")
