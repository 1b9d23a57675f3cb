"""The registry's client in a loop like the one it is used in."""

from __future__ import annotations

import anyio

from bridge.contract import text_of
from bridge.registry import SchemaRegistry, TopicSchema
from bridge.settings import SchemaRegistrySettings


JOB_STATUS = TopicSchema(text_of("job-status"), "job-status.schema.json")


def made(
    url: str | None,
    topic: str = "jobs",
    schema: TopicSchema = JOB_STATUS,
    **changes: object,
) -> SchemaRegistry:
    """Make the client of a registry, for one topic."""
    settings = SchemaRegistrySettings(url=url, **changes)  # type: ignore[arg-type]
    return SchemaRegistry(settings, {topic: schema})


def prefix_of(registry: SchemaRegistry, topic: str = "jobs") -> bytes:
    """Ask in asyncio, as the relay does."""
    return anyio.run(registry.prefix, topic, backend="asyncio")
