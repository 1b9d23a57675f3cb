"""
How the bridge creates a topic, and the command with which a person does the same.

What it says of a topic here is what `report` finds fine.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping

import msgspec

from bridge.kafka.topics.needs import TopicNeeds, TopicRole
from bridge.settings import KafkaSettings


__all__ = ["Creation", "creation", "creation_command"]

# Kafka's default of max.message.bytes. It is set in any case: brokers may have another.
_DEFAULT_MAX_MESSAGE_BYTES = 1_048_588

# A dead letter is worth something until somebody has put right what made it one, which
# takes an upgrade: longer than the week that brokers usually keep records.
_DEAD_LETTERS_RETENTION_MS = 30 * 86_400_000

_CLEANUP = {
    TopicRole.EVENTS: "delete",
    TopicRole.DEAD_LETTERS: "delete",
    TopicRole.GAPS: "delete",
    # The latest of each job; compaction alone would keep that for ever, and each job
    # has a key of its own. They go with the events that refer to them: after the
    # brokers' usual retention.
    TopicRole.PREVIEWS: "compact,delete",
}

_RETENTION_MS = {
    TopicRole.DEAD_LETTERS: _DEAD_LETTERS_RETENTION_MS,
    # The ledger: two records of half a kilobyte a gap, and asked for years later.
    TopicRole.GAPS: -1,
}


class Creation(msgspec.Struct, frozen=True):
    """
    A topic to be created.

    Attributes:
        topic: Its name.
        partitions: How many it gets.
        replication_factor: How many replicas each of them gets.
        configs: Its configuration, by name.
    """

    topic: str
    partitions: int
    replication_factor: int
    configs: Mapping[str, str]


def creation(
    topic: str, all_needs: Mapping[str, TopicNeeds], settings: KafkaSettings
) -> Creation:
    """
    Say how a topic is created.

    Args:
        topic: The topic.
        all_needs: What the bridge wants of its topics; one that isn't among them gets
            nothing but what holds for all.
        settings: Partitions and replicas.
    """
    replicas = settings.replication_factor
    configs = {
        # With two, what was acknowledged outlives any one broker. Where there are no
        # more than two replicas the bridge waits while one is away: better than less.
        "min.insync.replicas": str(min(2, replicas)),
        # A record's time is when the bridge read it.
        "message.timestamp.type": "CreateTime",
    }
    needs = all_needs.get(topic)
    if needs is None:
        return Creation(topic, settings.partitions, replicas, configs)
    most = needs.batch_bytes
    if needs.role is TopicRole.DEAD_LETTERS:
        # What another topic refuses has to find room here.
        most = max(one.batch_bytes for one in all_needs.values())
    configs["max.message.bytes"] = str(max(_DEFAULT_MAX_MESSAGE_BYTES, most))
    configs["cleanup.policy"] = _CLEANUP[needs.role]
    if needs.role in _RETENTION_MS:
        configs["retention.ms"] = str(_RETENTION_MS[needs.role])
    # Gaps are few, and one partition has them in one order. Dead letters get as many as
    # events: a change of dryAPI's can make dead letters of all of them.
    partitions = 1 if needs.role is TopicRole.GAPS else settings.partitions
    return Creation(topic, partitions, replicas, configs)


def creation_command(creation: Creation, settings: KafkaSettings) -> str:
    """Give the command of Kafka's own tools that creates the same topic."""
    words = [
        "kafka-topics.sh",
        *("--bootstrap-server", settings.bootstrap_servers),
        *("--create", "--topic", creation.topic),
        *("--partitions", str(creation.partitions)),
        *("--replication-factor", str(creation.replication_factor)),
    ]
    for name, value in creation.configs.items():
        words += ("--config", f"{name}={value}")
    return shlex.join(words)
