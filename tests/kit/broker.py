"""A Kafka that runs: its address, and orders about topics."""

from __future__ import annotations

import functools
import logging
import os
import time
from collections.abc import Mapping

from confluent_kafka import KafkaException
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ResourceType,
)
from confluent_kafka.cimpl import NewTopic


EXISTING_VARIABLE = "BRIDGE_TEST_KAFKA"

# A topic takes 0.1 s; a broker that has just come back needs some seconds more.
_ADMIN_DEADLINE_SECONDS = 15.0
_ADMIN_POLL_SECONDS = 0.05

# librdkafka prints to stderr whenever a broker goes away, which tests do on purpose.
SILENT = logging.getLogger("tests.kit.librdkafka")
SILENT.addHandler(logging.NullHandler())
SILENT.propagate = False


class BrokerError(Exception):
    """The broker can't be reached or refused an order about topics."""


class KafkaBroker:
    """A Kafka that runs: its address, and orders about topics."""

    def __init__(
        self,
        bootstrap_servers: str,
        *,
        deadline_seconds: float = _ADMIN_DEADLINE_SECONDS,
    ) -> None:
        self.bootstrap_servers = bootstrap_servers
        self._deadline_seconds = deadline_seconds
        # Where the address came from, for errors.
        self.named_by = ""

    def check(self) -> None:
        """Make sure that the broker answers."""
        try:
            self.admin.list_topics(timeout=self._deadline_seconds)
        except KafkaException as error:
            raise BrokerError(
                f"no Kafka at {self.bootstrap_servers}{self.named_by}"
            ) from error

    def create_topic(
        self,
        name: str,
        partitions: int = 1,
        configs: Mapping[str, str] | None = None,
        *,
        replication_factor: int = -1,
    ) -> None:
        """Create a topic and wait until every partition has a leader."""
        self.create_topics(
            {name: partitions}, configs, replication_factor=replication_factor
        )

    def create_topics(
        self,
        partitions: Mapping[str, int],
        configs: Mapping[str, str] | None = None,
        *,
        replication_factor: int = -1,
    ) -> None:
        """Create topics in one request, and wait until every partition has a leader."""
        admin = self.admin
        topics = [
            NewTopic(
                name,
                num_partitions=count,
                replication_factor=replication_factor,
                config=dict(configs or {}),
            )
            for name, count in partitions.items()
        ]
        futures = admin.create_topics(topics, operation_timeout=self._deadline_seconds)
        deadline = time.monotonic() + self._deadline_seconds
        try:
            for future in futures.values():
                future.result(self._deadline_seconds)
            for name, count in partitions.items():
                while not _has_leaders(admin, name, count):
                    if time.monotonic() > deadline:
                        raise BrokerError(f"topic {name} got no leaders")
                    time.sleep(_ADMIN_POLL_SECONDS)
        except (KafkaException, TimeoutError) as error:
            names = ", ".join(partitions)
            raise BrokerError(f"not created: {names}: {error}") from error

    def delete_topics(self, *names: str) -> None:
        """Delete topics."""
        futures = self.admin.delete_topics(
            list(names), operation_timeout=self._deadline_seconds
        )
        try:
            for future in futures.values():
                future.result(self._deadline_seconds)
        except (KafkaException, TimeoutError) as error:
            raise BrokerError(f"topics were not deleted: {error}") from error

    @property
    def admin(self) -> AdminClient:
        """A client for any other order."""
        return admin_of(self.bootstrap_servers)


@functools.lru_cache(maxsize=4)
def admin_of(bootstrap_servers: str, **settings: str) -> AdminClient:
    """Give an administrator's client, one for each broker."""
    return AdminClient(
        {
            "bootstrap.servers": bootstrap_servers,
            # It outlives outages, after which tests want an answer at once.
            "reconnect.backoff.max.ms": 500,
            **{name.replace("_", "."): value for name, value in settings.items()},
        },
        logger=SILENT,
    )


def _has_leaders(admin: AdminClient, name: str, partitions: int) -> bool:
    topic = admin.list_topics(name, timeout=_ADMIN_DEADLINE_SECONDS).topics[name]
    return (
        topic.error is None
        and len(topic.partitions) == partitions
        and all(partition.leader >= 0 for partition in topic.partitions.values())
    )


def configure_broker(bootstrap_servers: str, configs: Mapping[str, str | None]) -> None:
    """Set settings of a broker, by Kafka's names; None takes one away. It blocks."""
    # The suite's brokers are one node each.
    _configure(bootstrap_servers, ResourceType.BROKER, "1", configs)


def configure_topic(
    bootstrap_servers: str, topic: str, configs: Mapping[str, str | None]
) -> None:
    """Set settings of a topic, by Kafka's names; None takes one away. It blocks."""
    _configure(bootstrap_servers, ResourceType.TOPIC, topic, configs)


def _configure(
    bootstrap_servers: str,
    kind: ResourceType,
    name: str,
    configs: Mapping[str, str | None],
) -> None:
    entries = [
        ConfigEntry(
            key,
            value or "",
            incremental_operation=(
                AlterConfigOpType.DELETE if value is None else AlterConfigOpType.SET
            ),
        )
        for key, value in configs.items()
    ]
    resource = ConfigResource(kind, name, incremental_configs=entries)
    for future in (
        admin_of(bootstrap_servers).incremental_alter_configs([resource]).values()
    ):
        future.result(_ADMIN_DEADLINE_SECONDS)


def existing_kafka() -> KafkaBroker | None:
    """The broker that BRIDGE_TEST_KAFKA names, or None."""
    servers = os.environ.get(EXISTING_VARIABLE)
    if not servers:
        return None
    broker = KafkaBroker(servers)
    broker.named_by = f" ({EXISTING_VARIABLE})"
    return broker
