"""
The bytes before a topic's values: Confluent's wire format for JSON Schema.

Owns the format and what is kept of an answer. How a registry is asked stands in
`client`. The values themselves are never seen here: the relay puts the prefix
before each of them.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Final

import structlog

from bridge.errors import RegistryUnreachableError
from bridge.registry.client import RegistryClient
from bridge.registry.schema import TopicSchema, subject_of
from bridge.settings import SchemaRegistrySettings


__all__ = ["SchemaRegistry"]

_log = structlog.get_logger("bridge.registry")

# Confluent's wire format: one byte 0, and the schema's id as four bytes, the highest
# first. JSON Schema has nothing between that and the document.
_PREFIX: Final = struct.Struct(">BI")
_MAGIC: Final = 0


class SchemaRegistry:
    """
    Knows the schema ids of topics: a `Framing` for the relay.

    It is asked each time that a topic is opened. A registry that is away at a later
    opening stops nothing: an id never comes to mean another schema.

    Args:
        settings: Where the registry is, and how to ask it; without a URL no value
            gets a prefix.
        schemas: By topic, the schema of its values. Those of other topics get no
            prefix.

    Raises:
        ConfigError: A setting that only its use shows to be wrong.
    """

    def __init__(
        self, settings: SchemaRegistrySettings, schemas: Mapping[str, TopicSchema]
    ) -> None:
        self._naming = settings.subject_naming
        self._client = None if settings.url is None else RegistryClient(settings)
        self._schemas = dict(schemas)
        self._ids: dict[str, int] = {}

    async def prefix(self, topic: str) -> bytes:
        """
        Give the bytes before each value of a topic; empty for none.

        Raises:
            RegistryUnreachableError: The id can't be told now.
            RegistryRefusedError: It can't be told until somebody changes something.
            ConfigError: The certificates to trust can't be used.
        """
        schema = self._schemas.get(topic)
        if schema is None or self._client is None:
            return b""
        subject = subject_of(self._naming, topic, schema)
        known = self._ids.get(topic)
        try:
            schema_id = await self._client.schema_id(subject, schema)
        except RegistryUnreachableError as error:
            if known is None:
                raise
            _log.warning(
                "registry.id_kept",
                topic=topic,
                subject=subject,
                schema_id=known,
                error=str(error),
            )
            return _PREFIX.pack(_MAGIC, known)
        if schema_id != known:
            self._ids[topic] = schema_id
            _log.info(
                "registry.schema", topic=topic, subject=subject, schema_id=schema_id
            )
        return _PREFIX.pack(_MAGIC, schema_id)
