"""
Which schema stands for the values of which topic, where a Schema Registry is set.

Owns that choice alone, for whoever runs a relay. How an id is asked for is
`bridge.registry`'s business, what stands before a value Kafka's room's.
"""

from __future__ import annotations

from bridge.contract import text_of
from bridge.registry import SchemaRegistry, TopicSchema
from bridge.settings import Settings


__all__ = ["framing_of"]


def framing_of(settings: Settings) -> SchemaRegistry | None:
    """Give the registry's word for the topics whose values are JSON, if it is set."""
    if settings.schema_registry.url is None:
        return None
    names = {settings.topic: "job-status", settings.gap_topic: "gap"}
    return SchemaRegistry(
        settings.schema_registry,
        {
            topic: TopicSchema(text_of(name), f"{name}.schema.json")
            for topic, name in names.items()
        },
    )
