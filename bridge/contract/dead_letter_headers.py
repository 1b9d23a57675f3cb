"""
The headers of a dead letter, as a type.

Owns which headers it carries beside those of every record. `events.dead_letter` writes
them.
"""

from __future__ import annotations

from typing import Annotated, Final

from msgspec import UNSET, UnsetType, field

from bridge.contract.headers import DIGEST, NotedHeaders, Text, always, one_of, said
from bridge.errors import DeadLetterReason
from bridge.events import header_names as names


__all__ = ["DeadLetterHeaders"]

# org.apache.kafka.connect.runtime.errors.Stage, whole: tools that know Connect's dead
# letters know these words. The bridge uses some of them.
_CONNECT_STAGES: Final = (
    "TASK_POLL",
    "TASK_PUT",
    "TRANSFORMATION",
    "KEY_CONVERTER",
    "VALUE_CONVERTER",
    "HEADER_CONVERTER",
    "KAFKA_PRODUCE",
    "KAFKA_CONSUME",
)

_COUNT: Final = {"pattern": "^[0-9]+$"}


class DeadLetterHeaders(NotedHeaders, frozen=True, kw_only=True):
    """
    The headers of a record on `jobs.dlq`, each a text in UTF-8.

    Headers beside these may be added: pass over those that you don't know.
    """

    ce_type: Annotated[str, always("What happened.", names.DEAD_LETTER_TYPE)] = field(
        name=names.CE_TYPE
    )
    ce_subject: Annotated[
        Text | UnsetType,
        said(
            "The job, or the client id of a gap. Also the record's key: both are left"
            " out where none is known.",
            "123e4567-e89b-12d3-a456-426614174000",
        ),
    ] = field(name=names.CE_SUBJECT, default=UNSET)
    content_type: Annotated[
        Text,
        said(
            f"What the value's bytes are; `{names.BYTES_CONTENT}` where that is not"
            " known, or where the value was cut.",
            names.JSON_CONTENT,
        ),
    ] = field(name=names.CONTENT_TYPE)
    bridge_reason: Annotated[
        str,
        one_of(
            "Why it is a dead letter.",
            DeadLetterReason,
            DeadLetterReason.UNKNOWN_STATUS,
        ),
    ] = field(name=names.BRIDGE_REASON)
    error_stage: Annotated[
        str,
        one_of(
            "Where it failed, in Kafka Connect's words.",
            _CONNECT_STAGES,
            names.VALUE_CONVERTER_STAGE,
        ),
    ] = field(name=names.ERROR_STAGE)
    error_class: Annotated[
        Text,
        said("The error's class, with its module.", "bridge.errors.InvalidEventError"),
    ] = field(name=names.ERROR_CLASS)
    error_message: Annotated[
        str,
        said(
            "What is wrong, in a sentence for people: names of members, never what"
            " stands in them.",
            "request_id is empty",
        ),
    ] = field(name=names.ERROR_MESSAGE)
    bridge_truncated: Annotated[
        str | UnsetType,
        always("Only where the value is the first part of what there was.", "true"),
    ] = field(name=names.BRIDGE_TRUNCATED, default=UNSET)
    bridge_original_size: Annotated[
        str | UnsetType,
        said("With `bridge_truncated`: how many bytes there were.", "1048577", _COUNT),
    ] = field(name=names.BRIDGE_ORIGINAL_SIZE, default=UNSET)
    bridge_sha256: Annotated[
        str | UnsetType,
        said(
            "With `bridge_truncated`: SHA-256 of them all, in hexadecimal.",
            "2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae",
            DIGEST,
        ),
    ] = field(name=names.BRIDGE_SHA256, default=UNSET)
    bridge_refused_topic: Annotated[
        Text | UnsetType,
        said(
            f"Only with the reason `{DeadLetterReason.REFUSED_BY_BROKER}`: where the"
            " record should have gone.",
            "jobs",
        ),
    ] = field(name=names.BRIDGE_REFUSED_TOPIC, default=UNSET)
    bridge_refused_partition: Annotated[
        str | UnsetType,
        said("With `bridge_refused_topic`: on which partition.", "3", _COUNT),
    ] = field(name=names.BRIDGE_REFUSED_PARTITION, default=UNSET)
    bridge_refused_sequence: Annotated[
        str | UnsetType,
        said(
            "With `bridge_refused_topic`: the `bridge_sequence` that is missing there.",
            "17",
            _COUNT,
        ),
    ] = field(name=names.BRIDGE_REFUSED_SEQUENCE, default=UNSET)
    bridge_refused_ce_id: Annotated[
        Text | UnsetType,
        said("With `bridge_refused_topic`: the `ce_id` that it had.", "5f0c1c52-16"),
    ] = field(name=names.BRIDGE_REFUSED_CE_ID, default=UNSET)
