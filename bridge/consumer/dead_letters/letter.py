"""
A dead letter, as its headers tell it.

Owns what is read out of a record of the dead-letter topic, whoever wrote it: this
version of the bridge, another one, or Kafka Connect. Nothing is decided here.
"""

from __future__ import annotations

from datetime import datetime

import msgspec

from bridge.events import header_names as names
from bridge.kafka.reader import ConsumedRecord


__all__ = ["NO_REASON", "Letter", "as_letter", "received_at_us"]

# What is shown for a letter that says no reason: no bridge wrote it. A reason of that
# name can't come about, since the vocabulary's words have no brackets.
NO_REASON = "(none)"

# Text of a header that is looked at: a hostile one must not fill the memory.
_MAX_TEXT = 300


class Letter(msgspec.Struct, frozen=True):
    """
    One dead letter.

    Attributes:
        record: It, as it stands in Kafka.
        reason: The word in `bridge_reason`, or `NO_REASON`.
        message: What was wrong, in a sentence; empty if nobody says.
    """

    record: ConsumedRecord
    reason: str
    message: str

    @property
    def place(self) -> str:
        """Where it stands: topic-partition@offset."""
        record = self.record
        return f"{record.topic}-{record.partition}@{record.offset}"

    @property
    def ce_id(self) -> str | None:
        """Its identity, which no other letter has; None if no bridge wrote it."""
        return self.text(names.CE_ID)

    @property
    def is_truncated(self) -> bool:
        """Whether only the first part of the original is there."""
        return names.BRIDGE_TRUNCATED in self.record.headers

    def text(self, name: str) -> str | None:
        """Give a header as text, None where it is missing or empty."""
        value = self.record.headers.get(name)
        return value[:_MAX_TEXT].decode(errors="backslashreplace") if value else None


def received_at_us(record: ConsumedRecord) -> int:
    """Tell when a bridge read a record's event, in microseconds since the epoch."""
    time = record.headers.get(names.CE_TIME, b"")
    try:
        moment = datetime.fromisoformat(time.decode())
        # Whole seconds first: a double has no microseconds to spare at this size.
        seconds = int(moment.replace(microsecond=0).timestamp())
    except (ValueError, OverflowError):
        return max(record.timestamp_ms, 0) * 1000
    return max(seconds * 1_000_000 + moment.microsecond, 0)


def as_letter(record: ConsumedRecord) -> Letter:
    """Read the headers that say why a record is a dead letter."""
    letter = Letter(record, NO_REASON, "")
    return Letter(
        record,
        letter.text(names.BRIDGE_REASON) or NO_REASON,
        letter.text(names.ERROR_MESSAGE) or letter.text(names.ERROR_CLASS) or "",
    )
