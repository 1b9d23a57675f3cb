"""
The headers of a job's record, a gap's and a preview's, as types.

Owns which headers such a record carries, which of them always, and what may stand in
them. Their names stand in `events.header_names`; who makes a record writes them. Those
of a dead letter are `dead_letter_headers`'.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, Final

import msgspec
from msgspec import UNSET, Meta, UnsetType, field

from bridge.events import header_names as names
from bridge.events.job_status import Change, RequestId
from bridge.events.preview import CONTENT_TYPES
from bridge.events.record import Origin
from bridge.gaps.gap import TIME_SCHEMA


__all__ = [
    "DIGEST",
    "GapHeaders",
    "JobStatusHeaders",
    "NotedHeaders",
    "PreviewHeaders",
    "RecordHeaders",
    "Text",
    "always",
    "one_of",
    "said",
]

DIGEST: Final = {"pattern": "^[0-9a-f]{64}$"}

# Lists of words are open: a reader passes over a word that it doesn't know.
_WORDS: Final = {"pattern": "^[a-z_]+(,[a-z_]+)*$"}

Text = Annotated[str, Meta(min_length=1)]


def said(description: str, example: str, schema: dict[str, Any] | None = None) -> Meta:
    """
    Describe a header.

    Args:
        description: What it says, in sentences.
        example: One of its values.
        schema: Keywords of JSON Schema that the type alone doesn't say.
    """
    return Meta(
        description=description, examples=[example], extra_json_schema=schema or {}
    )


def always(description: str, value: str) -> Meta:
    """Describe a header that says the same in every record of its kind."""
    return said(description, value, {"const": value})


def one_of(description: str, words: Iterable[str], example: str) -> Meta:
    """Describe a header with a closed vocabulary: a new word makes a new number."""
    return said(description, example, {"enum": list(words)})


_ANOMALY_SAYS: Final = (
    "Only where something is out of the ordinary: words with commas between, of"
    " `duplicate` (the job's last event once more), `regression` (less far than the job"
    " was already, or after its end), `resent` (sent again, because Kafka had lost it)"
    " and `replayed` (was a dead letter). Pass over words that you don't know."
)
_NORMALIZED_SAYS: Final = (
    "Only where the event's bytes were changed: words with commas between, of "
    f"{', '.join(f'`{change}`' for change in Change)}. Pass over words that you don't"
    " know."
)
_CONTENTS: Final = (names.JSON_CONTENT, names.BYTES_CONTENT)
_CONTENT_SAYS: Final = (
    f"What the value's bytes are: `{names.BYTES_CONTENT}` where a Schema Registry's"
    " prefix stands before the JSON."
)
_TIME_SAYS: Final = (
    "When the bridge read the event, or made the record of a gap: RFC 3339, UTC,"
    " microseconds. The record's timestamp is the same, in milliseconds."
)
_ID_SAYS: Final = (
    "Identity of what the bridge read, never used twice. Two records with the same one"
    " are the same: pass over the second."
)
_SEQUENCE_SAYS: Final = (
    "The record's number among those of its outbox on its topic and partition, decimal,"
    " without holes: a hole shows a loss."
)


class RecordHeaders(msgspec.Struct, frozen=True, kw_only=True):
    """What every record carries: CloudEvents 1.0 in binary mode, and its place."""

    ce_specversion: Annotated[str, always("The version of CloudEvents.", "1.0")] = (
        field(name=names.CE_SPECVERSION)
    )
    ce_id: Annotated[Text, said(_ID_SAYS, "5f0c1c526a2f4c53-17")] = field(
        name=names.CE_ID
    )
    ce_source: Annotated[
        Text,
        said(
            "Whose it is: `{api_url}/clients/{client_id}`.",
            "https://api.dryapi.dev/clients/client-42",
            {"format": "uri-reference"},
        ),
    ] = field(name=names.CE_SOURCE)
    # What happened: each kind of record has a word of its own.
    ce_type: str = field(name=names.CE_TYPE)
    ce_subject: str | UnsetType = field(name=names.CE_SUBJECT, default=UNSET)
    ce_time: Annotated[
        str, said(_TIME_SAYS, "2026-01-31T12:00:00.000000Z", TIME_SCHEMA)
    ] = field(name=names.CE_TIME)
    content_type: str = field(name=names.CONTENT_TYPE)
    bridge_outbox: Annotated[
        str,
        said(
            "UUID of the outbox that the record went through.",
            "0d6a2d3e-8d0c-4b5e-9c56-0a7d9f0f8f3b",
            {"format": "uuid"},
        ),
    ] = field(name=names.BRIDGE_OUTBOX)
    bridge_sequence: Annotated[
        str, said(_SEQUENCE_SAYS, "42", {"pattern": "^[1-9][0-9]*$"})
    ] = field(name=names.BRIDGE_SEQUENCE)
    bridge_origin: Annotated[
        str, one_of("How the bridge learned of it.", Origin, Origin.SOCKET)
    ] = field(name=names.BRIDGE_ORIGIN)
    bridge_anomaly: Annotated[
        str | UnsetType, said(_ANOMALY_SAYS, names.RESENT.decode(), _WORDS)
    ] = field(name=names.BRIDGE_ANOMALY, default=UNSET)


class NotedHeaders(RecordHeaders, frozen=True, kw_only=True):
    """What is noted of what came from dryAPI, on whichever topic it stands."""

    bridge_normalized: Annotated[
        str | UnsetType,
        said(
            _NORMALIZED_SAYS, f"{Change.MISSING_FIELD},{Change.PROGRESS_NUMBER}", _WORDS
        ),
    ] = field(name=names.BRIDGE_NORMALIZED, default=UNSET)
    bridge_replayed_from: Annotated[
        str | UnsetType,
        said(
            f"Only with the origin `{Origin.REPLAY}`: where the dead letter stands that"
            " this was, as topic, `-`, partition, `@`, offset.",
            "jobs.dlq-0@17",
            {"pattern": "^[a-zA-Z0-9._-]+-[0-9]+@[0-9]+$"},
        ),
    ] = field(name=names.BRIDGE_REPLAYED_FROM, default=UNSET)
    bridge_replayed_ce_id: Annotated[
        str | UnsetType,
        said(
            f"Only with the origin `{Origin.REPLAY}`: the `ce_id` of that dead letter;"
            " empty where it had none.",
            "5f0c1c526a2f4c53-16",
        ),
    ] = field(name=names.BRIDGE_REPLAYED_CE_ID, default=UNSET)
    traceparent: Annotated[
        str | UnsetType,
        said(
            "Only with tracing: W3C's Trace Context, of the span in which the bridge"
            " made the record. Where it is not sampled the lowest bit of the last two"
            " digits is 0, and no span of it is kept.",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            {"pattern": "^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$"},
        ),
    ] = field(name=names.TRACEPARENT, default=UNSET)
    bridge_preview_sha256: Annotated[
        str | UnsetType,
        said(
            "Only where the event's preview is a record of its own, with the same key,"
            " on the topic of previews: SHA-256 of the image, in hexadecimal.",
            "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
            DIGEST,
        ),
    ] = field(name=names.BRIDGE_PREVIEW_SHA256, default=UNSET)


class JobStatusHeaders(NotedHeaders, frozen=True, kw_only=True):
    """
    The headers of a record on `jobs`, each a text in UTF-8.

    Headers beside these may be added: pass over those that you don't know.
    """

    ce_type: Annotated[str, always("What happened.", names.JOB_STATUS_TYPE)] = field(
        name=names.CE_TYPE
    )
    ce_subject: RequestId = field(name=names.CE_SUBJECT)
    content_type: Annotated[
        str, one_of(_CONTENT_SAYS, _CONTENTS, names.JSON_CONTENT)
    ] = field(name=names.CONTENT_TYPE)


class GapHeaders(RecordHeaders, frozen=True, kw_only=True):
    """
    The headers of a record on `jobs.gaps`, each a text in UTF-8.

    Headers beside these may be added: pass over those that you don't know.
    """

    ce_type: Annotated[str, always("What happened.", names.GAP_TYPE)] = field(
        name=names.CE_TYPE
    )
    ce_subject: Annotated[
        Text, said("The client id. Also the record's key.", "client-42")
    ] = field(name=names.CE_SUBJECT)
    content_type: Annotated[
        str, one_of(_CONTENT_SAYS, _CONTENTS, names.JSON_CONTENT)
    ] = field(name=names.CONTENT_TYPE)


class PreviewHeaders(NotedHeaders, frozen=True, kw_only=True):
    """
    The headers of a record on `jobs.previews`, each a text in UTF-8.

    Headers beside these may be added: pass over those that you don't know.
    """

    ce_type: Annotated[str, always("What happened.", names.PREVIEW_TYPE)] = field(
        name=names.CE_TYPE
    )
    ce_subject: RequestId = field(name=names.CE_SUBJECT)
    content_type: Annotated[
        str,
        one_of(
            "What the image is, found by its bytes.", CONTENT_TYPES, CONTENT_TYPES[0]
        ),
    ] = field(name=names.CONTENT_TYPE)
    bridge_preview_sha256: Annotated[
        str,
        said(
            "SHA-256 of the value, in hexadecimal: the record on `jobs` names it.",
            "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
            DIGEST,
        ),
    ] = field(name=names.BRIDGE_PREVIEW_SHA256)
