"""
The six JSON Schemas (draft 2020-12) of what the bridge writes to Kafka.

The schemas of values are generated from the types that the bridge encodes. Headers have
no type: they are listed here. Tests validate records that the bridge's code makes
against all six, and compare the headers that exist with those listed.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, Final, TypeAlias

import msgspec

from bridge.errors import DeadLetterReason
from bridge.events import header_names as names
from bridge.events.job_status import Change, JobStatusRecord, RequestId
from bridge.events.preview import CONTENT_TYPES
from bridge.events.record import Origin
from bridge.gaps.gap import TIME_SCHEMA, GapRecord


__all__ = ["SCHEMAS", "Schema", "as_text", "text_of"]

Schema: TypeAlias = dict[str, Any]


def _text(description: str, *examples: str, **keywords: object) -> Schema:
    """Describe a header: its value is a text."""
    return {
        "description": description,
        "type": "string",
        **keywords,
        "examples": list(examples),
    }


def _const(description: str, value: str) -> Schema:
    return _text(description, value, const=value)


def _one_of(description: str, words: Iterable[str]) -> Schema:
    """Describe a header with a closed vocabulary: a new word makes a new number."""
    enum = list(words)
    return _text(description, enum[0], enum=enum)


# -- Headers ---------------------------------------------------------------------------

_DIGEST: Final = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"

# Lists of words are open: a reader ignores a word that it doesn't know.
_WORDS: Final = r"^[a-z_]+(,[a-z_]+)*$"
_HEXADECIMAL: Final = "^[0-9a-f]{64}$"
_COUNT: Final = "^[0-9]+$"

# org.apache.kafka.connect.runtime.errors.Stage: tools for Connect's dead letters know
# these words. The bridge uses some of them.
_CONNECT_STAGES: Final = (
    names.VALUE_CONVERTER_STAGE,
    *("TASK_POLL", "TASK_PUT", "TRANSFORMATION", "KEY_CONVERTER"),
    *("HEADER_CONVERTER", names.KAFKA_PRODUCE_STAGE, "KAFKA_CONSUME"),
)

_REQUEST_ID: Final = msgspec.json.schema(RequestId)
_JSON: Final = _one_of(
    f"The type of the value's bytes: `{names.BYTES_CONTENT}` if a Schema Registry's"
    " prefix precedes the JSON.",
    (names.JSON_CONTENT, names.BYTES_CONTENT),
)

# Of every record: always, and where it applies.
_COMMON: Final = {
    names.CE_SPECVERSION: _const("The version of CloudEvents.", "1.0"),
    names.CE_ID: _text(
        "The identity of what the bridge read. Two records with the same one are the"
        " same: ignore the second.",
        "5f0c1c526a2f4c53-17",
        minLength=1,
    ),
    names.CE_SOURCE: _text(
        "The account: `{api_url}/clients/{client_id}`.",
        "https://api.dryapi.dev/clients/client-42",
        format="uri-reference",
        minLength=1,
    ),
    names.CE_TIME: _text(
        "When the bridge read the event, or wrote the gap: UTC, microseconds. The"
        " record's timestamp is the same, in milliseconds.",
        "2026-01-31T12:00:00.000000Z",
        **TIME_SCHEMA,
    ),
    names.BRIDGE_OUTBOX: _text(
        "UUID of the outbox that the record was sent from.",
        "0d6a2d3e-8d0c-4b5e-9c56-0a7d9f0f8f3b",
        format="uuid",
    ),
    names.BRIDGE_SEQUENCE: _text(
        "The record's number within its outbox, topic and partition. It has no holes:"
        " a hole shows a loss.",
        "17",
        pattern="^[1-9][0-9]*$",
    ),
    names.BRIDGE_ORIGIN: _one_of("How the bridge learned of it.", Origin),
}
_ANOMALY: Final = {
    names.BRIDGE_ANOMALY: _text(
        "What is unusual, comma-separated: `duplicate`, `regression`, `resent` or"
        " `replayed`. Ignore unknown values.",
        *("duplicate", "regression", "resent", "replayed"),
        pattern=_WORDS,
    )
}
_PREVIEW: Final = {
    names.BRIDGE_PREVIEW_SHA256: _text(
        "SHA-256 of the preview's image, if it is a record of its own on"
        " `jobs.previews`. Both records have the same key and digest.",
        _DIGEST,
        pattern=_HEXADECIMAL,
    )
}
# Of what came from dryAPI, on each topic.
_NOTES: Final = {
    **_ANOMALY,
    names.BRIDGE_NORMALIZED: _text(
        "What the bridge changed in the event, comma-separated. Ignore unknown values.",
        *Change,
        pattern=_WORDS,
    ),
    names.BRIDGE_REPLAYED_FROM: _text(
        f"With the origin `{Origin.REPLAY}`: where the dead letter is, as"
        " `topic-partition@offset`.",
        "jobs.dlq-0@17",
        pattern="^[a-zA-Z0-9._-]+-[0-9]+@[0-9]+$",
    ),
    names.BRIDGE_REPLAYED_CE_ID: _text(
        f"With the origin `{Origin.REPLAY}`: the `ce_id` of that dead letter; empty if"
        " it had none.",
        "5f0c1c526a2f4c53-16",
    ),
    names.TRACEPARENT: _text(
        "With tracing: W3C Trace Context of the span in which the bridge made the"
        " record.",
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        pattern="^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$",
    ),
}

_DEAD_LETTER: Final = {
    names.CE_TYPE: _const("What happened.", names.DEAD_LETTER_TYPE),
    names.CONTENT_TYPE: _text(
        f"The type of the value's bytes; `{names.BYTES_CONTENT}` if it is unknown or"
        " the value was truncated.",
        names.JSON_CONTENT,
        minLength=1,
    ),
    names.BRIDGE_REASON: _one_of("Why it is a dead letter.", DeadLetterReason),
    names.ERROR_STAGE: _one_of(
        "Where it failed, as Kafka Connect names the stages.", _CONNECT_STAGES
    ),
    names.ERROR_CLASS: _text(
        "The error's class, with its module.",
        "bridge.errors.InvalidEventError",
        minLength=1,
    ),
    names.ERROR_MESSAGE: _text(
        "What is wrong, for people. It names members, never their content.",
        "the event is not UTF-8",
    ),
}
_OF_DEAD_LETTER: Final = {
    names.CE_SUBJECT: _text(
        "The job, or the client id of a gap. Also the record's key. Both are absent if"
        " it is unknown.",
        "123e4567-e89b-12d3-a456-426614174000",
        minLength=1,
    ),
    names.BRIDGE_TRUNCATED: _const(
        "The value is only the first part of the original bytes.", "true"
    ),
    names.BRIDGE_ORIGINAL_SIZE: _text(
        "With `bridge_truncated`: the number of original bytes.",
        "1048577",
        pattern=_COUNT,
    ),
    names.BRIDGE_SHA256: _text(
        "With `bridge_truncated`: SHA-256 of all of them, in hexadecimal.",
        _DIGEST,
        pattern=_HEXADECIMAL,
    ),
    names.BRIDGE_REFUSED_TOPIC: _text(
        f"With the reason `{DeadLetterReason.REFUSED_BY_BROKER}`: the topic that the"
        " broker refused the record for.",
        "jobs",
        minLength=1,
    ),
    names.BRIDGE_REFUSED_PARTITION: _text(
        "With `bridge_refused_topic`: the partition.", "3", pattern=_COUNT
    ),
    names.BRIDGE_REFUSED_SEQUENCE: _text(
        "With `bridge_refused_topic`: the `bridge_sequence` that is missing there.",
        "17",
        pattern=_COUNT,
    ),
    names.BRIDGE_REFUSED_CE_ID: _text(
        "With `bridge_refused_topic`: the `ce_id` that it had.",
        "5f0c1c526a2f4c53-17",
        minLength=1,
    ),
}


# -- Schemas ---------------------------------------------------------------------------


def _of_headers(topic: str, always: Schema, optional: Schema) -> Schema:
    always = _COMMON | always
    return {
        "description": f"The headers of a record on `{topic}`, each a text in UTF-8."
        " Headers beside these may be added: ignore those that you don't know.",
        "type": "object",
        "properties": always | optional,
        "required": sorted(always),
        "examples": [{name: each["examples"][0] for name, each in always.items()}],
    }


def _of_values(record: type[msgspec.Struct], *examples: Schema) -> Schema:
    """Generate a schema; the first example has what the others leave out."""
    schema: Schema = msgspec.json.schema(record)["$defs"][record.__name__]
    # A docstring's lines are broken for an editor.
    schema["description"] = " ".join(schema["description"].split())
    del schema["title"]
    return schema | {"examples": [examples[0] | each for each in examples]}


_JOB: Final = {
    "request_id": "123e4567-e89b-12d3-a456-426614174000",
    "status": "in_progress",
    "preview": None,
    "result_url": None,
    "progress": "45.50",
}
_GAP: Final = {
    "gap_id": "5f0c1c52-6a2f-4c53-9d35-0d8f2f6f7a11",
    "cause": "outbox_full",
    "client_id": "client-42",
    "since": "2026-01-31T12:00:00.000000Z",
    "until": None,
    "duration_seconds": None,
    "close_code": None,
    "jobs_in_flight": None,
}
_CLOSED: Final = {
    "until": "2026-01-31T12:00:07.250000Z",
    "duration_seconds": 7.25,
    "jobs_in_flight": 3,
}


def _schema(name: str, title: str, schema: Schema) -> Schema:
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        # The number changes when records may no longer be valid under the schema that
        # was released with it.
        "$id": f"urn:dryapi-kafka-bridge:{name}:1",
        "title": title,
        **schema,
        "additionalProperties": True,
    }


def _type(ce_type: str) -> Schema:
    return {names.CE_TYPE: _const("What happened.", ce_type)}


_OF_A_JOB: Final = {names.CE_SUBJECT: _REQUEST_ID}
_CLIENT_ID: Final = _text(
    "The client id. Also the record's key.", "client-42", minLength=1
)
_IMAGE: Final = _one_of("The type of the image, found by its bytes.", CONTENT_TYPES)

_JOB_STATUS_SCHEMA: Final = _of_values(
    JobStatusRecord,
    _JOB,
    {"preview": "data:image/jpeg;base64,/9j/4AAQSkZJRg=="},
    {
        "status": "done",
        "result_url": "https://storage.dryapi.dev/1.png?signature=abc",
        "progress": "100.00",
    },
    {
        "status": "error",
        "progress": None,
        "error_code": "WORKER_TIMEOUT",
        "error_message": "The worker did not answer in time.",
    },
)
_GAP_SCHEMA: Final = _of_values(
    GapRecord,
    _GAP,
    _CLOSED,
    _CLOSED | {"healed_by_status_endpoint": 2, "healed_by_webhook": 1, "unknown": 0},
)
_JOB_STATUS_HEADERS: Final = _of_headers(
    "jobs",
    _type(names.JOB_STATUS_TYPE) | _OF_A_JOB | {names.CONTENT_TYPE: _JSON},
    _NOTES | _PREVIEW,
)
_DEAD_LETTER_HEADERS: Final = _of_headers(
    "jobs.dlq", _DEAD_LETTER, _NOTES | _PREVIEW | _OF_DEAD_LETTER
)
_GAP_HEADERS: Final = _of_headers(
    "jobs.gaps",
    _type(names.GAP_TYPE) | {names.CE_SUBJECT: _CLIENT_ID, names.CONTENT_TYPE: _JSON},
    _ANOMALY,
)
_PREVIEW_HEADERS: Final = _of_headers(
    "jobs.previews",
    _type(names.PREVIEW_TYPE) | _OF_A_JOB | {names.CONTENT_TYPE: _IMAGE} | _PREVIEW,
    _NOTES,
)

SCHEMAS: Final[dict[str, Schema]] = {
    name: _schema(name, title, schema)
    for name, title, schema in (
        ("job-status", "Job status", _JOB_STATUS_SCHEMA),
        ("job-status-headers", "Headers of a job status", _JOB_STATUS_HEADERS),
        ("dead-letter-headers", "Headers of a dead letter", _DEAD_LETTER_HEADERS),
        ("gap", "Gap", _GAP_SCHEMA),
        ("gap-headers", "Headers of a gap", _GAP_HEADERS),
        ("preview-headers", "Headers of a preview", _PREVIEW_HEADERS),
    )
}


def as_text(document: Schema) -> str:
    """Return a document as indented JSON with a newline at its end."""
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def text_of(name: str) -> str:
    """
    Return the text of a schema, as its file in `schemas/` has it.

    Args:
        name: `job-status`, for instance.

    Raises:
        KeyError: No schema has that name.
    """
    return as_text(SCHEMAS[name])
