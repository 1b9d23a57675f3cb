"""
The AsyncAPI 3 document: the topics that the bridge writes, with keys, and the schemas.

`TOPICS` holds what the schemas don't: keys, order, compaction, examples. The page for
people is made from it too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

import msgspec

from bridge import __version__
from bridge.events import header_names as names
from bridge.events.record import Origin
from bridge.kafka.topics import creation, topic_needs
from bridge.schemas.json_schema import SCHEMAS, Schema
from bridge.settings import Settings


__all__ = ["INTRODUCTION", "TOPICS", "Topic", "build_document"]

INTRODUCTION: Final = f"""\
The topics that the bridge writes with `--topic jobs`. The other topics are named after
it, and each name can be set.

Every record is a CloudEvent in binary mode: attributes are headers with the prefix
`ce_`, and the value is the event's data. The headers `bridge_...` are the bridge's own.
Headers are UTF-8 strings, and numbers are decimal. Ignore unknown members and headers:
more may be added.

Producers are idempotent. After a failure a topic can have a record twice, with the same
`{names.CE_ID}`. With `delivery = "transactional"`, readers with
`isolation.level=read_committed` don't see the second one.

With a Schema Registry (`schema_registry.url`) the JSON values on `jobs` and `jobs.gaps`
are in Confluent's wire format. A zero byte and the schema's id (four bytes) precede the
JSON.
"""

# 3.1 adds nothing that Kafka's topics need, and fewer tools support it.
_VERSION: Final = "3.0.0"

# https://github.com/asyncapi/bindings/tree/master/kafka, and of a topic's
# configuration what it has a place for.
_BINDING: Final = {"bindingVersion": "0.5.0"}
_CONFIGS: Final[dict[str, Callable[[str], object]]] = {
    "cleanup.policy": lambda text: text.split(","),
    "retention.ms": int,
    "max.message.bytes": int,
}

_SETTINGS: Final = Settings(topic="jobs", previews="topic")
_REQUEST_ID: Final[Schema] = {
    "type": "string",
    "minLength": 1,
    "maxLength": 256,
    "description": "The job's `request_id` as UTF-8.",
}


class Topic(msgspec.Struct, frozen=True):
    """
    A topic and its kind of record.

    Attributes:
        channel: Its name in the document, in camel case.
        name: The topic.
        title: A name of its records for people.
        summary: A record in one sentence.
        description: What a reader has to know, in Markdown.
        key: JSON Schema of the key, a text in UTF-8.
        headers: The name of the headers' schema.
        value: The name of the value's schema, or a description of its bytes.
        examples: By names in camel case: a summary and a value for each.
    """

    channel: str
    name: str
    title: str
    summary: str
    description: str
    key: Schema
    headers: str
    value: str
    examples: dict[str, tuple[str, Any]]

    def records(self) -> Iterator[tuple[str, str, dict[str, str], Any]]:
        """Give name, summary, headers and value of each example."""
        for number, (name, (summary, value)) in enumerate(self.examples.items(), 17):
            headers = SCHEMAS[self.headers]["examples"][0] | {
                names.CE_ID: f"5f0c1c526a2f4c53-{number}",
                names.BRIDGE_SEQUENCE: str(number),
            }
            yield name, summary, headers, value


_JOBS: Final = SCHEMAS["job-status"]["examples"]
_GAPS: Final = SCHEMAS["gap"]["examples"]

TOPICS: Final = (
    Topic(
        channel="jobs",
        name=_SETTINGS.topic,
        title="Job status",
        summary="One status of one job, as dryAPI reported it.",
        description=(
            "All records of a job are in one partition, in the order in which the"
            " bridge read them. New jobs get the partition of Java's default"
            " partitioner (murmur2 over the key). A running job keeps its partition"
            " when partitions are added. Records with the origin"
            f" `{Origin.REPLAY}` are written when an operator replays dead letters."
            "\n\nA job's terminal record (`done` or `error`) is its last one, unless"
            " the setting `after_terminal` is `publish`. So the latest record of a key"
            " is the job's state, in a compacted topic or a table."
            "\n\nThe value is the event's own bytes if they conform. Otherwise"
            f" `{names.BRIDGE_NORMALIZED}` lists what was changed. Members that the"
            " schema doesn't name pass through."
        ),
        key=_REQUEST_ID,
        headers="job-status-headers",
        value="job-status",
        examples={
            "inProgress": ("A running job.", _JOBS[0]),
            "withPreview": ("A running job, with a preview in the value.", _JOBS[1]),
            "done": ("A job that succeeded.", _JOBS[2]),
            "error": ("A job that failed.", _JOBS[3]),
        },
    ),
    Topic(
        channel="deadLetters",
        name=_SETTINGS.dead_letter_topic,
        title="Dead letter",
        summary="What can't be published on its own topic, and why.",
        description=(
            "An event that doesn't conform, or that came after its job's last record."
            " Also a preview that isn't an image, and a record that the broker"
            " refused. The key is the `request_id` if one was found, or the client id"
            " of a refused gap. Otherwise there is no key."
        ),
        key={
            "type": ["string", "null"],
            "minLength": 1,
            "description": "The record's own key; null where none is known.",
        },
        headers="dead-letter-headers",
        value=(
            "The original bytes; their first part, where"
            f" `{names.BRIDGE_TRUNCATED}` is set. `{names.CONTENT_TYPE}` is their type."
        ),
        examples={
            "notJson": ("An event that isn't JSON.", "no JSON"),
        },
    ),
    Topic(
        channel="gaps",
        name=_SETTINGS.gap_topic,
        title="Gap",
        summary="One interval in which events of one account may have been missed.",
        description=(
            "A gap has a record when it opens, with `until` null, and one with the same"
            " `gap_id` when it closes. A third follows when the gap is resolved: the"
            " end of the jobs in flight is known, or can't be learned. More follow if"
            " something is learned later. The last record of each `gap_id` counts."
        ),
        key={
            "type": "string",
            "minLength": 1,
            "description": "The account's client id as UTF-8.",
        },
        headers="gap-headers",
        value="gap",
        examples={
            "opened": ("A gap that is open.", _GAPS[0]),
            "closed": ("The same gap is over.", _GAPS[1]),
            "resolved": ("How all of its jobs ended is known.", _GAPS[2]),
        },
    ),
    Topic(
        channel="previews",
        name=_SETTINGS.preview_topic,
        title="Preview",
        summary="A preview of a running job: the image itself.",
        description=(
            "Only with the setting `previews` at `topic`. The job's record on `jobs`"
            " has `preview` null and the image's digest in"
            f" `{names.BRIDGE_PREVIEW_SHA256}`: key and digest are the reference. A"
            " compacted topic keeps only the latest preview of a job. The digests in"
            " older records then have no image."
        ),
        key=_REQUEST_ID,
        headers="preview-headers",
        value=f"The image's bytes; `{names.CONTENT_TYPE}` is their type.",
        examples={
            "jpeg": ("The first bytes of a JPEG, here as text.", r"\xff\xd8\xff\xe0")
        },
    ),
)


def build_document() -> dict[str, Any]:
    """Make the document; its parts are in the order in which people read it."""
    channels: dict[str, Any] = {}
    operations: dict[str, Any] = {}
    messages: dict[str, Any] = {}
    for topic in TOPICS:
        message = f"{_camel(topic.title)}Record"
        made = creation(topic.name, topic_needs(_SETTINGS), _SETTINGS.kafka)
        channels[topic.channel] = {
            "address": topic.name,
            "summary": topic.summary,
            "description": topic.description,
            "messages": {message: {"$ref": f"#/components/messages/{message}"}},
            "bindings": {
                "kafka": {
                    "topic": topic.name,
                    "partitions": made.partitions,
                    "replicas": made.replication_factor,
                    "topicConfiguration": {
                        name: parse(made.configs[name])
                        for name, parse in _CONFIGS.items()
                        if name in made.configs
                    },
                    **_BINDING,
                }
            },
        }
        channel = f"#/channels/{topic.channel}"
        # An operation is the application's own: the bridge sends.
        operations[f"publish{topic.channel[0].upper()}{topic.channel[1:]}"] = {
            "action": "send",
            "channel": {"$ref": channel},
            "messages": [{"$ref": f"{channel}/messages/{message}"}],
        }
        messages[message] = _message(topic, message)
    return {
        "asyncapi": _VERSION,
        "id": "urn:dryapi-kafka-bridge",
        "info": {
            "title": "dryAPI Kafka bridge",
            "version": __version__,
            "description": INTRODUCTION,
            "license": {"name": "MIT"},
            "tags": [{"name": "kafka"}, {"name": "cloudevents"}],
        },
        "defaultContentType": names.JSON_CONTENT,
        "servers": {
            "kafka": {
                "host": _SETTINGS.kafka.bootstrap_servers,
                "protocol": "kafka",
                "description": "Your cluster: the setting `kafka.bootstrap_servers`.",
            }
        },
        "channels": channels,
        "operations": operations,
        "components": {
            "messages": messages,
            # AsyncAPI has a dialect of its own.
            "schemas": {
                _camel(name): {
                    keyword: value
                    for keyword, value in schema.items()
                    if keyword not in {"$schema", "$id"}
                }
                for name, schema in SCHEMAS.items()
            },
        },
    }


def _message(topic: Topic, name: str) -> dict[str, Any]:
    message: dict[str, Any] = {
        "name": name,
        "title": topic.title,
        "summary": topic.summary,
    }
    payload: Schema = {"type": "string", "format": "binary", "description": topic.value}
    if topic.value in SCHEMAS:
        message["contentType"] = names.JSON_CONTENT
        payload = {"$ref": f"#/components/schemas/{_camel(topic.value)}"}
    return message | {
        "headers": {"$ref": f"#/components/schemas/{_camel(topic.headers)}"},
        "payload": payload,
        "bindings": {"kafka": {"key": topic.key, **_BINDING}},
        "examples": [
            {"name": name, "summary": summary, "headers": headers, "payload": value}
            for name, summary, headers, value in topic.records()
        ],
    }


def _camel(words: str) -> str:
    """Write `gap-headers` or `Dead letter` in camel case."""
    return "".join(word.capitalize() for word in words.replace("-", " ").split())
