"""
The contract as one AsyncAPI 3 document.

Owns the document's layout. What it says of topics stands in `messages`, what it says
of values and headers in their types.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from bridge import __version__
from bridge.contract.json_schema import schema_of
from bridge.contract.messages import CHANNELS, Channel, Example
from bridge.contract.published import PUBLISHED
from bridge.events import header_names as names
from bridge.kafka.topics import creation, topic_needs
from bridge.settings import Settings


__all__ = ["FILE_NAME", "build_document"]

FILE_NAME: Final = "asyncapi.json"

# 3.1 adds nothing that Kafka's topics need, and fewer tools know it.
_VERSION: Final = "3.0.0"

# https://github.com/asyncapi/bindings/tree/master/kafka
_BINDING_VERSION: Final = "0.5.0"

# Of a topic's configuration what the binding has a place for.
_SHOWN_CONFIGS: Final = ("cleanup.policy", "retention.ms", "max.message.bytes")

_DESCRIPTION: Final = f"""\
What stands on the topics that the bridge writes, for `--topic jobs`: with another name
the other topics are called after it, and each name can be set.

Every record is a CloudEvent in binary mode: attributes are headers with the prefix
`ce_`, and the value is the event's data. The headers `bridge_...` are the bridge's own.
Values of headers are texts in UTF-8, numbers decimal. Members and headers beside those
named here may be added: pass over what you don't know.

Producers are idempotent. A record can stand there twice after a failure, with the same
`{names.CE_ID}`; with `delivery = "transactional"`, readers with
`isolation.level=read_committed` don't see that.

With a Schema Registry (`schema_registry.url`) the JSON values on `jobs` and `jobs.gaps`
are in Confluent's wire format: a zero byte and the schema's id (four bytes) stand
before the JSON.
"""


def build_document() -> dict[str, Any]:
    """Make the document; its parts are in the order in which people read it."""
    settings = Settings(topic="jobs", previews="topic")
    return {
        "asyncapi": _VERSION,
        "id": "urn:dryapi-kafka-bridge",
        "info": {
            "title": "dryAPI Kafka bridge",
            "version": __version__,
            "description": _DESCRIPTION,
            "license": {"name": "MIT"},
            "tags": [{"name": "kafka"}, {"name": "cloudevents"}],
        },
        "defaultContentType": names.JSON_CONTENT,
        "servers": {
            "kafka": {
                "host": "{bootstrap}",
                "protocol": "kafka",
                "description": "Your cluster.",
                "variables": {
                    "bootstrap": {
                        "default": settings.kafka.bootstrap_servers,
                        "description": "As the setting `kafka.bootstrap_servers`.",
                    }
                },
            }
        },
        "channels": {item.name: _channel(item, settings) for item in CHANNELS},
        "operations": {
            f"publish{_capital(item.name)}": _operation(item) for item in CHANNELS
        },
        "components": {
            "messages": {_message_name(item): _message(item) for item in CHANNELS},
            "schemas": {
                _schema_name(published.name): _inner(schema_of(published))
                for published in PUBLISHED
            },
        },
    }


def _channel(item: Channel, settings: Settings) -> dict[str, Any]:
    """Say of a topic what it is like where the bridge creates it."""
    made = creation(item.address, topic_needs(settings), settings.kafka)
    configs = {
        name: made.configs[name] for name in _SHOWN_CONFIGS if name in made.configs
    }
    binding = {
        "topic": item.address,
        "partitions": made.partitions,
        "replicas": made.replication_factor,
        "topicConfiguration": {
            name: text.split(",") if name == "cleanup.policy" else int(text)
            for name, text in configs.items()
        },
        "bindingVersion": _BINDING_VERSION,
    }
    return {
        "address": item.address,
        "title": item.title,
        "summary": item.summary,
        "description": item.description,
        "messages": {
            _message_name(item): {
                "$ref": f"#/components/messages/{_message_name(item)}"
            }
        },
        "bindings": {"kafka": binding},
    }


def _operation(item: Channel) -> dict[str, Any]:
    """Say that the bridge writes there: operations are the application's own."""
    channel = f"#/channels/{item.name}"
    return {
        "action": "send",
        "channel": {"$ref": channel},
        "title": f"{item.title}: the bridge writes, you read",
        "summary": item.summary,
        "messages": [{"$ref": f"{channel}/messages/{_message_name(item)}"}],
    }


def _message(item: Channel) -> dict[str, Any]:
    message: dict[str, Any] = {
        "name": _message_name(item),
        "title": item.title,
        "summary": item.summary,
        "description": _files(item),
    }
    if item.content_type is not None:
        message["contentType"] = item.content_type
    return message | {
        "headers": {"$ref": f"#/components/schemas/{_schema_name(item.headers)}"},
        "payload": (
            {"type": "string", "format": "binary", "description": item.bytes_are}
            if item.payload is None
            else {"$ref": f"#/components/schemas/{_schema_name(item.payload)}"}
        ),
        "correlationId": {
            "location": item.correlation,
            "description": item.correlation_says,
        },
        "bindings": {"kafka": {"key": item.key, "bindingVersion": _BINDING_VERSION}},
        "examples": [_example(example) for example in item.examples],
    }


def _files(item: Channel) -> str:
    """Name the files that have the schemas alone, and their numbers."""
    of = {published.name: published for published in PUBLISHED}
    parts = [("Headers", item.headers)]
    if item.payload is not None:
        parts.insert(0, ("Value", item.payload))
    return " ".join(
        f"{what}: `{of[name].file_name}`, `{of[name].urn}`." for what, name in parts
    )


def _example(example: Example) -> dict[str, Any]:
    return {
        "name": example.name,
        "summary": example.summary,
        "headers": msgspec.to_builtins(example.headers),
        "payload": msgspec.to_builtins(example.payload),
    }


def _inner(schema: dict[str, Any]) -> dict[str, Any]:
    """Give a schema as a part of the document, which has a dialect of its own."""
    return {
        name: value for name, value in schema.items() if name not in {"$schema", "$id"}
    }


def _message_name(item: Channel) -> str:
    return "".join(map(_capital, item.title.split())) + "Record"


def _schema_name(name: str) -> str:
    return "".join(map(_capital, name.split("-")))


def _capital(word: str) -> str:
    return word[:1].upper() + word[1:]
