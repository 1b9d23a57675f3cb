"""A look changes nothing: no topic, no record, no file."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AclOperation, OffsetSpec, ResourceType

from bridge.check import Outcome
from tests.check.ground import Ground, remarkable
from tests.kit.broker import admin_of
from tests.kit.guarded import GuardedKafka


# The first test waits for brokers to start, on a machine that others use.
pytestmark = pytest.mark.timeout(180)


def ends(guarded: GuardedKafka) -> dict[tuple[str, int], int]:
    """Give the end of each partition that there is, internal topics included."""
    admin = admin_of(guarded.bootstrap_servers)
    asked = {
        TopicPartition(name, number): OffsetSpec.latest()  # type: ignore[no-untyped-call]
        for name, topic in admin.list_topics(timeout=30).topics.items()
        for number in topic.partitions
    }
    found = admin.list_offsets(asked)
    return {
        (place.topic, place.partition): future.result(30).offset
        for place, future in found.items()
    }


def files_of(folder: Path) -> dict[str, bytes]:
    """Give what lies in a directory; a directory would be an error."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}


async def test_no_topic_is_made_and_no_record_written(ground: Ground) -> None:
    """Not even where the bridge would, and may."""
    names = ground.make_topics(ground.guarded, missing=["gaps"])
    gaps = names["BRIDGE_TOPICS_GAPS"]
    ground.guarded.allow(ResourceType.TOPIC, gaps, AclOperation.CREATE)
    ids = (AclOperation.WRITE, AclOperation.DESCRIBE)
    prefix = f"bridge-{uuid.uuid4().hex[:8]}"
    ground.guarded.allow(ResourceType.TRANSACTIONAL_ID, f"{prefix}.", *ids)
    before = ends(ground.guarded)
    report = await ground.check(
        {
            **names,
            "BRIDGE_DELIVERY": "transactional",
            "BRIDGE_KAFKA_CLIENT_ID": prefix,
            "BRIDGE_KAFKA_CREATE_TOPICS": "true",
            "BRIDGE_KAFKA_REPLICATION_FACTOR": "1",
        }
    )
    assert list(remarkable(report)) == []
    told = {(line.step, line.subject): line for line in report.lines}
    assert "the bridge can create it" in told["kafka.topics", gaps].detail
    assert told["kafka.acls", gaps].outcome is Outcome.SKIPPED
    assert told["kafka.transactions", ""].outcome is Outcome.OK
    assert ends(ground.guarded) == before


async def test_a_directory_is_not_made(ground: Ground) -> None:
    """That it could be is enough."""
    report = await ground.check()
    (line,) = (line for line in report.lines if line.step == "outbox.directory")
    assert "the bridge can create it" in line.detail
    assert files_of(ground.folder) == {}
