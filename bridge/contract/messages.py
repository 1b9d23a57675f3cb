"""
The channels of the contract: which topics there are, and what stands on each.

Owns what is said of a topic and of its records beside their schemas: key, order,
compaction, examples. How that is laid out as a document is `asyncapi`'s.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from bridge.contract import examples
from bridge.events import header_names as names
from bridge.events.record import Origin
from bridge.settings import Settings


__all__ = ["CHANNELS", "Channel", "Example"]

# The names of all topics come from that of the first: `--topic jobs`.
_SETTINGS: Final = Settings(topic="jobs")


class Example(msgspec.Struct, frozen=True):
    """
    One record.

    Attributes:
        name: What it is called in the document, in camel case.
        summary: What it shows.
        headers: Its headers.
        payload: Its value; a text stands for bytes that are no JSON.
    """

    name: str
    summary: str
    headers: msgspec.Struct
    payload: msgspec.Struct | str


class Channel(msgspec.Struct, frozen=True):
    """
    One topic and its kind of record.

    Attributes:
        name: What it is called in the document, in camel case.
        address: The topic's name.
        title: What people call its records.
        summary: What a record is, in one sentence.
        description: What a reader has to know, in Markdown.
        key: What the key is: a JSON Schema, of its text in UTF-8.
        headers: The name of the headers' schema.
        payload: The name of the value's schema; None where the value is bytes.
        bytes_are: What those bytes are.
        content_type: What all values are; None where each record says its own.
        correlation: Where what belongs together says so: a runtime expression.
        correlation_says: What belongs together.
        examples: Records, each valid.
    """

    name: str
    address: str
    title: str
    summary: str
    description: str
    key: dict[str, Any]
    headers: str
    correlation: str
    correlation_says: str
    examples: tuple[Example, ...]
    payload: str | None = None
    bytes_are: str = ""
    content_type: str | None = None


_OF_SUBJECT: Final = f"$message.header#/{names.CE_SUBJECT}"

_REQUEST_ID_KEY: Final = {
    "type": "string",
    "minLength": 1,
    "maxLength": 256,
    "description": "The job's `request_id` as UTF-8.",
}


def _of_job(place: int, headers: int = 0) -> dict[str, Any]:
    """Give the value and the fitting headers of an example of a job status."""
    value = examples.JOB_STATUSES[place]
    return {
        "payload": value,
        "headers": msgspec.structs.replace(
            examples.JOB_STATUS_HEADERS[headers], ce_subject=value.request_id
        ),
    }


CHANNELS: Final = (
    Channel(
        name="jobs",
        address=_SETTINGS.topic,
        title="Job status",
        summary="One status of one job, as dryAPI told it.",
        description=(
            "All records of a job stand on one partition, in the order in which the"
            " bridge read them, as long as the topic's partition count stays: the"
            " partition is that of Java's default partitioner (murmur2 over the key)."
            f" Records with the origin `{Origin.REPLAY}` come when they are replayed."
            "\n\nThe record with `done` or `error` is the job's last one, unless the"
            " setting `after_terminal` is `publish`: so the latest record of each key,"
            " in a compacted topic or a table, is how the job stands."
            "\n\nThe value is the event's own bytes wherever they conform; otherwise"
            f" `{names.BRIDGE_NORMALIZED}` says what"
            " was changed. Members that the schema doesn't name pass through."
        ),
        key=_REQUEST_ID_KEY,
        headers="job-status-headers",
        payload="job-status",
        content_type=names.JSON_CONTENT,
        correlation=_OF_SUBJECT,
        correlation_says="All records of a job have its `request_id` here and as key.",
        examples=(
            Example(
                name="inProgress",
                summary="A running job, with its preview in the value.",
                **_of_job(0),
            ),
            Example(
                name="previewMoved",
                summary="A running job whose preview is a record on its own topic.",
                **_of_job(1, headers=1),
            ),
            Example(name="done", summary="A job that has ended well.", **_of_job(2)),
            Example(name="error", summary="A job that has failed.", **_of_job(3)),
        ),
    ),
    Channel(
        name="deadLetters",
        address=_SETTINGS.dead_letter_topic,
        title="Dead letter",
        summary="What can't stand on its own topic, and why.",
        description=(
            "An event that doesn't conform, one that came after its job's last record,"
            " a preview that is no image, or a record that the broker refused. The key"
            " is the `request_id` where one was found (a gap's client id where the"
            " broker refused a gap), and there is none otherwise."
        ),
        key={
            "type": ["string", "null"],
            "minLength": 1,
            "description": "The record's own key; null where none is known.",
        },
        headers="dead-letter-headers",
        bytes_are=(
            "The original bytes as they came; their first part, where"
            f" `{names.BRIDGE_TRUNCATED}` says so. What they are is in"
            f" `{names.CONTENT_TYPE}`."
        ),
        correlation=_OF_SUBJECT,
        correlation_says="The job, where it is known.",
        examples=(
            Example(
                name="unknownStatus",
                summary="An event with a status that the bridge doesn't know.",
                headers=examples.DEAD_LETTER_HEADERS[0],
                payload='{"request_id":"123e4567-e89b-12d3-a456-426614174000",'
                '"status":"paused"}',
            ),
            Example(
                name="refusedByBroker",
                summary="The first part of a record that was too large for its topic.",
                headers=examples.DEAD_LETTER_HEADERS[1],
                payload='{"request_id":"123e4567-e89b-12d3-a456-426614174000","previe',
            ),
        ),
    ),
    Channel(
        name="gaps",
        address=_SETTINGS.gap_topic,
        title="Gap",
        summary="One interval in which events of one account may have been missed.",
        description=(
            "A record when it opens, with `until` null, one with the same `gap_id` when"
            " it closes, and one when it is settled: when it is known what became of"
            " the jobs that were in flight, or that nobody can tell. More follow if"
            " something is learned later. Of each `gap_id` the last record counts."
        ),
        key={
            "type": "string",
            "minLength": 1,
            "description": "The account's client id as UTF-8.",
        },
        headers="gap-headers",
        payload="gap",
        content_type=names.JSON_CONTENT,
        correlation="$message.payload#/gap_id",
        correlation_says="The records of one gap have the same id.",
        examples=(
            Example(
                name="opened",
                summary="A gap has begun.",
                headers=examples.GAP_HEADERS[0],
                payload=examples.GAPS[0],
            ),
            Example(
                name="closed",
                summary="The same gap is over.",
                headers=examples.GAP_HEADERS[1],
                payload=examples.GAPS[1],
            ),
            Example(
                name="settled",
                summary="All of its jobs are known.",
                headers=examples.GAP_HEADERS[2],
                payload=examples.GAPS[2],
            ),
        ),
    ),
    Channel(
        name="previews",
        address=_SETTINGS.preview_topic,
        title="Preview",
        summary="A preview of a running job: the image itself.",
        description=(
            "Only with the setting `previews` at `topic`. The record on `jobs` that it"
            " belongs to has `preview` null and the digest of the image in"
            f" `{names.BRIDGE_PREVIEW_SHA256}`: key and digest together are the"
            " reference. Where the topic is compacted, the latest preview of a job"
            " stays, and with it the digests that older records name lead nowhere."
        ),
        key=_REQUEST_ID_KEY,
        headers="preview-headers",
        bytes_are=(
            f"The image's bytes; `{names.CONTENT_TYPE}` says of which kind it is."
        ),
        correlation=_OF_SUBJECT,
        correlation_says="The job whose preview it is.",
        examples=(
            Example(
                name="jpeg",
                summary="The first bytes of a JPEG; here a text stands for them.",
                headers=examples.PREVIEW_HEADERS[0],
                payload="\\xff\\xd8\\xff\\xe0",
            ),
        ),
    ),
)
