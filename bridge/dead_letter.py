"""
The records of `jobs.dlq`: what can't go to its own topic, and why.

Owns their headers and how they are cut, for all who make them: the intake, of
events that don't conform, the outbox, of what comes after its job's last record, and
the relay, of records that the broker refuses for good. Who decides that, and who
counts it, is theirs.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache
from typing import Final

from bridge.errors import (
    DeadLetterReason,
    InvalidEventError,
    InvalidPreviewError,
    LateEventError,
)
from bridge.kafka import header_names as names
from bridge.record import Envelope, Kind, Record, StoredRecord


__all__ = ["DEFAULT_MAX_BYTES", "envelope", "invalid", "late", "refused"]

# As `job_status.DEFAULT_MAX_BYTES`: what a topic takes by default, less the room for
# key, headers and framing.
DEFAULT_MAX_BYTES: Final = 1_000_000

# Longer messages are cut: some brokers and tools limit the headers of a record.
_MAX_MESSAGE_CHARACTERS: Final = 300

# Of these the bytes are no JSON, or it isn't known whether they are.
_UNREAD_REASONS: Final = frozenset(
    {
        DeadLetterReason.NOT_JSON,
        DeadLetterReason.TOO_LARGE,
        DeadLetterReason.TOO_DEEP,
        DeadLetterReason.INVALID_PREVIEW,
    }
)

_LATE_CLASS: Final = f"{LateEventError.__module__}.{LateEventError.__qualname__}"

# Two content types by account and origin; whoever keeps envelopes by identity
# (outbox, header writer) must not see a new one with each record.
_ENVELOPES_KNOWN: Final = 1024

_Headers = tuple[tuple[str, bytes], ...]


@lru_cache(maxsize=_ENVELOPES_KNOWN)
def envelope(
    ce_source: str, origin: str, content_type: str, kind: str = Kind.EVENT
) -> Envelope:
    """
    Give the envelope of dead letters, the same object for the same arguments.

    Args:
        ce_source: `{api_url}/clients/{client_id}`.
        origin: How the bridge learned of the event.
        content_type: What the value's bytes are.
        kind: What it stands for.
    """
    return Envelope(
        ce_source=ce_source,
        ce_type=names.DEAD_LETTER_TYPE,
        origin=origin,
        content_type=content_type,
        kind=kind,
    )


def invalid(  # noqa: PLR0913  # facts of their own, most given by name
    error: InvalidEventError,
    original: bytes,
    received_at_us: int,
    *,
    topic: str,
    max_bytes: int,
    ce_source: str,
    origin: str,
) -> Record:
    """
    Make the dead letter of an event that doesn't conform.

    Args:
        error: Why it doesn't.
        original: The event's bytes as they came.
        received_at_us: When the bridge read it.
        topic: Where dead letters go.
        max_bytes: Of a longer original only the first part is kept.
        ce_source: `{api_url}/clients/{client_id}`.
        origin: How the bridge learned of the event.
    """
    is_read = error.reason not in _UNREAD_REASONS
    content_type = names.JSON_CONTENT if is_read else names.BYTES_CONTENT
    value, content_type, cut = _fit(original, content_type, max_bytes)
    error_class = type(error)
    why = _why(
        error.reason,
        names.VALUE_CONVERTER_STAGE,
        f"{error_class.__module__}.{error_class.__qualname__}",
        str(error),
    )
    key = error.request_id
    is_preview = isinstance(error, InvalidPreviewError)
    kind = Kind.PREVIEW if is_preview else Kind.EVENT
    return Record(
        topic,
        key.encode() if key is not None else None,
        value,
        received_at_us,
        envelope(ce_source, origin, content_type, kind),
        why + cut,
    )


def refused(  # noqa: PLR0913  # facts of their own, each given by name
    stored: StoredRecord,
    *,
    topic: str,
    partition: int,
    dead_letter_topic: str,
    max_bytes: int,
    message: str,
    error_class: str,
) -> Record:
    """
    Make the dead letter of a record that the broker refuses for good.

    It has the record's key, value, time and own headers, and the place that the
    record leaves empty in its topic: whoever counts sequences there finds in it
    why one is missing.

    Args:
        stored: The record.
        topic: Where it should have gone.
        partition: On which partition.
        dead_letter_topic: Where dead letters go.
        max_bytes: Of a longer value only the first part is kept.
        message: What the broker said.
        error_class: The class of the broker's error, with its module.
    """
    shared = stored.envelope
    value, content_type, cut = _fit(stored.value, shared.content_type, max_bytes)
    why = _why(
        DeadLetterReason.REFUSED_BY_BROKER,
        names.KAFKA_PRODUCE_STAGE,
        error_class,
        message,
    )
    place = (
        (names.BRIDGE_REFUSED_TOPIC, topic.encode()),
        (names.BRIDGE_REFUSED_PARTITION, b"%d" % partition),
        (names.BRIDGE_REFUSED_SEQUENCE, b"%d" % stored.sequence),
        (names.BRIDGE_REFUSED_CE_ID, stored.ce_id.encode()),
    )
    return Record(
        dead_letter_topic,
        stored.key,
        value,
        stored.received_at_us,
        envelope(shared.ce_source, shared.origin, content_type, shared.kind),
        stored.extra + why + place + cut,
    )


def late(record: Record, *, topic: str, max_bytes: int) -> Record:
    """
    Make the dead letter of what comes after its job's last record: event or preview.

    It has the record's key, value, time and own headers. Of its job it tells nothing:
    that has ended.

    Args:
        record: The record.
        topic: Where dead letters go.
        max_bytes: Of a longer value only the first part is kept.
    """
    shared = record.envelope
    value, content_type, cut = _fit(record.value, shared.content_type, max_bytes)
    why = _why(
        DeadLetterReason.AFTER_TERMINAL,
        names.TRANSFORMATION_STAGE,
        _LATE_CLASS,
        f"{record.status or 'a preview'} came after the last record of its job",
    )
    return Record(
        topic,
        record.key,
        value,
        record.received_at_us,
        envelope(shared.ce_source, shared.origin, content_type, shared.kind),
        record.extra + why + cut,
    )


def _why(
    reason: DeadLetterReason, stage: str, error_class: str, message: str
) -> _Headers:
    return (
        (names.BRIDGE_REASON, reason.encode()),
        (names.ERROR_STAGE, stage.encode()),
        (names.ERROR_CLASS, error_class.encode()),
        (names.ERROR_MESSAGE, message[:_MAX_MESSAGE_CHARACTERS].encode()),
    )


def _fit(
    original: bytes, content_type: str, max_bytes: int
) -> tuple[bytes, str, _Headers]:
    """Give what is kept of the bytes, what they are then, and what tells of it."""
    if len(original) <= max_bytes:
        return original, content_type, ()
    digest = hashlib.sha256(original).hexdigest()
    told = (
        (names.BRIDGE_TRUNCATED, b"true"),
        (names.BRIDGE_ORIGINAL_SIZE, b"%d" % len(original)),
        (names.BRIDGE_SHA256, digest.encode()),
    )
    return original[:max_bytes], names.BYTES_CONTENT, told
