"""Settings of a topic or a broker, changed while it runs, as its owner does.

Owns that one order. Which settings a test needs, and what comes of it, is its own.
"""

from __future__ import annotations

from collections.abc import Mapping

from confluent_kafka.admin import (
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ResourceType,
)

from tests.kit.broker import admin_of


__all__ = ["configure_broker", "configure_topic"]

# Takes milliseconds; a broker that has just come back needs some seconds more.
_PATIENCE_SECONDS = 10.0

# The suite's brokers are one node each.
_NODE = "1"


def configure_broker(bootstrap_servers: str, configs: Mapping[str, str | None]) -> None:
    """Set settings of a broker, by Kafka's names; None takes one away. It blocks."""
    _configure(bootstrap_servers, ResourceType.BROKER, _NODE, configs)


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
    admin = admin_of(bootstrap_servers)
    for future in admin.incremental_alter_configs([resource]).values():
        future.result(_PATIENCE_SECONDS)
