"""Orders about topics and foreign records, which a test gives while the relay works.

Owns what is asked of a broker beside what `tests.servers.broker` does for every
test: settings changed, a log's head deleted, somebody else's records written.
"""

from __future__ import annotations

from collections.abc import Mapping

from confluent_kafka import OFFSET_END, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._config import AlterConfigOpType, ConfigEntry, ConfigResource
from confluent_kafka.admin._resource import ResourceType

from tests.conftest import Topic
from tests.kafka.relay.relaying import DEADLINE_SECONDS


__all__ = ["alter", "delete_until", "speed_up_cleaner", "write_foreign"]


def alter(topic: Topic, name: str | None = None, **configs: str) -> None:
    """Change a topic's settings; underscores stand for dots."""
    _alter(topic, ResourceType.TOPIC, name or topic.name, configs)


def speed_up_cleaner(topic: Topic) -> None:
    """Let the broker compact every half second instead of every 15 s."""
    _alter(topic, ResourceType.BROKER, "1", {"log_cleaner_backoff_ms": "500"})


def _alter(
    topic: Topic, kind: ResourceType, name: str, configs: Mapping[str, str]
) -> None:
    entries = [
        ConfigEntry(
            key.replace("_", "."),
            value,
            incremental_operation=AlterConfigOpType.SET,
        )
        for key, value in configs.items()
    ]
    resource = ConfigResource(kind, name, incremental_configs=entries)
    admin = AdminClient({"bootstrap.servers": topic.bootstrap_servers})
    for future in admin.incremental_alter_configs([resource]).values():
        future.result(DEADLINE_SECONDS)


def delete_until(topic: Topic, partition: int, offset: int = OFFSET_END) -> None:
    """Delete a partition's head up to an offset; all of it where none is named."""
    admin = AdminClient({"bootstrap.servers": topic.bootstrap_servers})
    places = [TopicPartition(topic.name, partition, offset)]
    for future in admin.delete_records(places).values():
        future.result(DEADLINE_SECONDS)


def write_foreign(
    topic: Topic,
    partition: int,
    count: int,
    *,
    key: bytes | None = None,
    commits: bool | None = None,
) -> None:
    """Write somebody else's records; in a transaction if its end is named."""
    options = {"bootstrap.servers": topic.bootstrap_servers}
    if commits is not None:
        options["transactional.id"] = f"foreign-{topic.name}"
    producer = Producer(options)
    if commits is not None:
        producer.init_transactions(DEADLINE_SECONDS)
        producer.begin_transaction()
    for number in range(count):
        producer.produce(
            topic.name, key=key, value=b"foreign %d" % number, partition=partition
        )
    assert producer.flush(DEADLINE_SECONDS) == 0
    if commits is True:
        producer.commit_transaction(DEADLINE_SECONDS)
    elif commits is False:
        producer.abort_transaction(DEADLINE_SECONDS)
