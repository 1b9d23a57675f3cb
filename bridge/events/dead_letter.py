"""
The records of `jobs.dlq`: events that can't be written to their own topic, and why.

Owns their headers and how they are truncated. The intake makes them of events that
don't conform, and the outbox of events after their job's last record. The relay makes
them of records that the broker refuses for good. Each of the three decides and counts.
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
from bridge.events import header_names as names
from bridge.events.record import Envelope, Importance, Kind, Record, StoredRecord
from bridge.metric import counter


__all__ = ["DEAD_LETTERS", "DEFAULT_MAX_BYTES", "invalid", "late", "refused"]

DEAD_LETTERS: Final = counter(
    "bridge_dlq_records",
    "Dead letters of events and of separate previews, by reason.",
    "reason",
)

# A topic takes batches of 1,048,588 bytes by default (`max.message.bytes`); the
# difference is room for key, headers and the batch's own framing.
DEFAULT_MAX_BYTES: Final = 1_000_000

# Longer messages are cut: some brokers and tools limit the headers of a record.
_MAX_MESSAGE_CHARACTERS: Final = 300

# Of these the bytes aren't JSON, or it isn't known whether they are.
_UNREAD_REASONS: Final = frozenset(
    {
        DeadLetterReason.NOT_JSON,
        DeadLetterReason.TOO_LARGE,
        DeadLetterReason.TOO_DEEP,
        DeadLetterReason.INVALID_PREVIEW,
    }
)

_LATE_CLASS: Final = f"{LateEventError.__module__}.{LateEventError.__qualname__}"

_Headers = tuple[tuple[str, bytes], ...]


# Two content types by account and origin. The outbox and the header writer know
# envelopes by identity: they must not get a new one with each record.
@lru_cache(maxsize=1024)
def _envelope(
    ce_source: str, origin: str, content_type: str, kind: str = Kind.EVENT
) -> Envelope:
    return Envelope(ce_source, names.DEAD_LETTER_TYPE, origin, content_type, kind)


def invalid(
    error: InvalidEventError,
    received_at_us: int,
    *,
    topic: str,
    max_bytes: int,
    shared: Envelope,
) -> Record:
    """
    Make the dead letter of an event, or of a preview, that doesn't conform.

    Args:
        error: Why it doesn't, and its bytes as they came.
        received_at_us: When the bridge read it.
        topic: The topic of dead letters.
        max_bytes: Of a longer original only the first part is kept.
        shared: The envelope of conforming events.
    """
    is_read = error.reason not in _UNREAD_REASONS
    content_type = names.JSON_CONTENT if is_read else names.BYTES_CONTENT
    value, content_type, cut = _fit(error.original, content_type, max_bytes)
    error_class = type(error)
    why = _why(
        error.reason,
        names.VALUE_CONVERTER_STAGE,
        f"{error_class.__module__}.{error_class.__qualname__}",
        str(error),
    )
    is_preview = isinstance(error, InvalidPreviewError)
    return Record(
        topic,
        None if error.request_id is None else error.request_id.encode(),
        value,
        received_at_us,
        _envelope(
            shared.ce_source,
            shared.origin,
            content_type,
            Kind.PREVIEW if is_preview else Kind.EVENT,
        ),
        why + cut,
        Importance.PICTURE if is_preview else Importance.EVENT,
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

    It has the record's key, value, time and own headers, and the sequence that the
    record leaves empty in its topic, for readers who find that one missing.

    Args:
        stored: The record.
        topic: The record's topic.
        partition: Its partition.
        dead_letter_topic: The topic of dead letters.
        max_bytes: Of a longer value only the first part is kept.
        message: The broker's error message.
        error_class: The class of the broker's error, with its module.
    """
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
    return _letter(stored, dead_letter_topic, max_bytes, why + place)


def late(record: Record, *, topic: str, max_bytes: int) -> Record:
    """
    Make the dead letter of what comes after its job's last record: event or preview.

    It has the record's key, value, time and own headers, and no status: its job has
    ended.

    Args:
        record: The record.
        topic: The topic of dead letters.
        max_bytes: Of a longer value only the first part is kept.
    """
    why = _why(
        DeadLetterReason.AFTER_TERMINAL,
        names.TRANSFORMATION_STAGE,
        _LATE_CLASS,
        f"{record.status or 'a preview'} came after the last record of its job",
    )
    return _letter(record, topic, max_bytes, why)


def _letter(
    record: Record | StoredRecord, topic: str, max_bytes: int, headers: _Headers
) -> Record:
    """Make the dead letter that replaces a record."""
    shared = record.envelope
    value, content_type, cut = _fit(record.value, shared.content_type, max_bytes)
    return Record(
        topic,
        record.key,
        value,
        record.received_at_us,
        _envelope(shared.ce_source, shared.origin, content_type, shared.kind),
        record.extra + headers + cut,
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
    """Give the bytes that are kept, their content type, and the headers of a cut."""
    if len(original) <= max_bytes:
        return original, content_type, ()
    digest = hashlib.sha256(original).hexdigest()
    headers = (
        (names.BRIDGE_TRUNCATED, b"true"),
        (names.BRIDGE_ORIGINAL_SIZE, b"%d" % len(original)),
        (names.BRIDGE_SHA256, digest.encode()),
    )
    return original[:max_bytes], names.BYTES_CONTENT, headers
