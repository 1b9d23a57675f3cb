"""A replay's rights: those of the bridge on two of its topics, and no more."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio
from confluent_kafka.admin import AclOperation

from bridge.consumer import replay_outbox
from bridge.settings import KafkaSettings
from tests.consumer.dead_letters.letters import payload, sent
from tests.kafka.security.granting import least
from tests.kafka.security.test_signing_in import topic_of
from tests.kit.guest import Guest
from tests.kit.secure_kafka import SecureKafka
from tests.replay.scene import Scene


@pytest.mark.timeout(90)
@pytest.mark.parametrize("delivery", ["idempotent", "transactional"])
async def test_a_replay_needs_what_the_bridge_needs_of_two_topics(
    secure: SecureKafka,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    delivery: str,
) -> None:
    """Without one of them it ends with the sentence that names what to grant."""
    topic = topic_of(secure)
    secure.create_topic(topic.dead_letter, 1)
    scene = Scene(topic, tmp_path)
    await scene.write(*(sent(payload(f"job-{n}")) for n in range(20)))
    guest = await trio.to_thread.run_sync(Guest, secure)
    rights = [one for one in least(topic.name, delivery) if one.name != topic.gaps]
    (write,) = [
        one
        for one in rights
        if (one.name, one.operation) == (topic.name, AclOperation.WRITE)
    ]
    await trio.to_thread.run_sync(
        guest.allow, *(one for one in rights if one is not write)
    )
    quick = {"resume_quiet_seconds": 0.1}
    kafka = KafkaSettings(**{**guest.settings(), **quick})  # type: ignore[arg-type]
    settings = scene.settings(delivery=delivery, kafka=kafka)
    monkeypatch.setattr(replay_outbox, "STALLED_SECONDS", 1.0)
    done = await scene.replay(settings)
    assert done.waiting == 20
    assert "Grant the user Write on the topic" in str(done.trouble)
    monkeypatch.undo()
    await trio.to_thread.run_sync(guest.allow, write)
    assert await scene.outcomes(settings) == {"already_replayed": 20}
    assert len(await scene.read()) == 20
