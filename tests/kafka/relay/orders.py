"""Orders about topics and foreign records, which a test gives while the relay works."""

from __future__ import annotations

from confluent_kafka import OFFSET_END, Producer, TopicPartition

from tests.conftest import Topic
from tests.kafka.relay.relaying import DEADLINE_SECONDS
from tests.kit.broker import admin_of, configure_broker, configure_topic


def alter(topic: Topic, name: str | None = None, **configs: str) -> None:
    """Change a topic's settings; underscores stand for dots."""
    by_name = {key.replace("_", "."): value for key, value in configs.items()}
    configure_topic(topic.bootstrap_servers, name or topic.name, by_name)


def speed_up_cleaner(topic: Topic) -> None:
    """Let the broker compact every half second instead of every 15 s."""
    configure_broker(topic.bootstrap_servers, {"log.cleaner.backoff.ms": "500"})


def delete_until(topic: Topic, partition: int, offset: int = OFFSET_END) -> None:
    """Delete a partition's head up to an offset; all of it where none is named."""
    admin = admin_of(topic.bootstrap_servers)
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
