"""The Schema Registry: which id stands before a topic's values."""

from bridge.registry.framing import SchemaRegistry
from bridge.registry.schema import TopicSchema


__all__ = ["SchemaRegistry", "TopicSchema"]
